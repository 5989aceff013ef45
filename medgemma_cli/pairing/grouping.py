"""Sources → pairs: of each group, in the order of time, every document with the one before it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import NamedTuple, Protocol

from medgemma_cli.pairing.moments import Moment
from medgemma_cli.pairing.rules import Rule
from medgemma_cli.records import Source

ALONE = "not paired (alone in its group)"
UNMATCHED = "not paired (--pair-by finds nothing in it)"
_SUFFIX = ".compared"


class Sources(Protocol):
    """What `Discovery` is: sources, and how many of what was passed over."""

    @property
    def skipped(self) -> Counter[str]:
        """How many of what, by reason."""

    def __iter__(self) -> Iterator[Source]:
        """The sources, in a stable order."""


class _Placed(NamedTuple):
    """A source with its place in the stream, and when it is from, if that is clear."""

    at: int
    source: Source
    when: Moment | None

    @property
    def start(self) -> float:
        """When it begins."""
        return self.when.start if self.when else 0.0

    @property
    def end(self) -> float:
        """When it is over."""
        return self.when.end if self.when else 0.0


class Pairs:
    """Iterate the pairs of a stream of sources, in the order of their current documents.

    A pair is its current source with the earlier one as `prior`. Every other document is told of:
    what cannot be ordered comes out with an error (``pair_date``, ``pair_order``), as does what
    had one before; what is alone, and what the rule finds nothing in, is counted in `skipped` and
    named in `alone`. All are found at the first iteration and kept: a group is whole at the end.

    Args:
        limit: stop after so many.
    """

    def __init__(self, sources: Sources, rule: Rule, limit: int | None = None) -> None:
        self._sources = sources
        self._rule = rule
        self._limit = limit
        self._found: list[Source] | None = None
        self._alone: list[tuple[str, Source]] = []

    @property
    def skipped(self) -> Counter[str]:
        """How many of what was passed over, by reason."""
        return self._sources.skipped + Counter(why for why, _ in self.alone)

    @property
    def alone(self) -> list[tuple[str, Source]]:
        """What is not paired, with the reason, in the order of the stream."""
        self._find()
        return self._alone

    def __iter__(self) -> Iterator[Source]:
        return islice(self._find(), self._limit)

    def _find(self) -> list[Source]:
        if self._found is None:
            made: dict[int, Source] = {}
            alone: dict[int, tuple[str, Source]] = {}
            for group in self._groups(made, alone).values():
                if len(group) == 1:
                    at, source, _ = group[0]
                    alone[at] = ALONE, source
                else:
                    self._sort_out(group, made, alone)
            self._alone = [alone[at] for at in sorted(alone)]
            self._found = [made[at] for at in sorted(made)]
        return self._found

    def _groups(
        self, made: dict[int, Source], alone: dict[int, tuple[str, Source]]
    ) -> dict[str, list[_Placed]]:
        """The sources by group; what is in none goes to one of the others."""
        groups: dict[str, list[_Placed]] = defaultdict(list)
        for at, source in enumerate(self._sources):
            try:
                marks = None if source.error else self._rule.marks(source)
            except OSError:  # whatever it is, reading it will say
                made[at] = _named(source)
                continue
            if source.error:
                made[at] = _named(source)
            elif marks is None:
                alone[at] = UNMATCHED, source
            else:
                groups[marks.group].append(_Placed(at, source, marks.when))
        return groups

    def _sort_out(
        self,
        group: list[_Placed],
        made: dict[int, Source],
        alone: dict[int, tuple[str, Source]],
    ) -> None:
        """Pairs of a group, and errors where there can be none."""
        kinds = {one.when.kind for one in group if one.when is not None}
        clear = [one for one in group if one.when is not None and len(kinds) == 1]
        known = {one.at for one in clear}
        made.update(
            (one.at, _named(one.source, "pair_date")) for one in group if one.at not in known
        )
        steps = _steps(clear)
        if len(clear) == 1:
            alone[clear[0].at] = ALONE, clear[0].source
        elif steps and len(steps[0]) > 1:
            made.update((one.at, _named(one.source, "pair_order")) for one in steps[0])
        for before, now in pairwise(steps):
            if len(before) == len(now) == 1:
                made[now[0].at] = self._pair(before[0].source, now[0].source)
            else:
                made.update((one.at, _named(one.source, "pair_order")) for one in now)

    def _pair(self, prior: Source, current: Source) -> Source:
        changes = {"prior": prior, "masked": self._rule.masks}
        return _named(current).model_copy(update=changes)


def _steps(group: list[_Placed]) -> list[list[_Placed]]:
    """In the order of time; what cannot be told apart in it is one step."""
    steps: list[list[_Placed]] = []
    end = 0.0
    for one in sorted(group, key=lambda one: (one.start, one.at)):
        if steps and one.start < end:
            steps[-1].append(one)
        else:
            steps.append([one])
        end = max(end, one.end)
    return steps


def _named(source: Source, error: str | None = None) -> Source:
    """With a summary of its own, beside the one that a run without pairs would write."""
    name = f"{source.name or source.relative}{_SUFFIX}"
    return source.model_copy(update={"name": name, "error": error or source.error})
