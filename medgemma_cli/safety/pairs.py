"""What is checked where there are two documents, a prior and a current one; or one, as ever.

Rules `quote_in_other_document` (a quote stands in the wrong document alone), `quote_in_both` (what
is called new or resolved stands in both) and `pair_differs` (two headers that are not of the same
kind of image). Facts are compared with each text, and what one of them supports is supported, since
a comparison speaks of both; but what is new, or resolved, has its numbers and sides from the one
that it quotes. This does not cover a value ascribed to the wrong one elsewhere, a change told the
wrong way round, nor whether something in other words is really new: the quotes show that.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from medgemma_cli.decoding import Quoted
from medgemma_cli.quoting import locate
from medgemma_cli.records import Document, Flag, Place, Quote, Which
from medgemma_cli.safety.grounding import check
from medgemma_cli.safety.grounding import quotes as verbatim
from medgemma_cli.safety.grounding.facts import Fact, Findings
from medgemma_cli.safety.header import check_header
from medgemma_cli.safety.triage import triage

_RANK = ("supported", "contradicted", "not checked")
_UNADDRESSED, _LANGUAGE = "unsupported", "not_checked_language"
_PLACED = {"number", "side"}
_Key = tuple[str, str, tuple[int, int], str]
_EXCLUSIVE = {"new_quote", "resolved_quote"}
_IN_BOTH = "What is called new or resolved is quoted with words that stand in both documents."
_DIFFERS = "The headers of the two images differ in this; they may not be comparable."


def by_name(document: Document) -> dict[Which, Document]:
    """The document alone as ``current``, or both of a pair, the earlier one first."""
    if document.prior is None:
        return {"current": document}
    return {"prior": document.prior, "current": document}


def check_quotes(
    quoted: Iterable[Quoted], document: Document, places: Sequence[Place] = ()
) -> tuple[list[Quote], list[Flag]]:
    """Find quotes in the documents that they must be of, in their order.

    Args:
        places: where quotes are known to stand, as of `grounding.check_quotes`.

    Returns:
        those that stand there, with page, and of a pair with the document; flags for the others.
    """
    documents = by_name(document)
    known: dict[str, list[Place]] = {}
    for place in places:
        known.setdefault(place.where, []).append(place)
    found: list[Quote] = []
    flags: list[Flag] = []
    for quote in quoted:
        own, pair = quote.which, len(documents) > 1
        text = documents[own].text if own in documents else ""
        right, wrong = verbatim.check_quotes(
            [(quote.where, quote.text)], text, known.get(quote.where, ())
        )
        for one in right:
            about = {"page": documents[own].page_of(one.start), "document": own if pair else None}
            found.append(one.model_copy(update=about))
        flags += wrong
        if pair:
            other = documents["prior" if own == "current" else "current"].text
            flags += _elsewhere(quote, own, bool(right), other)
    return found, flags


def _elsewhere(quote: Quoted, own: Which, stands: bool, other: str) -> Iterator[Flag]:
    """What it means that a quote stands in the other document, if it does."""
    if (stands and quote.form not in _EXCLUSIVE) or locate(quote.text, other) is None:
        return
    rule, why = "quote_in_both", _IN_BOTH
    if not stands:
        away = "current" if own == "prior" else "prior"
        rule = "quote_in_other_document"
        why = f"The quote is to be of the {own} document, and stands in the {away} one alone."
    yield Flag(
        rule=rule, severity="review", where=quote.where, value=quote.text, why=why, document=own
    )


def triaged(document: Document) -> list[Flag]:
    """`triage` of the text, or of both texts, each flag with the document that it is about."""
    if document.prior is None:
        return triage(document.text)
    return [
        flag.model_copy(update={"document": name})
        for name, one in by_name(document).items()
        for flag in triage(one.text)
    ]


def check_headers(document: Document, fields: Mapping[str, Any]) -> list[Flag]:
    """The output against the header of its image; of a pair, where both headers agree.

    Two headers that differ are told of instead: what the output says may be of either.
    """
    if document.prior is None:
        return check_header(document.header, fields)
    before, now = document.prior.header, document.header
    shared = {name: word for name, word in now.items() if before.get(name) == word}
    flags = [
        Flag(rule="pair_differs", severity="review", where="source", value=name, why=_DIFFERS)
        for name in ("modality", "body_part", "laterality")
        if name in before and name in now and name not in shared
    ]
    return [*flags, *check_header(shared, fields)]


class Checked(NamedTuple):
    """What the rules of `grounding` make of an output: flags, counts of facts, omissions."""

    flags: tuple[Flag, ...]
    facts: dict[str, int]
    omissions: tuple[str, ...]


def check_facts(
    document: Document,
    fields: Mapping[str, Any],
    quoted: Iterable[Quoted] = (),
    *,
    covers: bool,
) -> Checked:
    """Compare an output with its document; of a pair with each, for a comparison speaks of both.

    What one of the two supports is supported, and what one contradicts otherwise contradicted.
    But a finding that is called new, or resolved, must have its numbers and sides from the document
    that it quotes: one of them at least, since "4.1, now 5.9" has both.
    """
    if document.prior is None:
        alone = check(document.text, fields, covers=covers)
        return Checked(alone.flags, alone.counts, alone.omissions)
    now = check(document.text, fields, covers=covers)
    before = check(document.prior.text, fields, covers=covers)
    verdicts = _verdicts(before.facts, now.facts)
    own = {one.where: one.which for one in quoted if one.form in _EXCLUSIVE}
    verdicts |= _misplaced(before.facts, own, "prior") | _misplaced(now.facts, own, "current")
    flags = [
        *_standing(now, "current", verdicts, before),
        *_standing(before, "prior", verdicts, now),
    ]
    flags.sort(key=lambda flag: flag.span is None)  # what shows its evidence first
    marks = [(flag.rule, flag.where, flag.value) for flag in flags]
    once = tuple(flag for i, flag in enumerate(flags) if marks[i] not in marks[:i])
    counts = Counter(
        verdict.replace(" ", "_") for key, verdict in verdicts.items() if key[0] != "omission"
    )
    omissions = dict.fromkeys((*now.omissions, *before.omissions))
    return Checked(once, {name: counts[name] for name in now.counts}, tuple(omissions))


def _key(fact: Fact) -> _Key:
    """What a fact of an output is known by, whatever it is compared with."""
    return fact.kind, fact.where, fact.span, fact.value


def _verdicts(*found: Iterable[Fact]) -> dict[_Key, str]:
    best: dict[_Key, str] = {}
    for fact in chain.from_iterable(found):
        known = best.get(_key(fact), _RANK[-1])
        best[_key(fact)] = min(known, fact.verdict, key=_RANK.index)
    return best


def _misplaced(facts: Iterable[Fact], own: Mapping[str, Which], which: Which) -> dict[_Key, str]:
    """What this document contradicts in findings of its own of which it supports nothing."""
    found: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        item = fact.where.rpartition(".")[0]
        if fact.kind in _PLACED and own.get(item) == which:
            found[item, fact.kind].append(fact)
    return {
        _key(fact): "contradicted"
        for group in found.values()
        if all(fact.verdict != "supported" for fact in group)
        for fact in group
        if fact.verdict == "contradicted"
    }


def _standing(
    findings: Findings, which: Which, verdicts: dict[_Key, str], other: Findings
) -> Iterator[Flag]:
    """The flags of one document that the other does not take away."""
    wrong = {
        (fact.rule, fact.where, fact.value)
        for fact in findings.facts
        if verdicts[_key(fact)] == "contradicted"
    }
    unaddressed = {(f.where, f.value) for f in other.flags if f.rule == _UNADDRESSED}
    for flag in findings.flags:
        if flag.rule == _UNADDRESSED:
            stands = (flag.where, flag.value) in unaddressed
        else:
            stands = flag.rule == _LANGUAGE or (flag.rule, flag.where, flag.value) in wrong
        if stands:
            yield flag.model_copy(update={"document": which if flag.span else None})
