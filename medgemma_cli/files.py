"""Writing so that a kill leaves the old file or the new one, never half. Imports nothing local."""

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".medgemma-"
QUARANTINE = "quarantine"
SHARDS = ".shards"  # what array jobs write until it is merged


def make_folder(path: Path, *, fsync: bool = True) -> None:
    """Make a folder and its missing parents, each readable by its owner alone (0700)."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        if fsync:
            with contextlib.suppress(PermissionError):  # one may write into it, and not read it
                sync_folder(folder.parent)


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
    replace_files([(path, data)], fsync=fsync)


def replace_files(pairs: Iterable[tuple[str | Path, bytes]], *, fsync: bool = True) -> None:
    """Put several files in place, each at once; all are synced together, which is cheaper.

    Raises:
        OSError: as the system says; no temporary file is left, and of each path either the old
            file stands or the new one.
    """
    waiting: list[tuple[str, str]] = []
    try:
        for path, data in pairs:
            waiting.append((_temporary(_folder(path), data, fsync=fsync), str(path)))
        if fsync:
            for temporary, _ in waiting:
                _sync(temporary)
        folders = {_folder(path): None for _, path in waiting}
        while waiting:
            os.replace(*waiting[0])
            del waiting[0]
    finally:
        for temporary, _ in waiting:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    if fsync:
        for folder in folders:
            sync_folder(folder)


def replace_streamed(path: str | Path, chunks: Iterable[bytes], mark: str) -> None:
    """Put a file in place at once, as `replace_file`, that need not be in memory.

    Args:
        mark: names the writer, of which there is one at a time: what an earlier one that was
            killed has left beside the file is removed first.

    Raises:
        OSError: as the system says, and whatever `chunks` raises; the old file stands.
    """
    folder = _folder(path)
    if not os.path.isdir(folder):
        make_folder(Path(folder))
    temporary = f"{folder}/{TEMPORARY}{mark}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        _fill(temporary, chunks)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def _folder(path: str | Path) -> str:
    return os.path.dirname(path) or "."


def _temporary(folder: str, data: bytes, *, fsync: bool) -> str:
    if not os.path.isdir(folder):
        make_folder(Path(folder), fsync=fsync)
    temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(8)}.tmp"
    try:
        _fill(temporary, [data])
    except FileExistsError:
        raise
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return temporary


def _fill(path: str, chunks: Iterable[bytes]) -> None:
    """Make a file, for its owner alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        for chunk in chunks:
            write_all(descriptor, chunk)
    finally:
        os.close(descriptor)  # which may fail, too, on a disk across a network


def _sync(path: str, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    _sync(str(folder), os.O_DIRECTORY)
