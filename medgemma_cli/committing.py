"""Records in; lines of the ledger and summaries out, made durable in groups.

A record is appended at once: a kill cannot take it. What a power loss could take waits for one
fsync with others that come within a few milliseconds: the ledger first, then their summaries,
and only then are they told of as done.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from medgemma_cli import summaries
from medgemma_cli.ledger import Ledger
from medgemma_cli.records import Record

GROUP = 32
WAIT = 0.02
_NO_PLACE = {"output_exists", "output_too_long"}


def has_page(record: Record) -> bool:
    """Whether a record has a summary file: not where a file of somebody else stands."""
    refused = record.error is not None and record.error.code in _NO_PLACE
    return record.summary is not None and not refused


class Committer:
    """Commits to one ledger, from one thread. A context manager: what is left is flushed.

    Args:
        tell: called with each record that is durable, in order; maybe from the timer's thread,
            but never twice at once.
        group: how many records wait for each other at most.
        wait: seconds that one waits for others at most.
    """

    def __init__(
        self,
        ledger: Ledger,
        tell: Callable[[Record], None],
        *,
        fsync: bool = True,
        group: int = GROUP,
        wait: float = WAIT,
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._fsync = fsync
        self._size = group if fsync else 1
        self._wait = wait
        self._waiting: list[Record] = []
        self._flush_at = 0.0
        self._failed: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._timer = threading.Thread(target=self._watch, name="committer", daemon=True)

    def __enter__(self) -> Self:
        if self._size > 1:
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with self._changed:
                self._closed = True
                self._changed.notify()
                # What ends the run already is what the user is told.
                told = error is not None
                with contextlib.suppress(Exception) if told else contextlib.nullcontext():
                    self.flush()
        finally:
            if self._size > 1:
                self._timer.join()

    def put(self, record: Record) -> None:
        """Commit a record; its summary follows within the group.

        Raises:
            StorageError: 74, now or for an earlier record.
            RunAgainError: 75, the lock file was removed.
        """
        with self._changed:
            self._raise()
            self._ledger.append(record)
            self._waiting.append(record)
            if len(self._waiting) >= self._size:
                self.flush()
            elif len(self._waiting) == 1:
                self._flush_at = time.monotonic() + self._wait
                self._changed.notify()

    def flush(self) -> None:
        """Make what waits durable, and tell of it.

        Raises:
            StorageError: 74.
        """
        with self._changed:
            self._raise()
            group, self._waiting = self._waiting, []
            if not group:
                return
            self._ledger.sync()
            pages = [
                (record.summary, summaries.render(record))
                for record in group
                if record.summary is not None and has_page(record)
            ]
            summaries.write(self._ledger.out, pages, fsync=self._fsync)
            for record in group:
                self._tell(record)

    def _raise(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._flush_at - time.monotonic() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                try:
                    self.flush()
                except BaseException as error:  # the other thread raises it
                    self._failed = error
