"""`medgemma check`: does an output stand in its source? Any summary, by rules, without a model."""

import gc
import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from medgemma_cli.errors import GATE, OK, USAGE, NoInputError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.safety.grounding import Findings

STDIN = "-"


def check(
    source: Annotated[
        str | None, typer.Argument(help="The document, a UTF-8 text; - is standard input.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Argument(
            help="What was written of it: a text, or a .json file of fields; - is stdin."
        ),
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(
            "--jsonl", help="Many pairs: a file of {id, source, output} lines; - is stdin."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as one JSON line.")] = False,
) -> None:
    """Check an output against its source: numbers, drugs, negations, sides, allergies.

    Needs no model. Exit code 0: nothing at review or above; 4: something; see `medgemma rules`.
    No flags does not mean that all was checked: the counts say what was not.
    """
    if jsonl is not None:
        if source is not None:
            raise UsageError(
                "--jsonl takes the place of SOURCE and OUTPUT.", "Give one or the other."
            )
        raise typer.Exit(_many(jsonl))
    if source is None or output is None:
        raise UsageError(
            "SOURCE and OUTPUT are both needed.", "Name two files, or use --jsonl FILE."
        )
    if source == output == STDIN:
        raise UsageError(
            "Only one of SOURCE and OUTPUT can be standard input.", "Put one into a file."
        )
    findings = _one(_text(source, "SOURCE"), _fields(output))
    _show(findings, as_json=as_json)
    raise typer.Exit(_code(findings))


def _one(source: str, output: "str | dict[str, Any]") -> "Findings":
    from medgemma_cli.safety.grounding import check as check_grounding

    return check_grounding(source, output)


def _code(findings: "Findings") -> int:
    return GATE if any(flag.severity != "note" for flag in findings.flags) else OK


def _text(name: str, what: str) -> str:
    """The text of a file or of standard input; line ends stay as they are."""
    # What it is, not its name: this may end in a log.
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except (OSError, ValueError):  # a NUL in the name is a ValueError
        raise _unreadable(what) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{what} is not UTF-8 text.", "Convert it first.") from None


def _unreadable(what: str) -> NoInputError:
    return NoInputError(f"{what} cannot be read.", "Check the path and its permissions.")


def _fields(name: str) -> "str | dict[str, Any]":
    """The output to check: a text, or the fields of a JSON object."""
    text = _text(name, "OUTPUT")
    if not name.lower().endswith(".json"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageError(
            "The output's file is no JSON object.", "Give a text, or one object of fields."
        )
    return value


def _show(findings: "Findings", *, as_json: bool) -> None:
    from medgemma_cli.display import visible
    from medgemma_cli.progress import emit

    if as_json:
        emit(json.dumps(_entry(findings)))
        return
    for flag in findings.flags:
        place = f" [source {flag.span[0]}-{flag.span[1]}]" if flag.span else ""
        emit(f"{flag.severity}: {flag.rule}: {visible(flag.value)}: {flag.why}{place}")
    for omission in findings.omissions:
        emit(f"omitted: {visible(omission)}")
    counts = findings.counts
    emit(
        f"{counts['supported']} facts supported, {counts['contradicted']} contradicted, "
        f"{counts['not_checked']} not checked"
    )


def _entry(findings: "Findings") -> dict[str, Any]:
    flags = [flag.model_dump(mode="json") for flag in findings.flags]
    return {"flags": flags, "facts": findings.counts, "omissions": list(findings.omissions)}


def _many(name: str) -> int:
    """Check every line; a line that cannot be read is told of and makes the exit code 2."""
    from medgemma_cli.progress import emit

    gc.set_threshold(100_000, 50, 50)  # a pair makes many small objects and no cycles
    code = OK
    with _opened(name) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            pair = _pair(line)
            if pair is None:
                emit(f"medgemma: line {number}: no object with id, source and output", sys.stderr)
                code = USAGE
                continue
            findings = _one(pair["source"], pair["output"])
            emit(json.dumps({"id": pair["id"], **_entry(findings)}))
            code = max(code, _code(findings)) if code != USAGE else USAGE
    return code


def _opened(name: str) -> IO[bytes]:
    if name == STDIN:
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except (OSError, ValueError):
        raise _unreadable("The file of --jsonl") from None


def _pair(line: bytes) -> dict[str, Any] | None:
    """The pair of a line, or nothing: its faults are never quoted."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not {"id", "source", "output"} <= value.keys():
        return None
    right = isinstance(value["source"], str) and isinstance(value["output"], str | dict)
    return value if right and isinstance(value["id"], str | int) else None
