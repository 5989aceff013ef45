"""What a power cut would leave of a folder: the names and the bytes that were synced, no others."""

import os
import stat
from pathlib import Path

# As they were on import: the shim puts its own in their place.
_open, _close, _read, _write = os.open, os.close, os.read, os.write
_mkdir, _rmdir, _unlink = os.mkdir, os.rmdir, os.unlink


class Durable:
    """The bytes of each file at its last fsync, the names in each folder at its last.

    All that stands when it is made counts as synced. The folder itself always lasts.
    """

    def __init__(self, out: Path) -> None:
        self._top = str(out)
        self._bytes: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int | None]] = {}
        for folder, _, files in os.walk(out):
            name = os.path.relpath(folder, out)
            self._names["" if name == "." else name] = _listing(folder)
            for file in files:
                path = f"{folder}/{file}"
                self._bytes[os.stat(path).st_ino] = _content(path)

    def made(self, descriptor: int) -> None:
        """A new file: none of its bytes are synced, whatever had its number before."""
        self._bytes.pop(os.fstat(descriptor).st_ino, None)

    def sync(self, descriptor: int, name: str) -> None:
        """A file's bytes, or a folder's names, will last from now on."""
        status = os.fstat(descriptor)
        path = f"{self._top}/{name}"
        if stat.S_ISDIR(status.st_mode):
            self._names[name] = _listing(path)
        elif os.stat(path).st_ino == status.st_ino:
            self._bytes[status.st_ino] = _content(path)

    def cut(self, *, names_kept: bool) -> None:
        """Leave what was synced; with `names_kept`, every name and the bytes that were synced."""
        if not os.path.isdir(self._top):
            return
        tree: dict[str, bytes | None] = {}
        stack = [""]
        while stack:
            folder = stack.pop()
            path = f"{self._top}/{folder}"
            names = _listing(path) if names_kept else self._names.get(folder, {})
            for name, number in names.items():
                below = f"{folder}/{name}".lstrip("/")
                tree[below] = None if number is None else self._bytes.get(number, b"")
                if number is None:
                    stack.append(below)
        self._empty()
        for below, data in tree.items():
            path = f"{self._top}/{below}"
            if data is None:
                _mkdir(path, 0o700)
            else:
                descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                _write(descriptor, data)
                _close(descriptor)

    def _empty(self) -> None:
        for folder, folders, files in os.walk(self._top, topdown=False):
            for name in files:
                _unlink(f"{folder}/{name}")
            for name in folders:
                _rmdir(f"{folder}/{name}")


def _listing(folder: str) -> dict[str, int | None]:
    try:
        with os.scandir(folder) as entries:
            return {e.name: None if e.is_dir() else e.inode() for e in entries}
    except FileNotFoundError:
        return {}


def _content(path: str) -> bytes:
    descriptor = _open(path, os.O_RDONLY)
    try:
        data = b""
        while more := _read(descriptor, 1 << 20):
            data += more
        return data
    finally:
        _close(descriptor)
