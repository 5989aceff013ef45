"""The bytes of one file, as they were at one moment."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator

from medgemma_cli.errors import DocumentError

_TRIES = 3


def load_file(place: str, max_bytes: int) -> bytes:
    """Read a regular file, again (three times at most) if it changes underneath.

    Raises:
        DocumentError: ``vanished``, ``unreadable``, ``read_error``, ``unsupported`` (not a
            regular file), ``too_large`` (before reading) or ``unstable``.
    """
    with told():
        for _ in range(_TRIES):
            data, still = _read_once(place, max_bytes)
            if still:
                return data
    raise DocumentError("unstable")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What the system says of a file, as a code.

    Raises:
        DocumentError: ``vanished``, ``unreadable``, ``read_error``.
    """
    try:
        yield
    except FileNotFoundError:
        raise DocumentError("vanished") from None
    except PermissionError:
        raise DocumentError("unreadable") from None
    except OSError:
        raise DocumentError("read_error") from None


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _read_once(place: str, max_bytes: int) -> tuple[bytes, bool]:
    # O_NONBLOCK so that a FIFO put in the file's place cannot hang the run.
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise DocumentError("unsupported")
        if before.st_size > max_bytes:
            raise DocumentError("too_large")
        chunks = []
        remaining = max_bytes + 1
        while remaining > 0 and (chunk := os.read(descriptor, min(remaining, 1 << 20))):
            chunks.append(chunk)
            remaining -= len(chunk)
        data = b"".join(chunks)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return data, same and len(data) == after.st_size
