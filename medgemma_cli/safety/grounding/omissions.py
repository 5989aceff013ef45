"""What a summary leaves out: medications, critical results and follow-up of the source.

A list for the reader, no flags: a summary may leave things out for good reasons. Covers drugs that
the source does not deny, stop or ascribe to a relative; results beyond the limits of
`analytes.toml`; and sentences that speak of follow-up with a time, when the output has neither.
"""

from collections.abc import Iterator

from medgemma_cli.safety.grounding import allergies, context, drugs
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.equality import convert
from medgemma_cli.safety.grounding.heads import Bound, bind
from medgemma_cli.safety.grounding.lexicon import toml
from medgemma_cli.safety.grounding.units import Unit, table
from medgemma_cli.safety.grounding.words import listed

_FOLLOW = listed("follow followup return recheck reassess")
_OFF = context.NEGATED | context.FAMILY | context.HYPOTHETICAL | context.ASKED | context.HISTORICAL


def find(source: Analysis, output: Analysis) -> tuple[str, ...]:
    """The omissions, each as `what: which`, in the source's order."""
    return tuple(
        dict.fromkeys(
            [*_drugs(source, output), *_results(source, output), *_visits(source, output)]
        )
    )


def _drugs(source: Analysis, output: Analysis) -> Iterator[str]:
    named = {part for term in drugs.mentions(output) for part in drugs.parts(term.id)}
    for term in output.terms_of("class"):
        named |= drugs.classes()[term.id]
    allergens = {at for a in allergies.read(source).found for at in range(a.first, a.last)}
    for term in drugs.mentions(source):
        if term.first in allergens or source.bits[term.first] & _OFF:
            continue
        if not drugs.parts(term.id) & named:
            yield f"medication: {term.id.replace('+', '/')}"


def _results(source: Analysis, output: Analysis) -> Iterator[str]:
    told = {bound.head for bound in bind(output)}
    for bound in bind(source):
        if bound.category == "analyte" and bound.head not in told and _is_critical(bound):
            value = source.value(bound.quantity.first, bound.quantity.last)
            yield f"critical result: {bound.head.replace('_', ' ')} {value}"


def _is_critical(bound: Bound) -> bool:
    limits = toml("analytes")["critical"].get(bound.head)
    reading = bound.quantity.readings[0]
    if limits is None or reading.kind != "amount":
        return False
    low, high, name = limits
    value: float | None = reading.values[0]
    if reading.unit is not None and "/" in name:
        above, _, below = name.partition("/")
        units = table()
        if above in units and below in units:
            (top, factor), (bottom, under) = units[above], units[below]
            wanted = Unit(f"{top}/{bottom}", factor / under, name)
            value = convert(reading.values[0], reading.unit, wanted, bound.head)
    return value is not None and not low <= value <= high


def _visits(source: Analysis, output: Analysis) -> Iterator[str]:
    if _FOLLOW & set(output.bases):
        return
    for i, sentence in enumerate(source.sentences):
        if sentence.asks or not _FOLLOW & set(source.bases[sentence.first : sentence.last]):
            continue
        times = [
            q
            for q in source.quantities[i]
            if (q.unit is not None and q.unit.dimension == "time") or q.kind == "date"
        ]
        if times:
            yield f"follow-up: {source.value(times[-1].first, times[-1].last)}"
