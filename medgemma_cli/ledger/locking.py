"""One writer a folder: `flock` on a file that is never deleted or replaced."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from medgemma_cli.errors import ConfigError, OutputError, RunAgainError, StorageError

LOCK = ".lock"
_CANNOT_LOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Lock:
    """The lock of an output folder, held from its making until `release`.

    Args:
        shared: others may share it, and nobody has it alone: held by each shard of a folder.

    Raises:
        RunAgainError: 75, another run holds it.
        ConfigError: 78, the filesystem cannot lock.
        OSError: the lock file cannot be made.
    """

    def __init__(self, out: Path, *, shared: bool = False) -> None:
        self._path = out / LOCK
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(self._descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            # Somebody may have removed the file we hold and another run made a new one.
            if not self._is_file():
                raise _held_by_another()
        except BaseException:
            os.close(self._descriptor)
            raise
        _let_go_in_children()
        _held.add(self._descriptor)

    def check(self) -> None:
        """Without its file the lock keeps nobody out: stop before there are two writers.

        Raises:
            RunAgainError: 75, the lock file was removed or replaced.
        """
        if not self._is_file():
            raise RunAgainError(
                f"The lock file ({LOCK}) of the output folder was removed.",
                "Leave it where it is; when no other run is writing there, run again.",
            )

    def _is_file(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        """Let go. The lock file itself stays, for good."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            os.close(self._descriptor)


@contextlib.contextmanager
def opening(close: Callable[[], None]) -> Iterator[None]:
    """Whatever goes wrong while a folder is opened: it is let go of, and the system's word is ours.

    Raises:
        OutputError: 73, it cannot be written.
    """
    try:
        yield
    except (OSError, StorageError):
        close()
        raise OutputError(
            "The output folder cannot be written.", "Check -o, its permissions and free space."
        ) from None
    except BaseException:
        close()
        raise


def share(out: Path) -> int | None:
    """Keep writers out while looking; the descriptor to close. None where nobody ever locked.

    Raises:
        RunAgainError: 75, a run holds the folder.
    """
    try:
        descriptor = os.open(out / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        _take(descriptor, fcntl.LOCK_SH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _take(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held_by_another() from None
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            raise ConfigError(
                "The filesystem of the output folder cannot lock.", "Choose -o on a local disk."
            ) from None
        raise


def _held_by_another() -> RunAgainError:
    return RunAgainError(
        "Another run holds this output folder.", "Wait until it (or `verify`) ends, then run again."
    )


_held: set[int] = set()


@cache
def _let_go_in_children() -> None:
    """A forked child must not keep the lock alive after its parent."""

    def let_go() -> None:
        while _held:
            os.close(_held.pop())

    os.register_at_fork(after_in_child=let_go)
