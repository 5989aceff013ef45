"""`OUT/attempts.jsonl`: what was being worked on, should the process die.

A line before a document is made ready by the host, and one before documents go to the device.
What was under way when the process died is a *suspect* of the next run: taken last, and alone. A
suspect during which the process crashed three times while it was alone is poison. A kill from
outside blames nobody, however often it comes.
"""

import contextlib
import hashlib
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from medgemma_cli.files import QUARANTINE, make_folder, replace_file
from medgemma_cli.ledger import endings
from medgemma_cli.ledger.appending import AppendOnly, storage_error
from medgemma_cli.ledger.book import Ledger
from medgemma_cli.ledger.story import END, Story, encoded, lines_of

ATTEMPTS = "attempts.jsonl"
CRASHES = 3


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
                    self._file.append(END)
                self._file.close()
            if self._trace is not None:
                self._trace.close()
            self._file = self._trace = None

    # -- the run before -----------------------------------------------------------------------

    def _read(self) -> Story:
        story = Story()
        try:
            for line in lines_of(self._path):
                story.take(line)
        except OSError as error:
            self._ledger.warnings.append(
                f"{ATTEMPTS} cannot be read ({error.strerror}): what was under way when a run died "
                "is not known."
            )
        return story

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
            self._file.append(encoded({**line, "at": self._ledger.size, "alone": self.alone}))

    def _begin(self) -> None:
        """Put what is still of interest in place of the old lines."""
        lines: list[dict[str, Any]] = [
            {"event": "suspect", "key": key, "crashes": count, "at": self._ledger.size}
            for key, count in self.suspects.items()
        ]
        lines.append({"event": "start", "mark": endings.mark()})
        try:
            self._make_way(self._path)
            replace_file(self._path, b"".join(map(encoded, lines)), fsync=False)
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
