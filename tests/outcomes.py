"""What a run of the command came to: its exit code, its streams and its ledger."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ECHO = ("--engine", "echo")
Line = dict[str, Any]


def lines(out: Path) -> list[Line]:
    """Every line of the ledger; each must be JSON as the standard has it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    path = out / "records.jsonl"
    raw = path.read_bytes().splitlines() if path.exists() else []
    return [json.loads(line, parse_constant=refuse) for line in raw]


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something to become true."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.005)


def at_work(out: Path) -> bool:
    """Whether a document has gone to the engine."""
    with contextlib.suppress(FileNotFoundError):
        return b'"generate"' in (out / "attempts.jsonl").read_bytes()
    return False


class Outcome(NamedTuple):
    """One run of the command; `lines` are all of its ledger, an earlier run's too."""

    code: int
    stdout: str
    stderr: str
    lines: list[Line]

    @property
    def records(self) -> dict[str, Line]:
        """The current record of each source, where no two sources share a name."""
        return {line["source"]: line for line in self.lines}

    def ended(self, source: str) -> str:
        """``status`` of a source's current record, or ``status/code`` where it has an error."""
        record = self.records[source]
        code = (record["error"] or {}).get("code")
        return f"{record['status']}/{code}" if code else str(record["status"])


Run = Callable[..., Outcome]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_whole(out: Path, sources: int) -> None:
    """Each source ends with one good record and its summary; no temporary file is left.

    What is in the quarantine stays there.
    """
    raw = (out / "records.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    found = {line["source"]: line for line in lines(out)}
    assert len(found) == sources
    assert {line["status"] for line in found.values()} == {"ok"}
    for line in found.values():
        assert f"key={line['key']} " in (out / line["summary"]).read_text("utf-8")
    assert not [path for path in out.rglob("*.tmp") if "quarantine" not in path.parts]
