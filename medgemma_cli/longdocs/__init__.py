"""Documents longer than the window: one in, prompts of its parts out, one answer back.

Stands between the pipeline and an engine, and looks like one; see docs/long.md.
"""

from medgemma_cli.longdocs.engine import MERGE, LongDocuments
from medgemma_cli.longdocs.keys import parts_of, rule_of

__all__ = ["MERGE", "LongDocuments", "parts_of", "rule_of"]
