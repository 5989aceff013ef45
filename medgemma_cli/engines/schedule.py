"""Which works go to the device together. Bounded: few of a run's documents are held at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

from medgemma_cli.engines.work import Line, Work

# Batches' worth of works that are made ready ahead, so that there are some of like length.
_LOOK_AHEAD = 4
_LEAST_AHEAD = 8
_PICTURES = 64


@dataclass(frozen=True)
class Capacity:
    """What a device takes at once.

    Attributes:
        rows: lines.
        tokens: lines times the longest of them, prompt and answer: what their caches hold.
        shown: tokens of prompts in one pass, padding among them.
    """

    rows: int
    tokens: int
    shown: int


class Waiting:
    """Works that are ready, in the order in which they came."""

    def __init__(self) -> None:
        self._works: list[Work] = []

    def __len__(self) -> int:
        return len(self._works)

    def full(self, rows: int) -> bool:
        """Whether enough are held to choose from."""
        if len(self._works) >= max(_LOOK_AHEAD * rows, _LEAST_AHEAD):
            return True
        return sum(len(work.pictures) for work in self._works) >= _PICTURES

    def add(self, work: Work) -> None:
        """Behind the others."""
        self._works.append(work)

    def put_back(self, works: list[Work]) -> None:
        """Before the others: they were taken once."""
        self._works[:0] = works

    def clear(self) -> None:
        """Forget them: nobody wants their answers any more."""
        self._works.clear()

    def take(self, rows: int, tokens: int, lines: list[Line]) -> list[Work]:
        """The one that has waited longest, and those of nearest length that fit beside it.

        Args:
            rows, tokens: what the device takes, with the lines that it has.
        """
        if not self._works or len(lines) >= rows:
            return []
        first = self._works[0]
        longest = max((line.work.room for line in lines), default=0)
        taken: list[Work] = []
        for work in sorted(self._works, key=lambda work: abs(work.room - first.room)):
            count = len(lines) + len(taken) + 1
            # Alone it may be over the limit: the device says whether it can be done.
            if count > 1 and (count > rows or count * max(longest, work.room) > tokens):
                break
            taken.append(work)
            longest = max(longest, work.room)
        chosen = {id(work) for work in taken}
        self._works = [work for work in self._works if id(work) not in chosen]
        return taken


def slices(works: list[Work], tokens: int) -> Iterator[list[Work]]:
    """Works that are shown in one pass: of one kind and beginning, and of like length.

    Args:
        tokens: of a pass, with what fills the shorter ones up.
    """
    kinds: dict[tuple[object, ...], list[Work]] = {}
    for work in works:
        head = tuple(work.encoded.ids[: work.encoded.head])
        kinds.setdefault((head, len(work.pictures)), []).append(work)
    for alike in kinds.values():
        alike.sort(key=lambda work: work.length)
        part: list[Work] = []
        for work in alike:
            shown = work.length - work.encoded.head
            if part and (len(part) + 1) * shown > tokens:
                yield part
                part = []
            part.append(work)
        yield part
