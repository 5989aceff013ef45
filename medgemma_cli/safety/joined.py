"""A long document's joined answer against what its parts said.

Covers items that the parts gave and the whole has no room for, and answers that could not be
joined by the model. Does not know whether what is left out matters: it says what is missing, by
its words, and a list that promises to name everything must not miss any.
"""

import re
from collections.abc import Iterator
from typing import Any

from medgemma_cli import contracts
from medgemma_cli.records import Contract, Flag, Generation, LeftOut

MERGE_FAILED = "merge_failed"
"""A note: ``merge_failed:CODE``, answers stand side by side that the model was to join."""

_WORD = re.compile(r"\w+(?:[.,]\d+)*")


def check_joined(
    contract: Contract, generation: Generation, fields: dict[str, Any]
) -> Iterator[Flag]:
    """What the parts said and the whole does not.

    An item is told after all if every word of it stands in one text of the joined answer. What is
    left out of a list that selects (`[finding]`, without bounds: the five that matter) is a note,
    since a short document's answer leaves things out as well; of any other it is for review.
    """
    texts = [_words(text) for value in fields.values() for text in _texts(value)]
    for left in generation.left_out:
        untold = sum(not any(_words(item) <= text for text in texts) for item in left.said)
        if untold:
            yield _left_out(contract, left, untold)
    if any(note.startswith(f"{MERGE_FAILED}:") for note in generation.degraded):
        why = "The answers about its parts could not be joined by the model; they stand together."
        yield Flag(rule=MERGE_FAILED, severity="review", where="output", why=why)


def _left_out(contract: Contract, left: LeftOut, untold: int) -> Flag:
    selects = left.where not in contract.covers and contracts.selects(contract.block, left.where)
    why = (
        f"The parts of the document gave {untold} more than there is room for, told nowhere else "
        "in the answer; the record has them under parts."
    )
    missed = Flag(rule="left_out", severity="review", where=left.where, value=str(untold), why=why)
    note = {"rule": "not_selected", "severity": "note"}
    return missed.model_copy(update=note) if selects else missed


def _texts(value: Any) -> Iterator[str]:
    """Every text of an answer; a row of a table, or a finding, is one."""
    if isinstance(value, dict):
        plain = [item for item in value.values() if isinstance(item, str)]
        yield " ".join(plain)
        for item in value.values():
            yield from _texts(item) if isinstance(item, dict | list) else (str(item),)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield str(value)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))
