"""One prompt on the way to a long document's answer."""

from typing import NamedTuple

from medgemma_cli.records import Prompt


class Step(NamedTuple):
    """About a part, or joining answers.

    Attributes:
        text: the part's; empty where answers are joined.
        start: where the part begins.
        at: which part, or which group of answers.
        joins: whether answers are joined.
    """

    prompt: Prompt
    text: str = ""
    start: int = 0
    at: int = 0
    joins: bool = False
