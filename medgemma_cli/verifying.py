"""Ledger, summaries and sources against each other, without the model: what differs, and repair.

Looks only, unless told to repair. What it repairs is what follows from the ledger; a source that
changed or went away is told of, and the next run takes a changed one up.
"""

import contextlib
import hashlib
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from medgemma_cli import readers, summaries, views
from medgemma_cli.committing import has_page
from medgemma_cli.errors import DocumentError
from medgemma_cli.files import QUARANTINE, make_folder
from medgemma_cli.ledger import (
    ATTEMPTS,
    RECORDS,
    DamagedRecordError,
    Entry,
    Ledger,
)
from medgemma_cli.ledger.lines import parse_line, raw_lines
from medgemma_cli.readers.pool import Reading
from medgemma_cli.records import Record
from medgemma_cli.rereading import Rereading

REPAIRABLE = {
    "torn_line": "the last line is unfinished",
    "no_newline": "the last line lacks its newline",
    "damaged_line": "a line is no record, and is not in the quarantine yet",
    "summary_missing": "the summary is not there",
    "summary_stale": "the summary is of another record",
    "summary_altered": "the summary was changed by hand",
    "summary_outdated": "the summary is not what this version would write",
    "temporary_file": "a file that a killed run left",
    "permissions": "others than the owner may read it",
}
FINAL = {
    "record_invalid": "the record does not fit its schema; run its document again with --force",
    "summary_blocked": "something not written here is at the summary's path, or on its way",
    "summary_orphan": "a copy of a summary, or one whose record is gone; it is left",
    "views_missing": "the sheet of what the model saw is not there; run again to make it",
    "views_altered": "the sheet of what the model saw is another file; move it and run again",
    "views_orphan": "a sheet of what a model saw, of no current record; it is left",
    "source_gone": "the source is not where it was read",
    "source_changed": "the source has other bytes than were summarised",
    "quote_not_found": "a quote does not stand where the record says",
}
KINDS = REPAIRABLE | FINAL


class Difference(NamedTuple):
    """Something that is not as the ledger says.

    Attributes:
        kind: one of `KINDS`.
        name: the summary, source or file that it is about, as printable text.
        repaired: whether it is as it should be now.
    """

    kind: str
    name: str
    repaired: bool = False


class Verifier:
    """Compares one output folder with itself and its sources.

    Args:
        ledger: open; for writing if `repair`.

    Attributes:
        counts: records, summaries and sources that were looked at, and sources that could not be.
    """

    def __init__(self, ledger: Ledger, *, repair: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._ledger = ledger
        self._out = ledger.out
        self._repair = repair
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._quarantine = self._out / QUARANTINE / stamp

    def of_the_folder(self) -> Iterator[Difference]:
        """The folder's own, then those of each current record's summary.

        Raises:
            OSError: the folder cannot be read, or not be repaired.
            StorageError: 74.
            ConfigError: 78, there are summaries of a ledger that is gone.
        """
        if not self._ledger.current:
            summaries.refuse_orphans(self._out, list(summaries.walk(self._out)))
        yield from self._folder()
        for entry in self._ledger.current.values():
            self.counts["records"] += 1
            try:
                record = self._ledger.read(entry)
            except DamagedRecordError:
                yield Difference("record_invalid", entry.source)
            else:
                yield from self._summary(entry, record)
                yield from self._sheet(entry)

    def of_the_sources(self, reading: Reading, limits: readers.ReadLimits) -> Iterator[Difference]:
        """Those of each current record's source. Needs no lock: the ledger only grows.

        Args:
            limits: for records of versions that did not keep theirs.
        """
        for kind, name in Rereading(self._ledger, reading, limits, self.counts).differences():
            yield Difference(kind, name)

    # -- the folder ---------------------------------------------------------------------------

    def _folder(self) -> Iterator[Difference]:
        for name in sorted(summaries.walk(self._out)):
            if summaries.is_temporary(name):
                yield self._mended("temporary_file", name, lambda path: path.unlink())
            elif name not in self._ledger.current:
                key = summaries.key_of(self._out / name)
                if key in self._ledger.by_key:
                    yield Difference("summary_orphan", name)
        known = {views.name_of(e.slot) for e in self._ledger.current.values() if e.views}
        for name in sorted(views.walk(self._out)):
            if name not in known and views.key_of(self._out / name) is not None:
                yield Difference("views_orphan", name)
        for name in (RECORDS, ATTEMPTS):
            yield from self._permissions(name)

    def _permissions(self, name: str) -> Iterator[Difference]:
        path = self._out / name
        with contextlib.suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                yield self._mended("permissions", name, lambda path: path.chmod(0o600))

    def _mended(self, kind: str, name: str, mend: Callable[[Path], object]) -> Difference:
        if self._repair:
            mend(self._out / name)
        return Difference(kind, name, repaired=self._repair)

    # -- a record and its summary -------------------------------------------------------------

    def _summary(self, entry: Entry, record: Record) -> Iterator[Difference]:
        if not has_page(record):
            return
        self.counts["summaries"] += 1
        path = self._out / entry.slot
        if self._blocked(path, entry.slot):
            yield Difference("summary_blocked", entry.slot)
            return
        state = summaries.state(str(path), entry.key, entry.created)
        if state == "current" and path.read_bytes() != summaries.render(record).encode():
            state = "outdated"
        if state != "current":
            yield self._mended(f"summary_{state}", entry.slot, lambda _: self._rewrite(record))
        else:
            yield from self._permissions(entry.slot)

    def _sheet(self, entry: Entry) -> Iterator[Difference]:
        """Of what the model saw; it follows from the source and not from the ledger."""
        if not entry.views or entry.slot.startswith("//"):
            return
        self.counts["sheets"] += 1
        name = views.name_of(entry.slot)
        path = self._out / name
        state = "altered" if self._blocked(path, name) else views.state(path, entry.key)
        if state == "current":
            yield from self._permissions(name)
        else:
            kind = "views_missing" if state == "missing" else "views_altered"
            yield Difference(kind, name)

    def _blocked(self, path: Path, slot: str) -> bool:
        """Whether the path leads elsewhere, or something is there that is no file."""
        try:
            summaries.check_parents(self._out, slot)
        except DocumentError:
            return True
        return path.is_symlink() or (path.exists() and not path.is_file())

    def _rewrite(self, record: Record) -> None:
        """Write a summary again; a copy of what a hand changed goes to the quarantine."""
        assert record.summary is not None
        path = self._out / record.summary
        if path.is_file():
            target = self._quarantine / record.summary
            make_folder(target.parent)
            shutil.copyfile(path, target)
            target.chmod(0o600)
        summaries.write(self._out, [(record.summary, summaries.render(record))])


def ledger_differences(out: Path) -> Iterator[Difference]:
    """What is wrong with the lines of the ledger; looks only: opening it for writing repairs it.

    Raises:
        ConfigError: 78, a newer ledger.
    """
    for offset, raw in raw_lines(out / RECORDS):
        name = f"{RECORDS} at byte {offset}"
        whole = parse_line(raw) is not None
        if not raw.endswith(b"\n"):
            yield Difference("no_newline" if whole else "torn_line", name)
        elif not whole:
            copy = out / QUARANTINE / f"line-{hashlib.sha256(raw).hexdigest()[:16]}"
            if not copy.exists():
                yield Difference("damaged_line", name)
