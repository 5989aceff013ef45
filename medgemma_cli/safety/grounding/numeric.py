"""Rule `number_mismatch`: each number of the output against the numbers of the source.

Covers value, unit and what the number belongs to; a dose's total a day; ranges; rounding of
measurements; dates. A number whose head is known must stand with that head in the source, so
that swapped numbers are caught; without a known head, the words around both decide. Does not
cover numbers that follow from the source by other arithmetic: they come out as not in the source.
"""

from collections.abc import Iterator
from typing import NamedTuple

from medgemma_cli.safety.grounding import doses, drugs
from medgemma_cli.safety.grounding.analysis import Analysis, likeness
from medgemma_cli.safety.grounding.equality import Terms, group, same
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.heads import Bound, bind
from medgemma_cli.safety.grounding.words import listed

_RULE = "number_mismatch"
_COMPARISONS = 1_000_000
_MARGIN = 0.2
_ALIKE = 0.45
_ROUGH = listed("about approximately approx around roughly nearly almost ~ circa ca some")


class _Candidate(NamedTuple):
    bound: Bound
    how: str
    headed: bool
    alike: float


def check(source: Analysis, output: Analysis) -> Iterator[Fact]:
    """A fact for each number of the output."""
    pool = bind(source)
    most = _COMPARISONS // max(len(pool), 1)
    for i, bound in enumerate(bind(output)):
        if i < most:
            yield _fact(source, output, bound, pool)
        else:
            span = output.span(bound.quantity.first, bound.quantity.last)
            yield Fact("number", "not checked", span, reason="There are too many numbers.")


def _fact(source: Analysis, output: Analysis, bound: Bound, pool: list[Bound]) -> Fact:
    quantity = bound.quantity
    near = output.around(quantity.first, quantity.last)
    equal, unequal = _candidates(source, output, bound, pool, near)
    span = output.span(quantity.first, quantity.last)
    value = output.value(quantity.first, quantity.last)

    def made(verdict: str, reason: str, evidence: Bound | None = None) -> Fact:
        where = source.span(evidence.quantity.first, evidence.quantity.last) if evidence else None
        rule = _RULE if verdict == "contradicted" else ""
        return Fact("number", verdict, span, value, where, reason, rule)  # type: ignore[arg-type]

    if equal:
        return made(*_weigh(bound, equal, unequal))
    if doses.is_total(source, output, bound):
        return made("supported", "It is the total of the doses in the source.")
    rival = max(unequal, key=lambda c: (c.headed, c.alike), default=None)
    if quantity.vague or (quantity.weak and not (rival and (rival.headed or rival.alike >= 0.6))):
        return made("not checked", "The source gives no number to compare a vague one with.")
    if _inside(bound, unequal):
        return made("not checked", "The source has a range that includes this number.")
    if rival and (rival.headed or rival.alike >= _ALIKE):
        return made("contradicted", _why(bound, rival), rival.bound)
    if quantity.label and not rival:
        return made("not checked", "The source names no type, stage or level to compare with.")
    if quantity.readings[0].values == (1.0, 1.0) and quantity.unit is None and not bound.head:
        return made("not checked", "A single one, belonging to nothing the rules know.")
    if _is_word(output, bound) and not bound.head:
        return made("not checked", "A number in words that belongs to nothing the rules know.")
    return made("contradicted", "This number does not stand in the source.", rival and rival.bound)


def _candidates(
    source: Analysis, output: Analysis, bound: Bound, pool: list[Bound], near: dict[str, float]
) -> tuple[list[_Candidate], list[_Candidate]]:
    """The source's numbers that say the same, and those of the same sort that do not."""
    groups = {group(reading, bound.quantity.label) for reading in bound.quantity.readings}
    terms = _terms(output, bound)
    equal: list[_Candidate] = []
    unequal: list[_Candidate] = []
    for other in pool:
        how = same(bound.quantity, other.quantity, terms)
        foreign = other.category == "analyte" and other.head != bound.head
        if how == "bare" and foreign and bound.quantity.unit is not None:
            how = ""  # the number of something else
        if how and (_opposed(bound, other) or (how == "part" and not _fits(bound, other))):
            how = ""
        if not how and not groups & {
            group(r, other.quantity.label) for r in other.quantity.readings
        }:
            bare = {group(bound.quantity.readings[0]), group(other.quantity.readings[0])}
            if "bare" not in bare or "time" in bare or not _same_head(bound, other):
                continue
        headed = _same_head(bound, other)
        around = source.around(other.quantity.first, other.quantity.last)
        if headed and bound.head in near and bound.head not in around:
            around = {**around, bound.head: near[bound.head]}  # a head such as the T of "T 38.4"
        alike = likeness(near, around)
        if bound.role and other.role:
            alike += 0.4 if bound.role == other.role else -0.4
        candidate = _Candidate(other, how, headed, alike)
        (equal if how else unequal).append(candidate)
    return equal, unequal


