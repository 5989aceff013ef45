"""Signals and time limits: what is finished is kept, and the exit code says what is left."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from outcomes import at_work, lines, wait_until

from medgemma_cli.commands.run import exit_code, parse_duration
from medgemma_cli.errors import UsageError
from medgemma_cli.pipeline import Totals

Start = Callable[..., "subprocess.Popen[str]"]

_SHORT_DEADLINE = """
from medgemma_cli import signals
from medgemma_cli.cli import main
signals.TERM_DEADLINE = 0.5
main()
"""


_ASKED = """
import time
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine

def slow(self, prompt):
    print("asked", flush=True)
    time.sleep(60)

EchoEngine._answer = slow
main()
"""

_EARLY = """
import time
from medgemma_cli.commands import wiring
from medgemma_cli.cli import main

def slow(*args, **settings):
    print("ready", flush=True)
    time.sleep(5)

wiring.make_engine = slow
main()
"""


@pytest.fixture
def start(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Start]:
    """Start a run that writes to `out`; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(
        folder: Path, delay: float, *more: str, python: tuple[str, ...] = ("-m", "medgemma_cli")
    ) -> "subprocess.Popen[str]":
        command = [sys.executable, *python, "run", str(folder), "-o", "out", "--engine", "echo"]
        process = subprocess.Popen(
            [*command, "--echo-delay", str(delay), *more],
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


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["SIGINT", "SIGTERM"]
)
def test_first_signal_drains(
    start: Start, cli: Callable[..., Any], notes: Path, tmp_path: Path, number: int, code: int
) -> None:
    """Faults 22 and 24: the document in hand is finished, the rest is left, nothing is lost."""
    out = tmp_path / "out"
    process = start(notes, 0.8)
    wait_until(lambda: len(lines(out)) == 1)
    time.sleep(0.3)  # the second document is with the engine
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Traceback" not in stderr and "work remains" in stderr
    done = lines(out)
    assert len(done) == 2
    assert all((out / line["summary"]).exists() for line in done)
    again = cli("run", notes, "-o", "out", "--engine", "echo")
    assert again.returncode == 0
    assert len({line["key"] for line in lines(out)}) == len(lines(out)) == 4


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGINT, signal.SIGINT, 130), (signal.SIGTERM, signal.SIGTERM, 75)],
    ids=["SIGINT", "SIGTERM"],
)
def test_second_signal_leaves_at_once(
    start: Start, notes: Path, tmp_path: Path, first: int, second: int, code: int
) -> None:
    """Fault 23: the second signal does not wait for the document in hand."""
    process = start(notes, 60)
    wait_until(lambda: at_work(tmp_path / "out"))
    time.sleep(0.1)  # the first document is with the engine
    process.send_signal(first)
    time.sleep(0.3)
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(second)
    process.wait(10)
    assert time.monotonic() - sent < 1.5
    assert process.returncode == code
    assert lines(tmp_path / "out") == []


def test_deadline_after_sigterm(start: Start, notes: Path, tmp_path: Path) -> None:
    """Fault 25: a document that takes too long after SIGTERM is given up at the deadline."""
    process = start(notes, 60, python=("-c", _SHORT_DEADLINE))
    wait_until(lambda: at_work(tmp_path / "out"))
    time.sleep(0.1)  # the first document is with the engine
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert 0.4 < time.monotonic() - sent < 3
    assert process.returncode == 75


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_signal_before_the_work(start: Start, notes: Path, number: int) -> None:
    """Faults 22 and 24: a signal while the program starts has the same code, and no traceback."""
    process = start(notes, 0.4, python=("-c", _EARLY))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert "Traceback" not in stderr
    assert process.returncode == (130 if number == signal.SIGINT else 75)


