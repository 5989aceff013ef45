"""What an engine does with long documents, asked by those who know engines only.

A document that fits is answered the same whatever is done with longer ones, so its key says
nothing of that; the key of a longer one does.
"""

from typing import Any

from medgemma_cli.engines.base import Engine
from medgemma_cli.longdocs.engine import LongDocuments
from medgemma_cli.longdocs.splitting import Span
from medgemma_cli.records import Prompt


def rule_of(engine: Engine) -> dict[str, Any] | None:
    """What is in the keys of long documents; None where they are refused, as `too_long`."""
    return engine.rule if isinstance(engine, LongDocuments) else None


def parts_of(engine: Engine, prompt: Prompt) -> list[Span]:
    """The parts of a document that an engine would be shown; none where it is shown as it is."""
    return engine.parts(prompt) if isinstance(engine, LongDocuments) else []
