"""Ledger, summaries and sources against each other, without the model: what differs, and repair.

Looks only, unless told to repair. What it repairs is what follows from the ledger; a source that
changed or went away is told of, and the next run takes a changed one up.
"""

import contextlib
import hashlib
import re
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from medgemma_cli import readers, summaries
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
from medgemma_cli.readers import tables
from medgemma_cli.readers.dicom import series
from medgemma_cli.readers.pool import Reading
from medgemma_cli.records import Document, Prior, Quote, Record, Source, Which

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
    "source_gone": "the source is not where it was read",
    "source_changed": "the source has other bytes than were summarised",
    "quote_not_found": "a quote does not stand where the record says",
}
KINDS = REPAIRABLE | FINAL
_SPACES = re.compile(r"\s+")


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

    def of_the_sources(self, reading: Reading, limits: readers.ReadLimits) -> Iterator[Difference]:
        """Those of each current record's source. Needs no lock: the ledger only grows."""
        for entry in self._ledger.current.values():
            with contextlib.suppress(DamagedRecordError):
                yield from self._source(self._ledger.read(entry), reading, limits)

    # -- the folder ---------------------------------------------------------------------------

    def _folder(self) -> Iterator[Difference]:
        for name in sorted(summaries.walk(self._out)):
            if summaries.is_temporary(name):
                yield self._mended("temporary_file", name, lambda path: path.unlink())
            elif name not in self._ledger.current:
                key = summaries.key_of(self._out / name)
                if key in self._ledger.by_key:
                    yield Difference("summary_orphan", name)
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

    # -- a record and its source --------------------------------------------------------------

    def _source(
        self, record: Record, reading: Reading, limits: readers.ReadLimits
    ) -> Iterator[Difference]:
        yield from self._read_again(record, _quotes_of(record, "current"), reading, limits)
        if record.prior is not None:
            quotes = _quotes_of(record, "prior")
            yield from self._read_again(record.prior, quotes, reading, limits)

    def _read_again(
        self,
        was: Record | Prior,
        quotes: list[Quote],
        reading: Reading,
        limits: readers.ReadLimits,
    ) -> Iterator[Difference]:
        if was.sha256 is None or was.origin == "-":
            return
        if tables.table_of(was.origin) is not None:
            self.counts["sources not checked"] += 1  # which column it was is not recorded
            return
        source = Source(
            place=was.origin,
            relative=was.source,
            origin=was.origin,
            parts=series.files_of(was.origin),
        )
        try:
            # No more is read than was then: a file that grew has changed.
            blob = readers.load(source, limits._replace(max_bytes=max(was.bytes or 0, 1)))
        except DocumentError as error:
            yield from self._unread(was, error.code)
            return
        self.counts["sources"] += 1
        if blob.sha256 != was.sha256:
            yield Difference("source_changed", was.source)
        elif quotes and not self._quotes_stand(quotes, reading, limits, source, blob):
            yield Difference("quote_not_found", was.source)

    def _unread(self, was: Record | Prior, code: str) -> Iterator[Difference]:
        # A name that is not UTF-8 is kept in a form for reading, not for opening.
        if code == "vanished" and "\\" not in was.origin:
            yield Difference("source_gone", was.source)
        elif code == "too_large":
            yield Difference("source_changed", was.source)
        else:
            self.counts["sources not checked"] += 1

    def _quotes_stand(
        self,
        quotes: list[Quote],
        reading: Reading,
        limits: readers.ReadLimits,
        source: Source,
        blob: readers.Blob,
    ) -> bool:
        try:
            document: Document = reading.submit(source, blob, limits).result()
        except DocumentError:
            # Read with other limits or in another encoding then.
            self.counts["quotes not checked"] += 1
            return True
        text = document.text
        return all(_fold(text[q.start : q.end]) == _fold(q.text) for q in quotes)


def _quotes_of(record: Record, which: Which) -> list[Quote]:
    """The quotes of one document of a pair; those of a single one are of the current."""
    return [quote for quote in record.quotes if (quote.document or "current") == which]


def _fold(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


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
