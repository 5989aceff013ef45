"""Turn a folder of clinical documents into checked summaries with MedGemma, on your own machine."""

__version__ = "0.1.0"
