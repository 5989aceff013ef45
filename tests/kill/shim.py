"""Every system call that changes a folder becomes a numbered step at which to die.

Knows nothing of the product but how its files are called: it patches `os`, in this process.
"""

import builtins
import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from power import Durable

WRITES = ("before", "half", "last", "after", "power", "empty")
OTHERS = ("before", "after", "power", "empty")


class Kill(NamedTuple):
    """Where to die: at the step of this number (from 1), in one of these ways.

    `before` and `after` the call; with `half` of the bytes or all but the `last` one written;
    in a `power` cut, which takes along whatever was not synced; or in one that takes the bytes
    but leaves the names (`empty`).
    """

    step: int
    variant: str


def variants(kind: str) -> tuple[str, ...]:
    """The ways to die at a step of this kind."""
    return WRITES if kind.startswith(("write", "append")) else OTHERS


def kind_of(call: str, name: str, *, folder: bool = False) -> str:
    """What a call does, in words: `append records`, `rename summary`, `sync folder`."""
    base = name.rpartition("/")[2]
    if folder or not name:
        what = "folder"
    elif base.startswith(".medgemma-"):
        what = "temporary"
    elif name.startswith("quarantine/"):
        what = "quarantined"
    elif base in ("records.jsonl", "attempts.jsonl"):
        what = base.removesuffix(".jsonl")
        call = "append" if call == "write" else call
    elif name in (".lock", ".crash"):
        what = name[1:]
    elif base.endswith(".md"):
        what = "summary"
    else:
        what = "other"
    return f"{call} {what}"


class Shim:
    """Numbers what this process does below `out`, and ends it where it is told to.

    Args:
        tell: called with the kinds of all steps so far, just before death.
    """

    def __init__(self, out: Path, kill: Kill | None, tell: Callable[[list[str]], None]) -> None:
        self.steps: list[str] = []
        self._top = str(out)
        self._kill = kill
        self._tell = tell
        self._names: dict[int, str] = {}
        self._busy = threading.RLock()
        cut = kill is not None and kill.variant in ("power", "empty")
        self._durable = Durable(out) if cut else None
        self._real = {
            name: getattr(os, name)
            for name in (
                *("open", "close", "write", "fsync", "fdatasync", "ftruncate", "truncate"),
                *("replace", "rename", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"),
            )
        }

    def install(self) -> None:
        """From here on the calls of `os` are steps."""
        mine: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "close": self._close,
            "write": self._write,
            "fsync": self._by_descriptor("fsync", "sync"),
            "fdatasync": self._by_descriptor("fdatasync", "sync"),
            "ftruncate": self._by_descriptor("ftruncate", "cut"),
            "truncate": self._by_path("truncate", "cut"),
            "unlink": self._by_path("unlink", "unlink"),
            "remove": self._by_path("remove", "unlink"),
            "mkdir": self._by_path("mkdir", "make", folder=True),
            "rmdir": self._by_path("rmdir", "remove", folder=True),
            "replace": self._two_paths("replace"),
            "rename": self._two_paths("rename"),
            "link": self._two_paths("link"),
            "symlink": self._two_paths("symlink"),
        }
        for name, patched in mine.items():
            setattr(os, name, patched)
        io.open = builtins.open = _read_only(builtins.open, self._name)

    def _name(self, path: Any) -> str | None:
        """The name below OUT; empty for OUT itself, None for anything elsewhere."""
        if isinstance(path, int):
            return self._names.get(path)
        full = os.path.abspath(os.fsdecode(path))
        if full == self._top:
            return ""
        return full[len(self._top) + 1 :] if full.startswith(f"{self._top}/") else None

    def _step(self, kind: str, call: Callable[[], Any], parts: Callable[[int], Any]) -> Any:
        """Do it, or die of it; `parts` does as many bytes of it (a write's)."""
        with self._busy:
            self.steps.append(kind)
            if self._kill is None or self._kill.step != len(self.steps):
                return call()
            variant = self._kill.variant
            if variant in ("half", "last"):
                parts(-1 if variant == "last" else 0)
            elif variant == "after":
                call()
            elif self._durable is not None:
                self._durable.cut(names_kept=variant == "empty")
            self._tell(self.steps)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("still alive")

    def _open(self, path: Any, flags: int, *args: Any, **settings: Any) -> int:
        real, name = self._real["open"], self._name(path)
        if name is None:
            descriptor: int = real(path, flags, *args, **settings)
            return descriptor

        def call() -> int:
            opened: int = real(path, flags, *args, **settings)
            return opened

        new = flags & os.O_CREAT and not os.path.lexists(path)
        if new or flags & os.O_TRUNC:
            kind = kind_of("create" if new else "empty", name)
            descriptor = self._step(kind, call, lambda less: None)
            if new and self._durable is not None:
                self._durable.made(descriptor)
        else:
            descriptor = call()
        self._names[descriptor] = name
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._names.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        real, name = self._real["write"], self._names.get(descriptor)
        if name is None:
            done: int = real(descriptor, data)
            return done

        def some(less: int) -> None:
            raw = bytes(data)
            real(descriptor, raw[: len(raw) + less if less else len(raw) // 2])

        kind = kind_of("write", name)
        if kind == "append records" and bytes(data) == b"\n":
            kind = "append newline"
        written: int = self._step(kind, lambda: real(descriptor, data), some)
        return written

    def _by_descriptor(self, call: str, word: str) -> Callable[..., Any]:
        real = self._real[call]

        def patched(descriptor: int, *args: Any) -> Any:
            name = self._names.get(descriptor)
            if name is None:
                return real(descriptor, *args)
            folder = os.path.isdir(f"{self._top}/{name}")

            def done() -> None:
                real(descriptor, *args)
                if word == "sync" and self._durable is not None:
                    self._durable.sync(descriptor, name)

            return self._step(kind_of(word, name, folder=folder), done, lambda less: None)

        return patched

    def _by_path(self, call: str, word: str, *, folder: bool = False) -> Callable[..., Any]:
        real = self._real[call]

        def patched(path: Any, *args: Any, **settings: Any) -> Any:
            name = self._name(path)
            if name is None or (folder and os.path.lexists(path)):
                return real(path, *args, **settings)
            return self._step(
                kind_of(word, name, folder=folder),
                lambda: real(path, *args, **settings),
                lambda less: None,
            )

        return patched

    def _two_paths(self, call: str) -> Callable[..., Any]:
        real = self._real[call]

        def patched(source: Any, target: Any, *args: Any, **settings: Any) -> Any:
            name = self._name(target)
            if name is None:
                name = self._name(source)
            if name is None:
                return real(source, target, *args, **settings)
            return self._step(
                kind_of(call.replace("replace", "rename"), name),
                lambda: real(source, target, *args, **settings),
                lambda less: None,
            )

        return patched


def _read_only(real: Any, name: Callable[[Any], str | None]) -> Any:
    """`open` that refuses to write below OUT: such a write would be a step nobody counts."""

    def patched(file: Any, mode: str = "r", *args: Any, **settings: Any) -> Any:
        if set(mode) & set("wax+") and name(file) is not None:
            raise AssertionError("written with open(), not with os.write")
        return real(file, mode, *args, **settings)

    return patched
