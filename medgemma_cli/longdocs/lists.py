"""The lists of several answers → one, repeats taken out, within the template's bound. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medgemma_cli.longdocs.answers import Answer
from medgemma_cli.records import Place


class Item(NamedTuple):
    """One item of a list: in which answer it was and at which rank there, and its quotes."""

    value: Any
    answer: int
    rank: int
    where: str
    places: list[Place]

    def moved(self, where: str) -> Iterator[Place]:
        """Its quotes, of an item that stands elsewhere."""
        for place in self.places:
            yield place.model_copy(update={"where": where + place.where.removeprefix(self.where)})


def joined(name: str, answers: Sequence[Answer], most: int) -> tuple[list[Item], list[Item]]:
    """The lists one after the other, and the items that there was no room for."""
    items = list(_distinct(name, answers))
    kept = _fair(items, most)
    places = {(item.answer, item.rank) for item in kept}
    return kept, [item for item in items if (item.answer, item.rank) not in places]


def _distinct(name: str, answers: Sequence[Answer]) -> Iterator[Item]:
    """Without what says the same, or rests on the very words of an earlier part's item.

    Parts overlap: what both tell of the same place is taken from the earlier one.
    """
    marks: set[str] = set()
    earlier: set[tuple[int, int]] = set()
    for number, answer in enumerate(answers):
        here: set[tuple[int, int]] = set()
        quotes = _by_item(name, answer)
        for rank, value in enumerate(answer.fields[name]):
            places = quotes[rank]
            stands = {(place.start, place.end) for place in places}
            here |= stands
            mark = mark_of(value)
            if mark in marks or (stands and stands <= earlier):
                continue
            marks.add(mark)
            yield Item(value, number, rank, f"{name}[{rank}]", places)
        earlier |= here


def _by_item(name: str, answer: Answer) -> defaultdict[int, list[Place]]:
    found: defaultdict[int, list[Place]] = defaultdict(list)
    for place in answer.places:
        if place.where.startswith(f"{name}["):
            index = int(place.where[len(name) + 1 :].partition("]")[0])
            found[index].append(place)
    return found


def mark_of(value: Any) -> str:
    """Two findings are one if they quote the same, as in `decoding`; two texts but for case."""
    if isinstance(value, dict) and {"quote", "statement"} == set(value):
        value = value["quote"]
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    return json.dumps(value)


def _fair(items: list[Item], most: int) -> list[Item]:
    """As many as there may be: every part's first, then every part's second; in order again.

    Where not all of a rank fit, those taken are spread evenly over the document.
    """
    ranks: defaultdict[int, list[Item]] = defaultdict(list)
    for item in items:
        ranks[item.rank].append(item)
    kept: list[Item] = []
    for rank in sorted(ranks):
        row, free = ranks[rank], most - len(kept)
        kept += row if len(row) <= free else [row[i * len(row) // free] for i in range(free)]
        if len(kept) == most:
            break
    return sorted(kept, key=lambda item: (item.answer, item.rank))
