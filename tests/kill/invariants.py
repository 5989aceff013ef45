"""What must hold of an output folder, after a kill and after the end. Faults come as texts."""

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import product

_BLOCK = re.compile(rb"<!-- medgemma\.summary/1 key=(\w+) created=(\S+) sha256=\w+ -->\n\Z")
_NEEDED = {"key", "source", "summary", "status", "created"}

Files = dict[str, tuple[bytes, int]]


class Line(NamedTuple):
    """What tells a record from any other."""

    slot: str
    key: str
    created: str
    reused: bool
    status: str


def files_of(folder: Path) -> Files:
    """Bytes and time of change of every file below a folder."""
    return {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in _walk(folder)}


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            yield str(path.relative_to(folder)), path


def raw_lines(out: Path) -> list[bytes]:
    """The ledger's lines with their newlines, the last perhaps without."""
    try:
        return (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def parse(raw: bytes) -> Line | None:
    """A whole record, with its newline or without; None for anything else."""
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(found, dict) or not found.keys() >= _NEEDED:
        return None
    slot = found["summary"] or f"//{found['source']}"
    return Line(slot, found["key"], found["created"], bool(found["reused"]), found["status"])


def lines_of(out: Path) -> list[Line]:
    """The records in the ledger."""
    return [line for raw in raw_lines(out) if (line := parse(raw)) is not None]


def torn_tail(out: Path) -> bytes | None:
    """A last line that is no record and has no end."""
    last = raw_lines(out)[-1:]
    return last[0] if last and not last[0].endswith(b"\n") and parse(last[0]) is None else None


def stamps(out: Path) -> dict[str, tuple[str, str]]:
    """Key and time in the provenance block of every summary that has one."""
    found = {}
    for name, path in _walk(out):
        if name.endswith(".md") and not name.startswith("quarantine/"):
            match = _BLOCK.search(path.read_bytes())
            if match is not None:
                found[name] = (match.group(1).decode(), match.group(2).decode())
    return found


def after_a_kill(
    out: Path, acknowledged: Iterable[Line], orphans: Iterable[tuple[str, str]]
) -> list[str]:
    """What was acknowledged is there; no summary is ahead of the ledger (but the `orphans`)."""
    present = set(lines_of(out))
    faults = [
        f"the acknowledged record of {line.slot} is gone"
        for line in acknowledged
        if line not in present
    ]
    known = {(line.key, line.created) for line in present} | set(orphans)
    faults += [f"{name} has no record" for name, stamp in stamps(out).items() if stamp not in known]
    return faults


def at_the_end(
    out: Path, wanted: dict[str, str], quarantined: Iterable[bytes], damaged: Iterable[bytes]
) -> list[str]:
    """Every document has its one record and its summary, and nothing else is left.

    Args:
        wanted: slot → key.
        quarantined: bytes that must have been kept in the quarantine.
        damaged: lines that may stay in the ledger although they are none.
    """
    faults = []
    lines = []
    for raw in raw_lines(out):
        line = parse(raw)
        if not raw.endswith(b"\n"):
            faults.append("the last line has no newline")
        if line is None and raw not in set(damaged):
            faults.append("a line is no record")
        if line is not None:
            lines.append(line)
    times = Counter((line.slot, line.key, line.reused) for line in lines)
    faults += [f"{key[0]} has {count} records" for key, count in times.items() if count > 1]
    current = {line.slot: line for line in lines}
    if {slot: line.key for slot, line in current.items()} != wanted:
        faults.append("the current records are not those of the documents")
    faults += [
        f"{line.slot} ended as {line.status}" for line in current.values() if line.status != "ok"
    ]
    if not lines:
        return faults
    return faults + _summaries(out) + _others(out, set(quarantined), set(wanted))


def _summaries(out: Path) -> list[str]:
    faults = []
    for name, text in product.rendered(out).items():
        try:
            same = (out / name).read_text("utf-8") == text
        except FileNotFoundError:
            faults.append(f"{name} is missing")
        else:
            faults += [] if same else [f"{name} is not what its record says"]
    return faults


def _others(out: Path, quarantined: set[bytes], names: set[str]) -> list[str]:
    faults = []
    kept: set[bytes] = set()
    for name, path in _walk(out):
        if ".medgemma-" in name or name.endswith(".tmp"):
            faults.append("a temporary file is left")
        elif name.startswith("quarantine/"):
            kept.add(path.read_bytes())
        elif name not in names | product.FILES:
            faults.append(f"{name} is a file nobody knows")
    if quarantined - kept:
        faults.append("what was cut off is not in the quarantine")
    for folder, _, files in os.walk(out):
        for at, mode in [(folder, 0o700), *((f"{folder}/{file}", 0o600) for file in files)]:
            if stat.S_IMODE(os.lstat(at).st_mode) != mode:
                faults.append(f"{os.path.relpath(at, out)} is not for its owner alone")
    return faults


def same_inputs(folder: Path, before: Files) -> list[str]:
    """The documents are what they were, to the byte and the nanosecond."""
    return [] if files_of(folder) == before else ["an input was touched"]


def as_json(value: Any) -> str:
    """One line, for a report."""
    return json.dumps(value, sort_keys=True)