def _terms(output: Analysis, bound: Bound) -> Terms:
    first = bound.quantity.first
    rough = any(output.tokens[at].text in _ROUGH for at in range(max(0, first - 2), first))
    analyte = bound.head if bound.category == "analyte" else ""
    return Terms(analyte, exact=bound.category == "drug", rough=rough)


def _opposed(bound: Bound, other: Bound) -> bool:
    """Bounds of opposite direction, or the two sides of a change exchanged."""
    if bound.sign and other.sign and bound.sign != other.sign:
        return True
    if bound.side and other.side and bound.side != other.side and bound.head == other.head:
        return True
    parts = {"morning", "noon", "night"}
    if bound.role in parts and other.role in parts:
        return bound.role != other.role and bound.quantity.kind == "amount"
    return {bound.role, other.role} == {"from", "to"}


def _fits(bound: Bound, other: Bound) -> bool:
    """Whether one number of a pair is on its own side: systolic first, diastolic second."""
    if bound.head not in ("systolic", "diastolic"):
        return True
    pair = next(r.values for r in other.quantity.readings if len(r.values) == 2)
    return bound.quantity.readings[0].values[0] == pair[bound.head == "diastolic"]


def _same_head(bound: Bound, other: Bound) -> bool:
    if not bound.head or not other.head:
        return False
    if bound.category == other.category == "drug":
        return drugs.same(bound.head, other.head)
    heads = {bound.head, other.head}
    return bound.head == other.head or heads <= {"blood_pressure", "systolic", "diastolic"}


def _weigh(
    bound: Bound, equal: list[_Candidate], unequal: list[_Candidate]
) -> tuple[str, str, Bound]:
    """Equal numbers are in the source: is one of them this one?"""
    best = max(equal, key=lambda c: (c.headed, c.alike))
    rival = max(unequal, key=lambda c: (c.headed, c.alike), default=None)
    closest = max(equal, key=lambda c: c.alike)
    if bound.quantity.vague:
        return "not checked", "The number is vague.", best.bound
    aged = rival is not None and bound.quantity.kind == rival.bound.quantity.kind == "age"
    if aged and all(_is_bare(c.bound) for c in equal):
        return "not checked", "The source has this number, but not as an age.", best.bound
    if bound.role == best.bound.role == "x":
        return "supported", "", best.bound
    if bound.head and not best.headed:
        if rival and rival.headed and bound.quantity.kind == "pair" and not best.bound.head:
            return "not checked", "The source has this value, and another one as well.", best.bound
        foreign = best.bound.head and best.bound.category == bound.category
        if not (rival and rival.headed) and foreign and closest.alike < _ALIKE:
            why = "In the source this number belongs to something else."
            return "contradicted", why, best.bound
    if rival and _displaces(bound, rival, best, closest):
        return "contradicted", _why(bound, rival), rival.bound
    if best.how == "bare" and bound.quantity.unit is not None:
        return "not checked", "The source gives this number without a unit.", best.bound
    return "supported", "", best.bound


def _is_bare(bound: Bound) -> bool:
    return bound.quantity.kind == "amount" and bound.quantity.unit is None


def _displaces(bound: Bound, rival: _Candidate, best: _Candidate, closest: _Candidate) -> bool:
    """Whether another number of the source stands in this one's place."""
    moment = rival.headed and bound.role in ("now", "discharge", "admission")
    if moment and best.bound.role != bound.role == rival.bound.role:
        return True
    if not best.headed:
        nearer = rival.alike - closest.alike > _MARGIN and rival.alike >= _ALIKE
        return nearer or bool(bound.head and rival.headed)
    return rival.headed and rival.alike - closest.alike > 0.3 and rival.alike > 0.6


def _inside(bound: Bound, unequal: list[_Candidate]) -> bool:
    """Whether a single number lies in a range of the source that is its counterpart."""
    reading = bound.quantity.readings[0]
    if reading.kind not in ("amount", "frequency") or reading.values[0] != reading.values[-1]:
        return False
    for candidate in unequal:
        other = candidate.bound.quantity.readings[0]
        if (
            other.kind != reading.kind
            or other.unit != reading.unit
            or other.values[0] == other.values[-1]
        ):
            continue
        strong = candidate.headed or candidate.alike >= _ALIKE
        if strong and other.values[0] <= reading.values[0] <= other.values[-1]:
            return True
    return False


def _is_word(output: Analysis, bound: Bound) -> bool:
    quantity = bound.quantity
    return (
        quantity.unit is None
        and quantity.kind == "amount"
        and output.tokens[quantity.first].text[0].isalpha()
    )


def _why(bound: Bound, rival: _Candidate) -> str:
    kinds = {
        "date": "date",
        "frequency": "frequency",
        "age": "age",
        "pair": "value",
        "label": "type, stage or level",
    }
    what = kinds.get(bound.quantity.kind, "value or unit")
    if rival.headed:
        return f"The source gives another {what} for {bound.head.replace('_', ' ')}."
    return f"The source gives another {what} in the matching place."
