"""A file at which its reader crashes, hangs or swells: that document is lost, the run is not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty import gone, plant
from outcomes import ECHO, Run, assert_whole, lines

# A second for each document, in place of a minute.
_SHORT = """
from medgemma_cli.readers.pool import ReaderPool
ReaderPool.__init__.__kwdefaults__["seconds"] = 1
from medgemma_cli.cli import main
main()
"""
_PYTHON = ("-c", _SHORT)
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Start]:
    """Start the command in a process group of its own; what still runs at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*args: object, path: str, delay: float = 0.0) -> "subprocess.Popen[bytes]":
        command = [sys.executable, *_PYTHON, "run", *map(str, args), "-o", "out", *ECHO]
        process = subprocess.Popen(
            [*command, "--echo-delay", str(delay)],
            cwd=tmp_path,
            env={**clean_env, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def wait_for(true: Callable[[], bool]) -> None:
    """Until something is so."""
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def readers_of(process: "subprocess.Popen[bytes]") -> list[int]:
    """The reader processes of a run."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").parent.parent
    found = [path.read_text().split() for path in children.glob("*/children")]
    return [int(pid) for pids in found for pid in pids if not gone(int(pid))]


def test_each_costs_itself(run: Run, folder: Path, tmp_path: Path) -> None:
    """Faults 56, 58, 95: code by code, the others ok, and not a word of theirs in the log."""
    codes = {
        "segv": "failed/reader_crashed",
        "abort": "failed/reader_crashed",
        "raise": "failed/reader_crashed",
        "bomb": "rejected/limit",
        "loop": "rejected/timeout",
        "sleep": "rejected/timeout",
    }
    for word in codes:
        (folder / f"{word}.md").write_text(f"!{word}")
    for n in range(4):
        (folder / f"n{n}.md").write_text(f"Slept well, {n} times.\n")
    done = run(folder, python=_PYTHON, env={"PYTHONPATH": plant(tmp_path / "site")})
    assert done.code == 3
    assert {word: done.ended(f"{word}.md") for word in codes} == codes
    assert [done.ended(f"n{n}.md") for n in range(4)] == ["ok"] * 4
    assert "CANARY" not in done.stderr + done.stdout and "Traceback" not in done.stderr
    again = run(folder)  # with honest readers: what is rejected is not tried again
    assert again.code == 3 and len(again.lines) == 10
    assert run(folder, "--retry-failed").ended("segv.md") == "ok"


def test_killed_while_a_reader_hangs(start: Start, run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 20: the reader of a run that was killed does not keep the folder, nor itself."""
    (folder / "a.md").write_text("!sleep")
    process = start(folder, path=plant(tmp_path / "site"))
    wait_for(lambda: (tmp_path / "out" / "attempts.jsonl").exists())
    wait_for(lambda: len(readers_of(process)) == 1)
    (reader,) = readers_of(process)
    process.kill()
    process.wait(60)
    assert run(folder).code == 0
    assert_whole(tmp_path / "out", 1)
    wait_for(lambda: gone(reader))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["INT", "TERM"]
)
def test_a_signal_to_all(
    start: Start, run: Run, notes: Path, tmp_path: Path, number: int, code: int
) -> None:
    """Faults 22, 24: readers are deaf to it, even while they start: the run drains, none fails."""
    process = start(notes, path=plant(tmp_path / "site", slow=1.0), delay=0.2)
    wait_for(lambda: len(readers_of(process)) > 0)
    wait_for(lambda: (tmp_path / "out" / "attempts.jsonl").exists())
    time.sleep(0.1)  # what comes before its main function is over in a moment
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    done = lines(tmp_path / "out")
    assert len(done) < 4 and all(line["status"] == "ok" for line in done)
    assert run(notes).code == 0
    assert_whole(tmp_path / "out", 4)
