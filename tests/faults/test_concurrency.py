"""Locks and signals: two runs never write at once, and a run that is stopped leaves in time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outcomes import ECHO, Run, assert_whole, at_work, lines, wait_until

from medgemma_cli import signals

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Start]:
    """Start the command in `tmp_path`; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(
        *args: object, python: tuple[str, ...] = ("-m", "medgemma_cli")
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *python, *map(str, args)],
            cwd=tmp_path,
            env=clean_env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def committed(out: Path) -> int:
    """How many whole lines the ledger has, while it is written."""
    return (out / "records.jsonl").read_bytes().count(b"\n")


# -- the lock ------------------------------------------------------------------------------------


def test_leftover_lock(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 18: a lock file that nobody holds stops nobody, whatever is in it, and stays."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").write_text("4711\n")
    before = os.stat(tmp_path / "out" / ".lock").st_ino
    assert run(notes).code == 0
    assert os.stat(tmp_path / "out" / ".lock").st_ino == before
    assert_whole(tmp_path / "out", 4)


def test_lock_removed(start: Start, run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 19: a run whose lock file went away leaves with 75 before it writes again."""
    out = tmp_path / "out"
    first = start("run", notes, "-o", "out", *ECHO, "--echo-delay", "3")
    wait_until(lambda: (out / "records.jsonl").exists() and committed(out) == 1)
    (out / ".lock").unlink()
    second = run(notes)
    _, told = first.communicate(timeout=30)
    assert (first.returncode, second.code) == (75, 0), told
    assert len(lines(out)) == 4
    assert_whole(out, 4)


_NO_LOCKS = """
import errno, fcntl

def cannot(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")

fcntl.flock = fcntl.lockf = cannot
from medgemma_cli.cli import main
main()
"""


def test_no_locks(run: Run, notes: Path) -> None:
    """Fault 21: a disk that cannot lock is 78, and no record is written on it."""
    done = run(notes, python=("-c", _NO_LOCKS))
    assert (done.code, done.lines) == (78, [])
    assert run(notes).code == 0


# -- signals -------------------------------------------------------------------------------------


def test_twice_interrupted(start: Start, run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 23: the second SIGINT ends the run within a second, with 130."""
    first = start("run", notes, "-o", "out", *ECHO, "--echo-delay", "60")
    wait_until(lambda: at_work(tmp_path / "out"))
    time.sleep(0.1)  # the first document is with the engine
    first.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert first.poll() is None
    sent = time.monotonic()
    first.send_signal(signal.SIGINT)
    first.wait(10)
    assert time.monotonic() - sent < 1
    assert first.returncode == 130 and lines(tmp_path / "out") == []
    assert run(notes).code == 0
    assert_whole(tmp_path / "out", 4)


# The main thread is in C, where Python's own signal handlers cannot run, as in a long prefill.
_PREFILL = """
import hashlib
from medgemma_cli import signals
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine

def long(self, prompt):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)

EchoEngine._answer = long
signals.TERM_DEADLINE = 0.5
main()
"""


def test_terminated_in_a_long_prefill(start: Start, run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 25: SIGTERM while the engine is busy in C: 75 at the deadline, which is 20 seconds."""
    assert signals.TERM_DEADLINE == 20
    first = start("run", notes, "-o", "out", *ECHO, python=("-c", _PREFILL))
    assert first.stdout is not None and first.stdout.readline() == "begun\n"
    sent = time.monotonic()
    first.send_signal(signal.SIGTERM)
    first.wait(20)
    assert 0.4 < time.monotonic() - sent < 5
    assert first.returncode == 75 and lines(tmp_path / "out") == []
    assert run(notes).code == 0
    assert_whole(tmp_path / "out", 4)
