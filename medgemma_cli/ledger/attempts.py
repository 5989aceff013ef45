"""`OUT/attempts.jsonl`: what was being worked on, should the process die.

A line before a document is made ready by the host, and one before documents go to the device.
What was under way when the process died is a *suspect* of the next run: taken last, and alone. A
suspect during which the process crashed three times while it was alone is poison. A kill from
outside blames nobody, however often it comes.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from medgemma_cli.files import replace_file
from medgemma_cli.ledger import endings
from medgemma_cli.ledger.appending import AppendOnly, storage_error
from medgemma_cli.ledger.book import QUARANTINE, Ledger
from medgemma_cli.ledger.lines import raw_lines, read_object

ATTEMPTS = "attempts.jsonl"
CRASHES = 3


class Attempts:
    """The journal of one output folder, for the one who holds its ledger. A context manager.

    Nothing is written before the first attempt. Its lines are not synced: a power loss is no
    document's fault.

    Args:
        ledger: open; says what has come to a record since.
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
        self.suspects: dict[str, int] = {}
        self.alone = False

    def __enter__(self) -> Self:
        """Find the suspects of the run before.

        Raises:
            StorageError: 74.
        """
        lines = self._read()
        starts = [n for n, line in enumerate(lines) if line.get("event") == "start"]
        self.suspects = self._carried(lines)
        if starts and lines[-1].get("event") != "end":
            session = lines[starts[-1] :]
            crashed = self._keep_trace() or endings.out_of_memory(session[0].get("mark"))
            for key, alone in self._under_way(session).items():
                self.suspects[key] = self.suspects.get(key, 0) + (crashed and alone)
            # At once: the next run must not find this death again, nor forget it.
            self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # With the disk full there may be no room to say so; then there are suspects.
            with contextlib.suppress(Exception):
                self._write({"event": "end"})
            self._file.close()
        if self._trace is not None:
            self._trace.close()
        self._file = self._trace = None

    # -- the run before -----------------------------------------------------------------------

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        read = (read_object(raw) for _, raw in raw_lines(self._path))
        return [line for line in read if line is not None]

    def _carried(self, lines: list[dict[str, Any]]) -> dict[str, int]:
        """Suspects of earlier runs that have come to nothing better than a failure since."""
        return {
            key: line["crashes"]
            for line in lines
            if line.get("event") == "suspect"
            and isinstance(key := line.get("key"), str)
            and isinstance(line.get("crashes"), int)
            and not self._settled(key, line.get("at"), failed=line["crashes"] == 0)
        }

    def _under_way(self, session: list[dict[str, Any]]) -> dict[str, bool]:
        """Keys that were begun and not finished → whether they were alone."""
        found: dict[str, tuple[object, bool]] = {}
        prepared: dict[str, tuple[object, bool]] = {}
        for line in session:
            told = (line.get("at"), line.get("alone") is True)
            if line.get("event") == "prepare":
                # The host makes one ready after the other.
                prepared = {str(line.get("key")): told}
            elif line.get("event") == "generate" and isinstance(line.get("keys"), list):
                found.update({str(key): told for key in line["keys"]})
        return {
            key: alone
            for key, (at, alone) in {**prepared, **found}.items()
            if not self._settled(key, at, failed=True)
        }

    def _settled(self, key: str, at: object, *, failed: bool) -> bool:
        """Whether the key has had a record since; with `failed`, a failure will do."""
        entry = self._ledger.by_key.get(key)
        if entry is None or not isinstance(at, int) or entry.offset < at:
            return False
        return failed or entry.status != "failed"

    def _keep_trace(self) -> bool:
        """Whether a crash left its trace, which is kept in the quarantine."""
        trace = endings.last_trace(self._ledger.out)
        if trace:
            name = f"crash-{hashlib.sha256(trace).hexdigest()[:16]}"
            with contextlib.suppress(OSError):
                replace_file(self._ledger.out / QUARANTINE / name, trace)
        return bool(trace)

    # -- this run -----------------------------------------------------------------------------

    def prepare(self, key: str) -> None:
        """The host begins to make this document ready.

        Raises:
            StorageError: 74.
        """
        self._note({"event": "prepare", "key": key})

    def generate(self, keys: Sequence[str]) -> None:
        """These go to the device together; may be called in the device's thread.

        Raises:
            StorageError: 74.
        """
        self._note({"event": "generate", "keys": list(keys)})

    def crashes(self, key: str) -> int:
        """How often the process crashed while this document was alone."""
        return self.suspects.get(key, 0)

    def forget(self) -> None:
        """A new ledger begins, and with it a new count."""
        self.suspects.clear()

    def _note(self, line: dict[str, Any]) -> None:
        with self._writing:
            if self._file is None:
                self._begin()
            self._write({**line, "at": self._ledger.size, "alone": self.alone})

    def _begin(self) -> None:
        """Put what is still of interest in place of the old lines."""
        lines: list[dict[str, Any]] = [
            {"event": "suspect", "key": key, "crashes": count, "at": self._ledger.size}
            for key, count in self.suspects.items()
        ]
        lines.append({"event": "start", "mark": endings.mark()})
        try:
            replace_file(self._path, b"".join(map(_encoded, lines)), fsync=False)
            self._file = AppendOnly(self._path, fsync=False)
            if self._wants_trace:
                self._trace = endings.Trace(self._ledger.out)
        except OSError as error:
            raise storage_error(error) from None

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.append(_encoded(line))


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
