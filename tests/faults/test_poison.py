"""A document that crashes the process is found out; who is killed from outside is innocent."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import ECHO, Run, assert_whole, lines

# An engine that crashes on one document, as a kernel of a library would.
_CRASHING = """
import faulthandler, sys
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine

honest = EchoEngine._answer

def answer(self, prompt):
    if "Ramipril" in prompt.document and CRASHES:
        faulthandler._sigsegv()
    return honest(self, prompt)

BATCH

EchoEngine._answer = answer
main()
"""
# As an engine that begins eight at once.
_BATCH = """
from itertools import islice

def generate(self, prompts, keep_going=lambda: True, begin=lambda ids: None):
    prompts = iter(prompts)
    while batch := list(islice(prompts, 8)):
        begin([prompt.id for prompt in batch])
        yield from [self._answer(prompt) for prompt in batch]

EchoEngine.generate = generate
"""


def script(*, batch: bool, crashes: bool = True) -> str:
    """The command with that engine."""
    code = _CRASHING.replace("BATCH", _BATCH if batch else "")
    return code.replace("CRASHES", str(crashes))


@pytest.fixture
def ten(folder: Path) -> Path:
    """Ten documents, the fifth of them hostile."""
    for n in range(10):
        what = "Ramipril" if n == 4 else f"{n} mg of Bisoprolol"
        (folder / f"n{n}.md").write_text(f"Takes {what} in the morning.\n")
    return folder


@pytest.mark.parametrize("batch", [False, True])
def test_segmentation_faults(
    run: Run, cli: Callable[..., Any], ten: Path, tmp_path: Path, batch: bool
) -> None:
    """Fault 79: after a crash in company and three alone it is poison, and the nine are ok."""
    out, python = tmp_path / "out", ("-c", script(batch=batch))
    for _ in range(4):
        died = run(ten, python=python)
        assert died.code < 0
    last = run(ten, python=python)
    assert last.code == 3
    assert last.ended("n4.md") == "failed/poison"
    assert [line["status"] for line in last.records.values()].count("ok") == 9
    assert len(last.lines) == 10
    assert last.records["n4.md"]["attempt"] == 3
    status = cli("status", "out", "--failed")
    assert "n4.md\tpoison\tThe process crashed on it three times" in status.stdout
    traces = [path.read_text() for path in (out / "quarantine").glob("crash-*")]
    assert traces and all("Segmentation fault" in text for text in traces)
    assert "in answer" in traces[0] and "Ramipril" not in "".join(traces)
    assert not (out / ".crash").exists()
    assert not list(out.rglob("*.tmp"))
    again = run(ten, python=python)
    assert (again.code, len(again.lines)) == (3, 10)
    mended = script(batch=batch, crashes=False)
    done = run(ten, "--retry-failed", "--max-attempts", "4", python=("-c", mended))
    assert done.code == 0
    assert_whole(out, 10)


# Forks for each start: a hundred starts of an interpreter would take too long. A child does what
# the command does but for reader processes, tells when it has begun the one document, and is
# killed then.
_KILLS = """
import json, os, signal, time
from pathlib import Path
from medgemma_cli.cli import main
from medgemma_cli.commands import run, wiring
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli import discover, pipeline, readers
from medgemma_cli.readers import pool

class Here(pool.InProcess):
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

pool.ReaderPool = Here
honest = EchoEngine._answer
begun, tell = os.pipe()

def answer(self, prompt):
    if "Ramipril" in prompt.document:
        os.write(tell, b".")
        time.sleep(600)
    return honest(self, prompt)

EchoEngine._answer = answer
kills = 0
while kills < 50:
    child = os.fork()
    if not child:
        main()
    os.read(begun, 1)
    last = json.loads(Path("out/attempts.jsonl").read_bytes().splitlines()[-1])
    assert last["event"] == "generate" and len(last["keys"]) == 1
    kills += last["alone"]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(kills)
"""


def test_fifty_kills_from_outside(run: Run, ten: Path, tmp_path: Path) -> None:
    """Fault 79: fifty SIGKILLs while one document is alone, and it is as innocent as before."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLS, "run", str(ten), "-o", "out", *ECHO, "-q"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "50\n", done.stderr
    found = lines(tmp_path / "out")
    assert len(found) == 9 and {line["status"] for line in found} == {"ok"}
    last = run(ten)
    assert last.code == 0 and "now one by one" in last.stderr
    assert not list((tmp_path / "out").glob("quarantine/crash-*"))
    assert_whole(tmp_path / "out", 10)
