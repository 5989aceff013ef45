"""A real run with the demo model, killed five times at random moments of its work."""

import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

KILLS = 5
NOTES = 8


def at_work(journal: Path, before: bytes) -> bool:
    """Whether a run that began since has sent documents to the device."""
    try:
        now = journal.read_bytes()
    except FileNotFoundError:
        return False
    return now != before and b'"generate"' in now


def killed_at_work(line: list[str], out: Path, wait: float) -> bool:
    """Start the command, kill it a while after its first batch began; False if it had ended.

    The clock begins with the device's work: loading the model takes longer than all of it.
    """
    journal = out / "attempts.jsonl"
    before = journal.read_bytes() if journal.exists() else b""
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < ends and not at_work(journal, before):
        time.sleep(0.01)
    time.sleep(wait)
    killed = process.poll() is None
    process.kill()
    process.wait()
    return killed


@pytest.mark.slow
@pytest.mark.usefixtures("demo_model")
def test_five_kills(command: str, tmp_path: Path) -> None:
    """Every document is done once, none is held for poison, and no more work than was in hand."""
    notes, out = tmp_path / "notes", tmp_path / "out"
    notes.mkdir()
    for number in range(NOTES):
        text = f"Patient {number}: pulse {60 + number}, no fever. Takes ramipril {number + 1} mg.\n"
        (notes / f"{number}.md").write_text(text * (number + 1), "utf-8")
    line = [command, "run", str(notes), "-o", str(out), "--model", "demo"]
    line += ["--max-new-tokens", "96", "--template", "general", "--batch-size", "2"]
    chance = random.Random(5)
    killed = sum(killed_at_work(line, out, chance.uniform(0, 1.0)) for _ in range(KILLS))
    assert killed >= 3
    last = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert last.returncode == 0, last.stderr
    lines = [json.loads(text) for text in (out / "records.jsonl").read_text().splitlines()]
    assert max(Counter(record["key"] for record in lines).values()) == 1
    assert {record["source"] for record in lines} == {f"{n}.md" for n in range(NOTES)}
    assert {record["status"] for record in lines} <= {"ok", "flagged"}
    verified = subprocess.run([command, "verify", str(out)], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