def test_ask_is_left_at_once(tmp_path: Path, clean_env: dict[str, str]) -> None:
    """SIGINT ends a question with 130; there is nothing to drain, and no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-c", _ASKED, "ask", "What?", "--engine", "echo"],
        cwd=tmp_path,
        env=clean_env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_max_time_leaves_work(cli: Callable[..., Any], notes: Path, tmp_path: Path) -> None:
    """`--max-time` ends a run with 75 while work is left, and with 0 when none is."""
    args = ("run", notes, "-o", "out", "--engine", "echo", "--echo-delay", "0.8")
    first = cli(*args, "--max-time", "2s")
    assert first.returncode == 75 and "work remains" in first.stderr
    done = len(lines(tmp_path / "out"))
    assert 1 <= done < 4
    assert cli(*args, "--max-time", "1m").returncode == 0
    assert len(lines(tmp_path / "out")) == 4


def test_time_up_with_the_last_document(cli: Callable[..., Any], notes: Path) -> None:
    """A time that was up when all was done is no reason to run again."""
    args = ("run", notes / "a.md", "-o", "out", "--engine", "echo", "--echo-delay", "2.5")
    assert cli(*args, "--max-time", "1.5s").returncode == 0


def test_75_comes_before_3_and_4(cli: Callable[..., Any], notes: Path) -> None:
    """While work is left, neither a failed document nor a gate decides."""
    (notes / "a.md").write_bytes(b"")
    args = ("run", notes, "-o", "out", "--engine", "echo", "--echo-delay", "0.3")
    gate = ("--fail-on", "failed", "--max-time", "0.2s")
    assert cli(*args, *gate).returncode == 75


@pytest.mark.parametrize(
    ("status", "fail_on", "stopped", "left", "code"),
    [
        ({"ok": 1}, set(), None, 0, 0),
        ({"flagged": 1}, set(), None, 0, 0),
        ({"flagged": 1}, {"flagged"}, None, 0, 4),
        ({"failed": 1}, set(), None, 0, 3),
        ({"rejected": 1}, set(), None, 0, 3),
        ({"rejected": 1}, {"failed"}, None, 0, 4),
        ({"failed": 1, "flagged": 1}, {"flagged"}, None, 0, 4),
        ({"failed": 1}, {"flagged"}, None, 0, 3),
        ({"failed": 1}, {"failed"}, 75, 1, 75),
        ({"failed": 1}, {"failed"}, 75, 0, 4),
        ({"failed": 1}, {"failed"}, 130, 0, 130),
    ],
)
def test_precedence(
    status: dict[str, int], fail_on: set[str], stopped: int | None, left: int, code: int
) -> None:
    """130, 75, 4, 3, 0: the first that applies."""
    totals = Totals(left=left)
    totals.status.update(status)
    assert exit_code(totals, fail_on, stopped) == code


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("8h", 28800), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    """What `--max-time` takes."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "-5m", "nan", "inf", "8 days", "1d"])
def test_no_durations(text: str) -> None:
    """What it does not take is a usage error that does not quote it."""
    with pytest.raises(UsageError):
        parse_duration(text)


def test_second_run_leaves_the_folder_alone(
    start: Start, cli: Callable[..., Any], notes: Path, tmp_path: Path
) -> None:
    """Fault 16: while one run holds the folder, another leaves with 75 at once."""
    process = start(notes, 60)
    wait_until((tmp_path / "out" / "records.jsonl").exists)
    began = time.monotonic()
    second = cli("run", notes, "-o", "out", "--engine", "echo")
    assert second.returncode == 75 and "Another run" in second.stderr
    assert time.monotonic() - began < 5
    assert process.poll() is None and lines(tmp_path / "out") == []


def test_run_after_the_holder_was_killed(
    start: Start, cli: Callable[..., Any], notes: Path, tmp_path: Path
) -> None:
    """Fault 17: a lock dies with its holder; the next run does all the work."""
    process = start(notes, 60)
    wait_until((tmp_path / "out" / "records.jsonl").exists)
    process.kill()
    process.wait(10)
    assert cli("run", notes, "-o", "out", "--engine", "echo").returncode == 0
    assert len(lines(tmp_path / "out")) == 4


def test_first_signal_after_the_time_was_up(start: Start, notes: Path, tmp_path: Path) -> None:
    """A time that is up is no signal: the first one still lets the document in hand finish."""
    process = start(notes, 3, "--max-time", "2s")
    wait_until(lambda: at_work(tmp_path / "out"))
    time.sleep(2.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 75
    assert len(lines(tmp_path / "out")) == 1
