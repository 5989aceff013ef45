"""How the last process ended: of its own fault, or killed from outside.

A crash leaves the trace that `faulthandler` writes on SIGSEGV, SIGFPE, SIGABRT, SIGBUS and
SIGILL (functions and line numbers, no values). The kernel's out-of-memory killer sends SIGKILL,
like an operator, but counts: `oom_kill` in the memory.events of the process's control group, or
in /proc/vmstat where there is none (then for the whole machine).
Where neither speaks, nobody is to blame.
"""

import contextlib
import faulthandler
import os
import stat
from pathlib import Path

TRACE = ".crash"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/proc/vmstat")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def mark() -> list[object]:
    """The boot, who counts, and how often the kernel had killed for memory."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = _BOOT.read_text("ascii").strip()
    counter = _counter()
    return [boot, str(counter), _oom_kills(counter)]


def _counter() -> Path:
    """This process's control group's own count, or else the machine's."""
    with contextlib.suppress(OSError, ValueError):
        for line in _GROUP.read_text("utf-8").splitlines():
            if line.startswith("0::/"):
                own = _GROUPS / line[4:] / "memory.events"
                return own if own.is_file() else _MACHINE
    return _MACHINE


def _oom_kills(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text("ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def out_of_memory(before: object) -> bool:
    """Whether the kernel has killed for memory since a `mark`, in the same boot."""
    after = mark()
    if not isinstance(before, list) or len(before) != len(after) or before[:2] != after[:2]:
        return False
    was, now = before[2], after[2]
    return isinstance(was, int) and isinstance(now, int) and now > was


class Trace:
    """`OUT/.crash`, to which a crash of this process writes; gone again after an orderly end.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / TRACE
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        # The C handler keeps the number: the descriptor stays open until `close`.
        faulthandler.enable(self._descriptor, all_threads=True)

    def close(self) -> None:
        """Stop listening, and remove the file."""
        faulthandler.disable()
        os.close(self._descriptor)
        # Left behind it is empty, and an empty trace tells of no crash.
        with contextlib.suppress(OSError):
            self._path.unlink()


def last_trace(out: Path) -> bytes:
    """What the last crash left; empty if there was none."""
    path = out / TRACE
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            return path.read_bytes()
    return b""
