"""A generation against its document: the output, its quotes, its flags and its status."""

from typing import Any, NamedTuple

from medgemma_cli import decoding
from medgemma_cli.records import Document, Flag, Generation, Quote, Status
from medgemma_cli.safety.grounding import check_quotes
from medgemma_cli.safety.triage import triage


class Verdict(NamedTuple):
    """What the checks made of one generation. `error` is a code of `errors.FAULTS`."""

    status: Status
    output: dict[str, Any] | None = None
    quotes: tuple[Quote, ...] = ()
    flags: tuple[Flag, ...] = ()
    degraded: tuple[str, ...] = ()
    error: str | None = None


def judge(document: Document, block: str, generation: Generation) -> Verdict:
    """Check one generation against its document and its template's `output:` block (as JSON).

    `flagged` from a flag of severity `review` upwards. Covers the shape of the output, verbatim
    quotes, truncation, partial reading and injected instructions; see `grounding` and `triage`
    for what they do not cover.
    """
    if generation.error:
        return Verdict("failed", flags=tuple(triage(document.text)), error=generation.error)
    try:
        output = decoding.parse(block, generation.text, quotable=bool(document.text))
    except ValueError:
        return Verdict("failed", flags=tuple(triage(document.text)), error="invalid_output")
    if block == '"text"' and not output.fields["answer"]:
        return Verdict("failed", error="empty_output")
    quotes, flags = check_quotes(output.fields, document.text) if document.text else ([], [])
    flags = [*_completeness(document, generation), *triage(document.text), *flags]
    serious = any(flag.severity != "note" for flag in flags)
    status: Status = "flagged" if serious else "ok"
    return Verdict(status, output.fields, tuple(quotes), tuple(flags), output.notes)


def _completeness(document: Document, generation: Generation) -> list[Flag]:
    flags = []
    if generation.finish_reason == "length" or "shortened" in generation.degraded:
        why = "The answer ends at --max-new-tokens; what it would have said after is missing."
        flags.append(Flag(rule="truncated", severity="review", where="output", why=why))
    if any(seen < total for seen, total in document.coverage.values()):
        why = "Only a part of the document was read; see the record's coverage."
        flags.append(Flag(rule="partial_coverage", severity="review", where="source", why=why))
    return flags
