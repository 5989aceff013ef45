"""How the last process ended: of its own fault, or killed from outside.

A crash leaves the trace that `faulthandler` writes on SIGSEGV, SIGFPE, SIGABRT, SIGBUS and
SIGILL (functions and line numbers, no values). The kernel's out-of-memory killer sends SIGKILL,
like an operator, but counts: `oom_kill` in /proc/vmstat and in the control group's memory.events.
Where neither speaks, nobody is to blame.
"""

import contextlib
import faulthandler
import os
import stat
from pathlib import Path

TRACE = ".crash"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


def mark() -> list[object]:
    """The boot, and how often the kernel had killed for memory; to be compared with `killed`."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = _BOOT.read_text("ascii").strip()
    return [boot, *(_oom_kills(path) for path in _COUNTERS)]


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
    if not isinstance(before, list) or len(before) != len(after) or before[0] != after[0]:
        return False
    pairs = zip(before[1:], after[1:], strict=True)
    return any(isinstance(a, int) and isinstance(b, int) and b > a for a, b in pairs)


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
