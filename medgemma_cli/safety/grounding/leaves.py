"""An output's texts as one, with the way back to each: a plain text, or the fields of a record.

The fields of one object in a list ("name", "dose") are read as one line, so that a dose meets its
drug. Fields that hold quotes are source text and are left out.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

_QUOTES = frozenset({"quote", "quotes", "prior_quote", "evidence"})


class Leaf(NamedTuple):
    """A piece of text: its path in the output, its place in the joined text."""

    where: str
    start: int
    end: int


class Joined(NamedTuple):
    """The joined text and its leaves."""

    text: str
    leaves: tuple[Leaf, ...]

    def place(self, span: tuple[int, int]) -> tuple[str, tuple[int, int]]:
        """The path of a span, and the span inside that leaf."""
        if not self.leaves:
            return "output", span
        at = bisect_right([leaf.start for leaf in self.leaves], span[0]) - 1
        leaf = self.leaves[max(at, 0)]
        size = leaf.end - leaf.start
        return leaf.where, (min(span[0] - leaf.start, size), min(span[1] - leaf.start, size))


def join(output: str | Mapping[str, Any], quotes: Collection[str] = _QUOTES) -> Joined:
    """The text of an output; `quotes` names the fields that are source text."""
    if isinstance(output, str):
        return Joined(output, ())
    text, leaves = "", []
    for where, value, apart in _walk(output, "", quotes):
        text += ("\n\n" if apart else " ") if text else ""
        leaves.append(Leaf(where, len(text), len(text) + len(value)))
        text += value
    return Joined(text, tuple(leaves))


def _walk(
    value: Any, where: str, quotes: Collection[str], *, row: bool = False
) -> Iterator[tuple[str, str, bool]]:
    """Each text with its path, and whether it stands apart from the one before."""
    if isinstance(value, str):
        if value.strip():
            yield where, value, not row
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        yield where, f"{value:g}" if isinstance(value, float) else str(value), not row
    elif isinstance(value, Mapping):
        flat = row and not any(isinstance(v, Mapping | list) for v in value.values())
        first = True
        for name, item in value.items():
            if name in quotes:
                continue
            for path, text, apart in _walk(item, f"{where}.{name}".lstrip("."), quotes):
                yield path, text, first or (apart and not flat)
                first = False
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _walk(item, f"{where}[{i}]", quotes, row=isinstance(item, Mapping))
