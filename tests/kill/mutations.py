"""Ways to break the ledger on purpose, each of which the enumeration has to notice."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli import files, summaries
from medgemma_cli.committing import Committer
from medgemma_cli.ledger import Attempts, Ledger
from medgemma_cli.projection import Projection


class Mutant(NamedTuple):
    """A way to break the product in this process.

    Attributes:
        states: where it must be noticed.
        noticed: words of the violation that it must come to.
    """

    apply: Callable[[], None]
    states: tuple[str, ...]
    noticed: str


def _nothing(*args: Any, **settings: Any) -> None:
    """In place of something that ought to be done."""


def no_repair() -> None:
    """A torn tail is left, and the next record is glued to it."""
    _set(Ledger, "_mend_tail", _nothing)


def cut_whole_line() -> None:
    """A whole last line that only lacks its newline is cut off as if it were torn."""

    def mend(self: Any, file: Any, offset: int, raw: bytes) -> None:
        self.quarantine(raw)
        file.cut(offset)
        file.sync()

    _set(Ledger, "_mend_tail", mend)


def no_quarantine() -> None:
    """What is cut off is kept nowhere."""
    _set(Ledger, "quarantine", _nothing)


def cut_before_quarantine() -> None:
    """A torn tail is cut off first, and kept then."""
    real: Any = Ledger._mend_tail

    def mend(self: Any, file: Any, offset: int, raw: bytes) -> None:
        file.cut(offset)
        file.sync()
        real(self, file, offset, raw)

    _set(Ledger, "_mend_tail", mend)


def summary_first() -> None:
    """The summary is written before its record."""
    real: Any = Committer.put

    def put(self: Any, record: Any) -> None:
        summaries.write(self._ledger.out, [(record.summary, summaries.render(record))])
        real(self, record)

    _set(Committer, "put", put)


def in_place() -> None:
    """Summaries are written over the old ones, without a temporary file."""

    def replace(pairs: Iterable[tuple[str | Path, bytes]], *, fsync: bool = True) -> None:
        for path, data in pairs:
            files.make_folder(Path(path).parent)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            files.write_all(descriptor, data)
            os.fsync(descriptor)
            os.close(descriptor)
            files.sync_folder(Path(path).parent)

    _set(files, "replace_files", replace)


def no_rebuild() -> None:
    """Missing summaries stay missing."""
    _set(Projection, "rebuild", _nothing)


def no_sweep() -> None:
    """Temporary files of a kill are left."""
    _set(summaries, "TEMPORARY", "\0")


def told_before_append() -> None:
    """A record is told to be finished before it is in the ledger."""
    real: Any = Committer.put

    def put(self: Any, record: Any) -> None:
        self._tell(record)
        real(self, record)

    _set(Committer, "put", put)


def told_before_sync() -> None:
    """A record is told to be finished when a power cut can still take it."""
    real: Any = Ledger.append

    def put(self: Any, record: Any) -> None:
        real(self._ledger, record)
        self._tell(record)
        self._waiting.append(record)
        self.flush()

    _set(Committer, "put", put)


def ledger_not_synced() -> None:
    """The ledger is never synced."""
    _set(Ledger, "sync", _nothing)


def temporary_not_synced() -> None:
    """A summary gets its name before its bytes are durable."""
    real: Any = files._sync

    def sync(path: str, flags: int = 0) -> None:
        if flags & os.O_DIRECTORY:
            real(path, flags)

    _set(files, "_sync", sync)


def index_forgotten() -> None:
    """What is finished is not found again."""
    _set(Ledger, "_open", _nothing)


def kills_blamed() -> None:
    """Every death is taken for a crash."""
    _set(Attempts, "_keep_trace", lambda self: True)


def _set(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{name} is not there any more"
    setattr(owner, name, value)


MUTANTS = {
    made.apply.__name__: made
    for made in (
        Mutant(no_repair, ("torn",), "a line is no record"),
        Mutant(cut_whole_line, ("no newline",), "the acknowledged record"),
        Mutant(no_quarantine, ("torn",), "not in the quarantine"),
        Mutant(cut_before_quarantine, ("torn",), "not in the quarantine"),
        Mutant(summary_first, ("deep",), "has no record"),
        Mutant(in_place, ("deep",), "is not what its record says"),
        Mutant(no_rebuild, ("changed",), "is missing"),
        Mutant(no_sweep, ("deep",), "a temporary file is left"),
        Mutant(told_before_append, ("deep",), "the acknowledged record"),
        Mutant(told_before_sync, ("changed",), "the acknowledged record"),
        Mutant(ledger_not_synced, ("changed",), "the acknowledged record"),
        Mutant(temporary_not_synced, ("deep",), "is not what its record says"),
        Mutant(index_forgotten, ("deep",), "has 2 records"),
        Mutant(kills_blamed, ("deep",), "ended as failed"),
    )
}
