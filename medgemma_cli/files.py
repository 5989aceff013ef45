"""Writing so that a kill leaves the old file or the new one, never half. Imports nothing local."""

import contextlib
import os
import secrets
from pathlib import Path

TEMPORARY = ".medgemma-"


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, each readable by its owner alone (0700)."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """`os.write` until all is written: one call may write only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: str | Path, data: bytes, *, fsync: bool = True) -> None:
    """Put a file in place at once: temporary file beside it, 0600, fsync, rename, folder fsync.

    Raises:
        OSError: as the system says; the temporary file is gone and the old file stands.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        make_folder(Path(folder))
    temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(8)}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            write_all(descriptor, data)
            if fsync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if fsync:
        sync_folder(folder)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
