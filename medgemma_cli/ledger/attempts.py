"""`OUT/attempts.jsonl`: what was being worked on, should the process die.

A line before a document is made ready by the host, and one before documents go to the device.
What was under way when the process died is a *suspect* of the next run: taken last, and alone. A
suspect during which the process crashed three times while it was alone is poison. A kill from
outside blames nobody, however often it comes.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medgemma_cli.files import make_folder, replace_file
from medgemma_cli.ledger import endings
from medgemma_cli.ledger.appending import AppendOnly, storage_error
from medgemma_cli.ledger.book import QUARANTINE, Ledger
from medgemma_cli.ledger.lines import raw_lines, read_object

ATTEMPTS = "attempts.jsonl"
CRASHES = 3
_MOST = 1_000_000  # a count over it is damage


@dataclass
class _Story:
    """What the lines of a journal tell, one after the other; damaged ones tell nothing.

    Attributes:
        carried: suspects of earlier runs: key → crashes, and the ledger's size at that time.
        open: whether the last run began something and came to no end.
        mark: of its beginning, see `endings`.
    """

    carried: dict[str, tuple[int, int]] = field(default_factory=dict)
    open: bool = False
    mark: object = None
    _prepared: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _generated: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """One more line."""
        alone = line.get("alone") is True
        match line:
            case {"event": "suspect", "key": str(key), "crashes": int(crashes), "at": int(at)}:
                if 0 <= crashes <= _MOST:
                    self.carried[key] = (crashes, at)
            case {"event": "start"}:
                self.open, self.mark = True, line.get("mark")
                self._prepared, self._generated = {}, {}
            case {"event": "end"}:
                self.open = False
            case {"event": "prepare", "key": str(key), "at": int(at)}:
                # The host makes one ready after the other.
                self.open, self._prepared = True, {key: (at, alone)}
            case {"event": "generate", "keys": list(keys), "at": int(at)}:
                self.open = True
                self._generated |= {key: (at, alone) for key in keys if isinstance(key, str)}
            case {"event": "load"}:
                self._prepared = {key: (at, False) for key, (at, _) in self._prepared.items()}

    def under_way(self) -> dict[str, tuple[int, bool]]:
        """What the last run had begun: key → the ledger's size then, and whether it was alone."""
        return self._prepared | self._generated


