"""What the figures do not tell, in words that stand beside them wherever they are shown."""

from collections.abc import Iterable

from medgemma_cli.evaluating.bootstrap import Figure

OVERLAP = (
    "ROUGE, BLEU, chrF, token F1 and exact match count words in common with a reference. That is "
    "not correctness: one changed dose or one lost 'no' costs next to nothing, and a right summary "
    "in other words scores low.",
    "Agreement of ROUGE-L with clinicians' judgement is weak: ICC 0.36 (MedHELM, "
    "arXiv:2505.23802). Compare systems on the same documents with it; never call a summary good "
    "by it.",
    "A document without an output counts as an empty text.",
)
CHECKS = (
    "Flags, quotes, omissions and facts are what the rules of `medgemma check` could tell. A quote "
    "that stands does not make its statement true, and no flag is not a verified summary.",
)
INTERVALS = (
    "Intervals are percentile bootstraps (95 %, 1,000 resamples of these documents). They tell "
    "nothing of documents of another kind."
)
_NO_WIDTH = (
    "An interval without width means that these documents were all alike, not that there is no "
    "doubt: where none of n had something, up to about 3 in n others may."
)
ANSWERS = (
    "Accuracy on examination questions is not clinical competence, and published questions may "
    "have been in the training data. These prompts are this program's own: figures published "
    "with other prompts differ.",
    "A question that got no answer counts as wrong.",
)
SCREENING = (
    "These figures hold for the mixture of documents they were taken from: how often yes is true "
    "elsewhere changes what a positive answer is worth. A calibration error is biased upwards "
    "where bins hold few items.",
)
FEW = "Under {fewest} items no value and no verdict: n and the intervals alone."
DIFFERENCES = (
    "A difference is B less A, over the documents that both folders have; its interval comes of "
    "the same resamples of both. Of many measures some differ by chance.",
)


def intervals(figures: Iterable[Figure]) -> tuple[str, ...]:
    """What to say of these figures' intervals."""
    flat = any(figure.low is not None and figure.low == figure.high for figure in figures)
    return (INTERVALS, _NO_WIDTH) if flat else (INTERVALS,)
