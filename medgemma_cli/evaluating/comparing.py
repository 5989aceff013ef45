"""Two output folders of the same documents: what became better or worse, and in which of them."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from medgemma_cli.errors import UsageError
from medgemma_cli.evaluating import bootstrap
from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.measures import Measure, difference
from medgemma_cli.ledger import slot_of
from medgemma_cli.records import Record

_TOLERANCE = 1e-9  # what the order of a sum may differ by


class Paired(NamedTuple):
    """Records of the same document, in the same order, and how many could not be paired.

    `other` are those of one name whose bytes differ, `alone` those in one folder only.
    """

    before: list[Record]
    after: list[Record]
    other: int
    alone: int


class Group(NamedTuple):
    """The same measures of both sides, over the pairs at these places."""

    before: list[Measure]
    after: list[Measure]
    places: list[int]


class Delta(NamedTuple):
    """A measure before and after; `change` is after less before, with its paired interval."""

    before: float | None
    after: float | None
    change: Figure
    better: str


class Change(NamedTuple):
    """What changed in one document. `deltas` has, by measure, what is not as it was."""

    source: str
    before: str
    after: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    deltas: dict[str, float]


class Gate(NamedTuple):
    """After may be worse than before by this much, in the measure's own unit, and no more."""

    measure: str
    margin: float


def pair(before: Sequence[Record], after: Sequence[Record]) -> Paired:
    """Pair the records by their place in the folder, sorted by it."""
    first = {slot_of(record.source, record.summary): record for record in before}
    second = {slot_of(record.source, record.summary): record for record in after}
    both = sorted(first.keys() & second.keys())
    # A file that could not be read has no hash; then the name must do.
    same = [
        name
        for name in both
        if None in (first[name].sha256, second[name].sha256)
        or first[name].sha256 == second[name].sha256
    ]
    alone = len(first.keys() ^ second.keys())
    return Paired(
        [first[name] for name in same],
        [second[name] for name in same],
        len(both) - len(same),
        alone,
    )


def deltas(group: Group, seed: int) -> list[Delta]:
    """Each measure's difference over the same documents and the same resamples."""
    size = len(group.places)
    old = bootstrap.values(group.before, size)
    new = bootstrap.values(group.after, size)
    both = zip(group.before, group.after, strict=True)
    moved = [difference(one, other, size) for one, other in both]
    found = bootstrap.figures(moved, size, seed)
    rows = zip(old, new, found, group.after, strict=True)
    return [Delta(was, now, change, measure.better) for was, now, change, measure in rows]


def changes(paired: Paired, groups: Sequence[Group]) -> list[Change]:
    """The documents in which anything changed, in the order of the records."""
    moved: dict[int, dict[str, float]] = defaultdict(dict)
    for group in groups:
        for old, new in zip(group.before, group.after, strict=True):
            for place, was, now in zip(group.places, old.each, new.each, strict=False):
                if was is not None and now is not None and abs(now - was) > _TOLERANCE:
                    moved[place][new.name] = round(now - was, 6)
    found = []
    for place, (one, other) in enumerate(zip(paired.before, paired.after, strict=True)):
        had, has = {flag.rule for flag in one.flags}, {flag.rule for flag in other.flags}
        if place in moved or had != has or one.status != other.status:
            gained, lost = tuple(sorted(has - had)), tuple(sorted(had - has))
            status = one.status, other.status
            found.append(Change(other.source, *status, gained, lost, moved[place]))
    return found


def gate(text: str, names: Collection[str]) -> Gate:
    """`METRIC[:MARGIN]` as it is typed; without a margin it is 0.

    Raises:
        UsageError: 2, no such measure, with the list; or the margin is no number from 0.
    """
    name, _, written = text.partition(":")
    if name not in names:
        raise UsageError(
            "--fail-if-worse names no measure that there is.", f"There are: {', '.join(names)}."
        )
    try:
        margin = float(written or 0)
    except ValueError:
        margin = math.nan
    if not 0 <= margin < math.inf:
        raise UsageError(
            "The margin of --fail-if-worse is no number from 0.", "Example: rougeL:0.02."
        )
    return Gate(name, margin)


def is_worse(rule: Gate, delta: Delta | None) -> bool:
    """Whether the difference itself, not its interval's bound, is worse than the margin allows.

    The documents are the same and the difference is there, whether or not it is chance: a gate
    that waits for proof would pass a few bad summaries among few. What cannot be told is worse.
    """
    change = delta.change.value if delta is not None else None
    if delta is None or change is None:
        return True
    loss = -change if delta.better == "higher" else change
    return loss > rule.margin + _TOLERANCE
