"""The trace of a crash, and the kernel's count of those it killed for memory."""

import faulthandler
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgemma_cli.ledger import endings


@pytest.fixture(autouse=True)
def _faulthandler() -> Iterator[None]:
    """The tests' own handler is put back."""
    before = faulthandler.is_enabled()
    yield
    if before:
        faulthandler.enable(sys.__stderr__)


_CRASH = """
import os, signal, sys
from pathlib import Path
from medgemma_cli.ledger import endings

def work(document):
    os.kill(os.getpid(), int(sys.argv[2]))
    os._exit(0)

trace = endings.Trace(Path(sys.argv[1]))
work("CANARY")
"""


@pytest.mark.parametrize(
    ("number", "traced"),
    [
        (signal.SIGSEGV, True),
        (signal.SIGABRT, True),
        (signal.SIGBUS, True),
        (signal.SIGFPE, True),
        (signal.SIGILL, True),
        (signal.SIGKILL, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
    ],
)
def test_who_leaves_a_trace(tmp_path: Path, number: signal.Signals, traced: bool) -> None:
    """A crash says where it was; a kill says nothing."""
    command = [sys.executable, "-c", _CRASH, str(tmp_path), str(int(number))]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == -number and done.stderr == b""
    left = endings.last_trace(tmp_path)
    assert bool(left) is traced
    assert not traced or b"in work" in left
    assert b"CANARY" not in left


def test_a_trace_is_gone_after_an_orderly_end(tmp_path: Path) -> None:
    """While it listens there is an empty file, readable by its owner alone; then none."""
    trace = endings.Trace(tmp_path)
    assert (tmp_path / ".crash").stat().st_mode & 0o777 == 0o600
    assert endings.last_trace(tmp_path) == b""
    trace.close()
    assert not (tmp_path / ".crash").exists()


def test_an_old_trace_is_emptied(tmp_path: Path) -> None:
    """A new run listens for its own crash."""
    (tmp_path / ".crash").write_text("old")
    trace = endings.Trace(tmp_path)
    assert endings.last_trace(tmp_path) == b""
    trace.close()


def test_a_trace_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file may stay; the end stays orderly. Nor does it matter who removed it."""

    def cannot(path: object) -> None:
        raise OSError(30, "Read-only file system")

    trace = endings.Trace(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", cannot)
        trace.close()
    assert endings.last_trace(tmp_path) == b""
    trace = endings.Trace(tmp_path)
    (tmp_path / ".crash").unlink()
    trace.close()


def test_no_trace(tmp_path: Path) -> None:
    """No file, or something that is no file, tells of no crash."""
    assert endings.last_trace(tmp_path) == b""
    (tmp_path / ".crash").mkdir()
    assert endings.last_trace(tmp_path) == b""
    (tmp_path / ".crash").rmdir()
    os.mkfifo(tmp_path / ".crash")
    assert endings.last_trace(tmp_path) == b""


def test_a_mark_of_this_system() -> None:
    """Nothing has been killed since a moment ago, or at least nothing is raised."""
    before = endings.mark()
    assert len(before) == 3 and Path(str(before[1])).is_file()
    assert endings.out_of_memory(before) in (False, True)


@pytest.mark.parametrize(
    "before",
    [None, [], "x", 7, {"a": 1}, ["boot"], ["boot", "", 0, 0], ["boot", "?", 0], [None, 0, 0]],
)
def test_a_mark_that_makes_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: object
) -> None:
    """It is compared with nothing."""
    (tmp_path / "boot").write_text("boot")
    (tmp_path / "vmstat").write_text("oom_kill 9\n")
    monkeypatch.setattr(endings, "_BOOT", tmp_path / "boot")
    monkeypatch.setattr(endings, "_GROUP", tmp_path / "none")
    monkeypatch.setattr(endings, "_MACHINE", tmp_path / "vmstat")
    assert not endings.out_of_memory(before)
    assert not endings.out_of_memory(["boot", str(tmp_path / "vmstat"), "8"])
    assert endings.out_of_memory(["boot", str(tmp_path / "vmstat"), 8])


def test_a_system_without_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither file is there, nobody was killed for memory."""
    monkeypatch.setattr(endings, "_BOOT", tmp_path / "none")
    monkeypatch.setattr(endings, "_GROUP", tmp_path / "none")
    monkeypatch.setattr(endings, "_MACHINE", tmp_path)
    assert endings.mark() == ["", str(tmp_path), 0]
    assert not endings.out_of_memory(endings.mark())


@pytest.mark.parametrize(
    ("line", "counts"), [("0::/unit/run\n", True), ("0::/\n", False), ("1:cpu:/unit/run\n", False)]
)
def test_the_own_control_group_counts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, counts: bool
) -> None:
    """What the kernel kills elsewhere on the machine is nobody's fault here."""
    own = tmp_path / "groups" / "unit" / "run" / "memory.events"
    own.parent.mkdir(parents=True)
    own.write_text("oom 7\noom_kill 3\n")
    (tmp_path / "cgroup").write_text(f"2:devices:/x\n{line}")
    (tmp_path / "vmstat").write_text("oom_kill 9\n")
    monkeypatch.setattr(endings, "_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(endings, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(endings, "_MACHINE", tmp_path / "vmstat")
    assert endings.mark()[1:] == ([str(own), 3] if counts else [str(tmp_path / "vmstat"), 9])
