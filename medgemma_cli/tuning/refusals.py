"""Why lines are no examples: each by its number and a reason that quotes nothing of it."""

from collections.abc import Sequence
from typing import NamedTuple

from medgemma_cli.errors import DocumentError, UsageError

NEXT = "Correct the lines; docs/tuning.md has all."
_SHOWN = 10


class BadExample(Exception):
    """An example that cannot be learned from; the reason is in words of our own."""


class Bad(NamedTuple):
    """A line that is no example, and why."""

    number: int
    why: str


def reason(error: DocumentError) -> str:
    """A fault of a document, as the reason why a line is no example."""
    return error.fault.hint.rstrip(".")


def refusal(bad: Sequence[Bad], lines: int, what: str, next_step: str = NEXT) -> UsageError:
    """What is said of lines that cannot be used: the first ten by number and reason.

    Args:
        lines: how many there are.
        what: which file, in words.
    """
    told = [f"Line {number}: {why}." for number, why in bad[:_SHOWN]]
    more = [f"… and {len(bad) - _SHOWN} more."] if len(bad) > _SHOWN else []
    head = f"{what}: {len(bad)} of {lines} examples cannot be used."
    return UsageError("\n  ".join([head, *told, *more]), next_step)
