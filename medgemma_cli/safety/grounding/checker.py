"""The whole check of an output against its source."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from medgemma_cli.records import Flag
from medgemma_cli.safety.grounding import (
    allergies,
    drugs,
    findings,
    language,
    medications,
    numeric,
    omissions,
    provenance,
    sides,
    statements,
)
from medgemma_cli.safety.grounding.analysis import Analysis, analyse
from medgemma_cli.safety.grounding.facts import Fact, Findings, Provenance
from medgemma_cli.safety.grounding.leaves import Joined, join
from medgemma_cli.safety.grounding.rules import rules

_UNKNOWN = "The rules do not know this language; nothing here was checked."
_QUOTES = frozenset({"quote", "quotes", "prior_quote", "evidence"})


def check(
    source: str,
    output: str | Mapping[str, Any],
    quotes: Collection[str] = _QUOTES,
    *,
    covers: bool | None = None,
) -> Findings:
    """Check an output, a text or a record's fields, against its source.

    Covers numbers, drugs, negated and uncertain findings, sides and allergies, each by a rule
    listed by `medgemma rules`; a fact that no rule can decide is "not checked", and a sentence in
    another language is so as a whole. Does not judge whether a true statement is relevant, nor
    claims that are in other words altogether: those come out as "not addressed" at most.

    Args:
        source: the document's text; evidence spans are code points of it.
        output: a text, or the fields of a record, whose strings are checked with their path.
        quotes: names of fields that hold quotes of the source and are no claims.
        covers: whether the output promises to name every allergy; None judges by its form.
    """
    joined = join(output, quotes)
    there, said = analyse(_sound(source)), Analysis(_sound(joined.text))
    whole = allergies.sums_up(there, said, isinstance(output, str)) if covers is None else covers
    facts = _known(there, said, list(_facts(there, said, whole)))
    places = list(provenance.check(there, said))
    flags = [*_flags(facts, joined), *_notes(places, facts, joined)]
    return Findings(
        tuple(flags),
        tuple(_placed(fact, joined) for fact in facts),
        omissions.find(there, said),
        tuple(_at(place, joined) for place in places),
    )


def _sound(text: str) -> str:
    """The text with each lone surrogate, which no UTF-8 has, in another sign's place."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _facts(source: Analysis, output: Analysis, whole: bool) -> Iterator[Fact]:
    yield from numeric.check(source, output)
    yield from drugs.check(source, output)
    found = list(findings.check(source, output))
    found = list(medications.check(source, output)) + found
    flipped = {output.sentence_at(f.span[0]) for f in found if f.rule == "negation_flip"}
    yield from found
    for fact in statements.check(source, output):
        if output.sentence_at(fact.span[0]) not in flipped:
            yield fact
    yield from sides.check(source, output)
    yield from allergies.check(source, output, whole=whole)


def _known(source: Analysis, output: Analysis, facts: list[Fact]) -> list[Fact]:
    """Facts in sentences of an unknown language are not checked, whatever the rules say."""
    readable = language.mostly_known(source)
    strange = [s for s in output.sentences if not language.is_known(output, s)]
    if readable and not strange:
        return facts
    spans = [(s.start, s.end) for s in (strange if readable else output.sentences)]
    kept = [f for f in facts if not any(start <= f.span[0] < end for start, end in spans)]
    if not readable:
        kept = []
    return kept + [Fact("sentence", "not checked", span, "", None, _UNKNOWN) for span in spans]


def _flags(facts: list[Fact], joined: Joined) -> Iterator[Flag]:
    """A flag for each contradicted fact; the same rule, value and place once."""
    seen = set()
    for fact in facts:
        rule = fact.rule or ("not_checked_language" if fact.kind == "sentence" else "")
        where = joined.place(fact.span)[0] if fact.span != (0, 0) else "output"
        if not rule or (rule, where, fact.value, fact.evidence) in seen:
            continue
        seen.add((rule, where, fact.value, fact.evidence))
        severity = rules()[rule].severity
        yield Flag(
            rule=rule,
            severity=severity,
            where=where,
            value=fact.value,
            why=fact.reason,
            span=fact.evidence,
        )


def _notes(places: list[Provenance], facts: list[Fact], joined: Joined) -> Iterator[Flag]:
    """A note for each sentence that the source does not address."""
    unread = {fact.span for fact in facts if fact.kind == "sentence"}
    for place in places:
        if not place.addressed and place.span not in unread:
            why = "Not addressed: no part of the source has most of this sentence's words."
            value = joined.text[place.span[0] : place.span[1]]
            where = joined.place(place.span)[0]
            yield Flag(
                rule="unsupported",
                severity=rules()["unsupported"].severity,
                where=where,
                value=value,
                why=why,
            )


def _placed(fact: Fact, joined: Joined) -> Fact:
    where, span = joined.place(fact.span)
    return Fact(
        fact.kind, fact.verdict, span, fact.value, fact.evidence, fact.reason, fact.rule, where
    )


def _at(place: Provenance, joined: Joined) -> Provenance:
    where, span = joined.place(place.span)
    return place._replace(where=where, span=span)