class Attempts:
    """The journal of one output folder, for the one who holds its ledger. A context manager.

    Nothing is written before the first attempt. Its lines are not synced: a power loss is no
    document's fault.

    Args:
        ledger: open; says what has come to a record since, and is warned of what is amiss.
        trace: whether a crash of this process leaves its trace in the folder.

    Attributes:
        suspects: key → how often the process crashed while that document was alone.
    """

    def __init__(self, ledger: Ledger, *, trace: bool = False) -> None:
        self._ledger = ledger
        self._path = ledger.out / ATTEMPTS
        self._wants_trace = trace
        self._trace: endings.Trace | None = None
        self._file: AppendOnly | None = None
        self._writing = threading.Lock()  # host and device both write
        self._closed = False
        self.suspects: dict[str, int] = {}
        self.alone = False

    def __enter__(self) -> Self:
        """Find the suspects of the run before.

        Raises:
            StorageError: 74.
        """
        story = self._read()
        self.suspects = {
            key: crashes
            for key, (crashes, at) in story.carried.items()
            if not self._settled(key, at, failed=crashes == 0)
        }
        if story.open:
            crashed = self._keep_trace() or endings.out_of_memory(story.mark)
            for key, (at, alone) in story.under_way().items():
                if not self._settled(key, at, failed=True):
                    self.suspects[key] = self.suspects.get(key, 0) + (crashed and alone)
            # At once: the next run must not find this death again, nor forget it.
            self._begin()
        elif self._wants_trace:
            # A kill after an orderly end may have left it, empty.
            with contextlib.suppress(OSError):
                (self._ledger.out / endings.TRACE).unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._writing:
            # The device's thread may not know yet that this is the end.
            self._closed = True
            if self._file is not None:
                # With the disk full there may be no room to say so; then there are suspects.
                with contextlib.suppress(Exception):
                    self._file.append(_END)
                self._file.close()
            if self._trace is not None:
                self._trace.close()
            self._file = self._trace = None

    # -- the run before -----------------------------------------------------------------------

    def _read(self) -> _Story:
        story = _Story()
        try:
            for line in self._lines():
                story.take(line)
        except OSError as error:
            self._ledger.warnings.append(
                f"{ATTEMPTS} cannot be read ({error.strerror}): what was under way when a run died "
                "is not known."
            )
        return story

    def _lines(self) -> Iterator[dict[str, Any]]:
        """All lines; after an orderly end those that are carried on, which stand first."""
        if not os.path.lexists(self._path):
            return
        if not self._path.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        with self._path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(_END)))
            ended = file.read() == _END
        for _, raw in raw_lines(self._path):
            if (line := read_object(raw)) is not None:
                if ended and line.get("event") == "start":
                    return
                yield line

    def _settled(self, key: str, at: int, *, failed: bool) -> bool:
        """Whether the key has had a record since; with `failed`, a failure will do.

        What was noted behind the ledger's end belongs to a ledger that is gone.
        """
        entry = self._ledger.by_key.get(key)
        if at > self._ledger.size:
            return True
        return entry is not None and entry.offset >= at and (failed or entry.status != "failed")

    def _keep_trace(self) -> bool:
        """Whether a crash left its trace, which is kept in the quarantine."""
        trace = endings.last_trace(self._ledger.out)
        if not trace:
            return False
        name = f"crash-{hashlib.sha256(trace).hexdigest()[:16]}"
        with contextlib.suppress(OSError):
            replace_file(self._ledger.out / QUARANTINE / name, trace)
            self._ledger.warnings.append(f"the run before crashed; see {QUARANTINE}/{name}.")
        return True

    # -- this run -----------------------------------------------------------------------------

    def prepare(self, key: str) -> None:
        """The host begins to make this document ready.

        Raises:
            StorageError: 74.
        """
        self._note({"event": "prepare", "key": key})

    def generate(self, keys: Sequence[str]) -> None:
        """These go to the device together; may be called in the device's thread.

        With none, what comes now is no document's fault: the model is loaded.

        Raises:
            StorageError: 74.
        """
        self._note({"event": "generate", "keys": list(keys)} if keys else {"event": "load"})

    def crashes(self, key: str) -> int:
        """How often the process crashed while this document was alone."""
        return self.suspects.get(key, 0)

    def forget(self) -> None:
        """A new ledger begins, and with it a new count.

        Raises:
            StorageError: 74.
        """
        self.suspects.clear()
        with self._writing:
            if os.path.lexists(self._path):
                self._begin()

    def _note(self, line: dict[str, Any]) -> None:
        with self._writing:
            if self._closed:
                return
            if self._file is None:
                self._begin()
            assert self._file is not None
            self._file.append(_encoded({**line, "at": self._ledger.size, "alone": self.alone}))

    def _begin(self) -> None:
        """Put what is still of interest in place of the old lines."""
        lines: list[dict[str, Any]] = [
            {"event": "suspect", "key": key, "crashes": count, "at": self._ledger.size}
            for key, count in self.suspects.items()
        ]
        lines.append({"event": "start", "mark": endings.mark()})
        try:
            self._make_way(self._path)
            replace_file(self._path, b"".join(map(_encoded, lines)), fsync=False)
            if self._file is not None:
                self._file.close()
            self._file = AppendOnly(self._path, fsync=False)
            if self._wants_trace and self._trace is None:
                self._make_way(self._ledger.out / endings.TRACE)
                self._trace = endings.Trace(self._ledger.out)
        except OSError as error:
            raise storage_error(error) from None

    def _make_way(self, path: Path) -> None:
        """Whatever stands where a file of ours belongs goes to the quarantine."""
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            folder = self._ledger.out / QUARANTINE
            make_folder(folder)
            os.replace(path, folder / f"{path.name.strip('.')}-{secrets.token_hex(8)}")


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


_END = _encoded({"event": "end"})
