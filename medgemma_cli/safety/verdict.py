"""A generation against its document: the output, its quotes, its flags and its status."""

import json
from typing import Any, NamedTuple

from medgemma_cli import contracts, decoding
from medgemma_cli.records import Contract, Document, Flag, Generation, Quote, Status
from medgemma_cli.safety import pairs
from medgemma_cli.safety.header import ASSUMED, BURNED_IN, burned_in, magnification_assumed
from medgemma_cli.safety.joined import check_joined
from medgemma_cli.safety.triage import triage_output


class Verdict(NamedTuple):
    """What the checks made of one generation. `error` is a code of `errors.FAULTS`.

    `facts` counts those of the output that are supported, contradicted and not checked;
    `omissions` is what the document has and the output has not.
    """

    status: Status
    output: dict[str, Any] | None = None
    quotes: tuple[Quote, ...] = ()
    flags: tuple[Flag, ...] = ()
    degraded: tuple[str, ...] = ()
    confidence: dict[str, Any] | None = None
    facts: dict[str, int] | None = None
    omissions: tuple[str, ...] = ()
    error: str | None = None


def judge(document: Document, contract: Contract, generation: Generation) -> Verdict:
    """Check one generation against its document and its contract.

    `flagged` from a flag of severity `review` upwards. Covers the shape of the output, verbatim
    quotes, the facts of the output against the text, what a DICOM header says against the output,
    choices by their probabilities, truncation, partial reading, what was left out where parts were
    joined, injected instructions, emergencies in the document, and outputs that instruct their
    reader; of two documents, what `pairs` adds. See `grounding`, `header`, `joined`, `pairs` and
    `triage` for what they do not cover.
    """
    if generation.error:
        return Verdict("failed", flags=tuple(pairs.triaged(document)), error=generation.error)
    try:
        output = decoding.parse(contract, generation.text)
    except ValueError:
        return Verdict("failed", flags=tuple(pairs.triaged(document)), error="invalid_output")
    if contract.kind == "text" and not output.fields["answer"]:
        return Verdict("failed", error="empty_output")
    output, confidence, doubts = decoding.settle(contract, generation, output)
    quoted = list(decoding.quoted(contract, output.fields))
    quotes, flags = pairs.check_quotes(quoted, document, generation.places)
    grounds = _grounds(document, contract, output.fields, quoted)
    flags = [
        *_completeness(document, contract, generation, output),
        *pairs.triaged(document),
        *triage_output(output.fields, {quote.text for quote in quoted}),
        *flags,
        *doubts,
        *grounds.flags,
        *pairs.check_headers(document, output.fields),
    ]
    serious = any(flag.severity != "note" for flag in flags)
    return Verdict(
        "flagged" if serious else "ok",
        output.fields,
        tuple(quotes),
        tuple(flags),
        output.notes,
        confidence,
        grounds.facts,
        grounds.omissions,
    )


class _Grounds(NamedTuple):
    flags: tuple[Flag, ...]
    facts: dict[str, int]
    omissions: tuple[str, ...] = ()


def _grounds(
    document: Document,
    contract: Contract,
    fields: dict[str, Any],
    quoted: list[decoding.Quoted],
) -> _Grounds:
    """The output against the text. What was seen on an image has no text to be checked against."""
    # An answer to a question, or a table, does not promise to name everything.
    covers = "allergies" in contract.covers
    found = pairs.check_facts(document, stated(fields, contract), quoted, covers=covers)
    if not document.text.strip():
        counts = dict.fromkeys(found.facts, 0)
        return _Grounds((), {**counts, "not_checked": sum(found.facts.values())})
    return _Grounds(found.flags, found.facts, found.omissions if covers else ())


def stated(fields: dict[str, Any], contract: Contract) -> dict[str, Any]:
    """The fields without the words of choices ("low", "not stated"), which state no fact.

    What a choice has is left empty and not taken away, so that paths stay as they are.
    """
    if not contract.json_schema:
        return fields
    schema = json.loads(contract.json_schema)
    kept: dict[str, Any] = _stated(fields, [schema], schema.get("$defs", {}))
    return kept


def _stated(value: Any, nodes: list[dict[str, Any]], defined: dict[str, Any]) -> Any:
    """A value without its choices; `nodes` are the schemas that it may have been written by."""
    nodes = _alternatives(nodes, defined)
    if isinstance(value, dict):
        return {
            name: _stated(item, [n["properties"][name] for n in nodes if _has(n, name)], defined)
            for name, item in value.items()
        }
    if isinstance(value, list):
        items = [node["items"] for node in nodes if isinstance(node.get("items"), dict)]
        return [_stated(item, items, defined) for item in value]
    options = [option for node in nodes for option in _options(node)]
    only = bool(nodes) and all(_options(node) for node in nodes)
    return None if only or value in options else value


def _has(node: dict[str, Any], name: str) -> bool:
    return name in node.get("properties", {})


def _options(node: dict[str, Any]) -> list[Any]:
    return [node["const"]] if "const" in node else list(node.get("enum", []))


def _alternatives(nodes: list[dict[str, Any]], defined: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas with their references and `anyOf` followed."""
    found: list[dict[str, Any]] = []
    for node in nodes:
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        further = [*node.get("anyOf", []), *node.get("oneOf", [])]
        if name:
            further.append(defined.get(name, {}))
        found += _alternatives(further, defined) if further else [node]
    return found


def covering(document: Document, generation: Generation) -> Document:
    """The document, its coverage told by what of its text was shown."""
    if generation.shown is None:
        return document
    return document.model_copy(update={"coverage": document.covered(generation.shown)})


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
    flags += check_joined(contract, generation, output.fields)
    if generation.finish_reason == "length" or "shortened" in generation.degraded:
        why = "The answer ends at --max-new-tokens; what it would have said after is missing."
        flags.append(Flag(rule="truncated", severity="review", where="output", why=why))
    if any(seen < total for seen, total in document.coverage.values()):
        why = "Only a part of the document was read; see the record's coverage."
        flags.append(Flag(rule="partial_coverage", severity="review", where="source", why=why))
    if not {BURNED_IN, f"prior:{BURNED_IN}"}.isdisjoint(document.degraded):
        flags.append(burned_in())
    if ASSUMED in document.degraded:
        flags.append(magnification_assumed())
    return flags
