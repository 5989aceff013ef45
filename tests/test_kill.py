"""Kill it anywhere, run it again: every document ends with exactly one final record."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli import summaries
from medgemma_cli.ledger import current_lines
from medgemma_cli.records import Record

ROUNDS = 20

# Runs the command and kills itself at one point, when the second document comes by there.
_KILLED = """
import os, signal, sys
point = sys.argv.pop(1)

from medgemma_cli import files, pipeline, summaries, templates
from medgemma_cli.ledger import Ledger, appending
from medgemma_cli.cli import main
from medgemma_cli.committing import Committer
from medgemma_cli.engines.echo import EchoEngine

Committer.__init__.__kwdefaults__["group"] = 1  # one document after the other
calls = 0

def second():
    global calls
    calls += 1
    return calls == 2

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def journal(what):
    return b'{"event"' in bytes(what) if isinstance(what, bytes) else False

def before(owner, name):
    real = getattr(owner, name)
    def patched(*args, **settings):
        if not journal(args[0]) and second():
            die()
        return real(*args, **settings)
    setattr(owner, name, patched)

def cut(owner, how_much):
    def patched(descriptor, data):
        if not journal(data) and second():
            files.os.write(descriptor, data[: how_much(len(data))])
            die()
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view):]
    setattr(owner, "write_all", patched)

if point == "before inference":
    before(templates, "render")
elif point == "during inference":
    before(EchoEngine, "_answer")
elif point == "in the append":
    cut(appending, lambda size: size // 2)
elif point == "before the newline":
    cut(appending, lambda size: size - 1)
elif point == "before fsync":
    before(Ledger, "sync")
elif point == "before the summary":
    before(summaries, "write")
elif point == "in the temporary file":
    cut(files, lambda size: size // 2)
elif point == "before the rename":
    real = files.os.replace
    def patched(old, new):
        if str(new).endswith(".md") and second():
            die()
        real(old, new)
    files.os.replace = patched
main()
"""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_whole(out: Path, documents: int) -> None:
    """Exactly one record a key, whole lines, summaries that follow, nothing left over."""
    raw = (out / "records.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    lines = [json.loads(line) for line in raw.splitlines()]
    assert Counter(line["key"] for line in lines).most_common(1)[0][1] == 1
    assert len(lines) == documents
    assert {line["status"] for line in lines} == {"ok"}
    records = {line["summary"]: Record.model_validate(line) for line in current_lines(out)}
    for name, record in records.items():
        assert (out / name).read_text("utf-8") == summaries.render(record)
    found = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    kept = {name for name in found if name.startswith("quarantine/")}
    assert found - kept == {*records, "records.jsonl", "attempts.jsonl", ".lock"}


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("before inference", 3),
        ("during inference", 3),
        ("in the append", 3),
        ("before the newline", 2),
        ("before fsync", 2),
        ("before the summary", 2),
        ("in the temporary file", 2),
        ("before the rename", 2),
    ],
)
def test_kill_at(
    cli: Callable[..., Any], notes: Path, tmp_path: Path, point: str, left: int
) -> None:
    """Faults 1 to 6: killed at the second document, only what was in flight is done again."""
    inputs = contents(notes)
    args = ("run", notes, "-o", "out", "--engine", "echo")
    assert cli(point, *args, python=("-c", _KILLED)).returncode == -signal.SIGKILL
    again = cli(*args)
    assert again.returncode == 0, again.stderr
    assert f"{left} generated" in again.stderr
    assert_whole(tmp_path / "out", 4)
    assert contents(notes) == inputs


def test_torn_tail_is_in_the_quarantine(
    cli: Callable[..., Any], notes: Path, tmp_path: Path
) -> None:
    """Fault 3: the half line of a kill in mid-append is kept in the quarantine, and told."""
    args = ("run", notes, "-o", "out", "--engine", "echo")
    cli("in the append", *args, python=("-c", _KILLED))
    torn = (tmp_path / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)[-1]
    assert not torn.endswith(b"\n")
    again = cli(*args)
    assert list(contents(tmp_path / "out" / "quarantine").values()) == [torn]
    assert "quarantine" in again.stderr


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_kill_at_random_moments(clean_env: dict[str, str], tmp_path: Path) -> None:
    """Faults 1 to 6: 20 kills at random moments, and still one record for each of 60 documents."""
    chance = random.Random(20)
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(60):
        path = folder / f"ward{number % 4}" / f"n{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Patient {number} slept well.\n" * chance.randint(1, 200))
    inputs = contents(folder)
    command = [sys.executable, "-m", "medgemma_cli", "run", str(folder), "-o", str(out)]
    command += ["--engine", "echo", "--echo-delay", "0.01"]
    killed = 0
    for _ in range(ROUNDS):
        before = _size(out / "records.jsonl")
        process = subprocess.Popen(command, env=clean_env, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 20
        # A start-up takes longer than all the work, so the clock starts with the first record.
        while process.poll() is None and time.monotonic() < ends:
            if _size(out / "records.jsonl") > before:
                break
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.06))
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed >= 5
    final = subprocess.run(command, env=clean_env, capture_output=True, timeout=60, check=False)
    assert final.returncode == 0, final.stderr
    assert_whole(out, 60)
    assert contents(folder) == inputs
