"""Totals of doses: `5 mg twice daily` is `10 mg daily`, two tablets of 500 mg are 1 g.

A total is taken for one only where the output says "daily", "a day" or "total"; a changed dose
with its frequency kept is no total.
"""

from medgemma_cli.safety.grounding import drugs
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.equality import group
from medgemma_cli.safety.grounding.heads import Bound, beside, bind
from medgemma_cli.safety.grounding.words import listed

_SAYS_TOTAL = listed("total daily day combined altogether overall")


def _near(text: Analysis, bound: Bound) -> list[Bound]:
    """The numbers of the same head in the same sentence."""
    return [
        other
        for other in beside(text, bound)
        if other.category == "drug" and drugs.same(other.head, bound.head)
    ]


def _mass(bound: Bound) -> float:
    reading = bound.quantity.readings[0]
    if reading.unit is None or group(reading) not in ("dose", "volume"):
        return 0.0
    return reading.values[0] * reading.unit.factor


def _rates(found: list[Bound]) -> list[float]:
    return [b.quantity.readings[0].values[0] for b in found if b.quantity.kind == "frequency"]


def _counts(found: list[Bound]) -> list[float]:
    forms = [b.quantity.readings[0] for b in found if group(b.quantity.readings[0]) == "form"]
    return [reading.values[0] for reading in forms]


def is_total(source: Analysis, output: Analysis, bound: Bound) -> bool:
    """Whether a dose, or the "daily" behind one, is the source's total of the same drug."""
    if bound.category != "drug":
        return False
    near = _near(output, bound)
    if bound.quantity.kind == "frequency":
        if not bound.quantity.weak:
            return False
        return any(is_total(source, output, other) for other in near if _mass(other))
    wanted = _mass(bound)
    if not wanted:
        return False
    for other in bind(source):
        if (
            other.category == "drug"
            and drugs.same(other.head, bound.head)
            and (dose := _mass(other))
        ):
            near_by = _near(source, other)
            products = [dose * count for count in _counts(near_by)]
            if any(_close(wanted, product) for product in products):
                return True
            at_once = [dose, *products]
            totals = [once * rate for once in at_once for rate in _rates(near_by)]
            doses = [_mass(b) for b in near_by if _mass(b)]
            totals += [sum(doses)] if len(doses) > 1 else []
            if _says_total(output, bound) and any(_close(wanted, total) for total in totals):
                return True
    return False


def _says_total(output: Analysis, bound: Bound) -> bool:
    """Whether the output speaks of a day's total, and of no other frequency."""
    sentence = output.sentences[output.sentence_of[bound.quantity.first]]
    others = [
        b for b in _near(output, bound) if b.quantity.kind == "frequency" and not b.quantity.weak
    ]
    said = {output.tokens[at].text for at in range(sentence.first, sentence.last)}
    return bool(said & _SAYS_TOTAL) and not others


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(one, other)
