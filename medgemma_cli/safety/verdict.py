"""A generation against its document: the output, its quotes, its flags and its status."""

from typing import Any, NamedTuple

from medgemma_cli import contracts, decoding
from medgemma_cli.records import Contract, Document, Flag, Generation, Quote, Status
from medgemma_cli.safety.grounding import check_quotes
from medgemma_cli.safety.triage import triage, triage_output


class Verdict(NamedTuple):
    """What the checks made of one generation. `error` is a code of `errors.FAULTS`."""

    status: Status
    output: dict[str, Any] | None = None
    quotes: tuple[Quote, ...] = ()
    flags: tuple[Flag, ...] = ()
    degraded: tuple[str, ...] = ()
    confidence: dict[str, Any] | None = None
    error: str | None = None


def judge(document: Document, contract: Contract, generation: Generation) -> Verdict:
    """Check one generation against its document and its contract.

    `flagged` from a flag of severity `review` upwards. Covers the shape of the output, verbatim
    quotes, choices by their probabilities, truncation, partial reading, injected instructions,
    emergencies in the document, and outputs that instruct their reader; see `grounding` and
    `triage` for what they do not cover.
    """
    if generation.error:
        return Verdict("failed", flags=tuple(triage(document.text)), error=generation.error)
    try:
        output = decoding.parse(contract, generation.text)
    except ValueError:
        return Verdict("failed", flags=tuple(triage(document.text)), error="invalid_output")
    if contract.kind == "text" and not output.fields["answer"]:
        return Verdict("failed", error="empty_output")
    output, confidence, doubts = decoding.settle(contract, generation, output)
    quoted = list(decoding.quotes(contract, output.fields))
    quotes, flags = check_quotes(quoted, document.text)
    flags = [
        *_completeness(document, contract, generation, output),
        *triage(document.text),
        *triage_output(output.fields, {quote for _, quote in quoted}),
        *flags,
        *doubts,
    ]
    serious = any(flag.severity != "note" for flag in flags)
    return Verdict(
        "flagged" if serious else "ok",
        output.fields,
        tuple(quotes),
        tuple(flags),
        output.notes,
        confidence,
    )


def _completeness(
    document: Document, contract: Contract, generation: Generation, output: decoding.Output
) -> list[Flag]:
    flags = []
    for where in output.full:
        why = "The table has as many rows as its template allows; the document may have more."
        flags.append(Flag(rule="list_full", severity="review", where=where, why=why))
    bare = contract.kind == "json" and document.text and not contract.quotable
    if bare and contracts.wants_quotes(contract.block):
        why = "Nothing of the text can be quoted; what is said of it has no evidence."
        flags.append(Flag(rule="no_quotable_text", severity="review", where="source", why=why))
    if generation.finish_reason == "length" or "shortened" in generation.degraded:
        why = "The answer ends at --max-new-tokens; what it would have said after is missing."
        flags.append(Flag(rule="truncated", severity="review", where="output", why=why))
    if any(seen < total for seen, total in document.coverage.values()):
        why = "Only a part of the document was read; see the record's coverage."
        flags.append(Flag(rule="partial_coverage", severity="review", where="source", why=why))
    return flags
