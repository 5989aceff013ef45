"""Sources of records read again, as they were read then: are they there, and the same?

A record says how its source was read: the limits, and of a row the columns. Rows are found again
by their ids, or by their numbers where they have none, in one pass over each table.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.ledger import DamagedRecordError, Entry, Ledger
from medgemma_cli.readers import ReadLimits, request, tables
from medgemma_cli.readers.dicom import series
from medgemma_cli.readers.pool import Reading
from medgemma_cli.records import Document, Prior, Quote, Record, Source, Which

_SPACES = re.compile(r"\s+")
# Of a table or a row: it may be as it was, and cannot be read here and now.
_PASSING = {
    "unreadable", "read_error", "unstable", "no_parquet", "reader_crashed", "timeout", "limit"
}  # fmt: skip
_GONE = {"vanished", "image_missing"}
_Found = Iterator[tuple[str, str]]
_BOTH: tuple[Which, ...] = ("current", "prior")


class _Table(NamedTuple):
    """A table as it was read; `columns` are None for a file of chat requests."""

    path: str
    columns: tuple[tuple[str, str], ...] | None
    encoding: str | None
    max_bytes: int

    def sources(self) -> Iterator[Source]:
        file = Source(place=self.path, relative=self.path, origin=self.path)
        if self.columns is None:
            return tables.request_sources(file, self.max_bytes, None)
        made: dict[str, Any] = dict(self.columns)
        asked = tables.Columns(encoding=self.encoding, max_bytes=self.max_bytes, **made)
        return tables.sources(file, asked)


class _Was(NamedTuple):
    """A document as a record has it: its own, or the earlier one of a pair, with its quotes."""

    record: Record
    about: Record | Prior
    quotes: list[Quote]


def _was(record: Record, which: Which) -> _Was | None:
    """One of a record's documents, if it was read from where it can be read again."""
    about = record if which == "current" else record.prior
    if about is None or about.sha256 is None or about.origin == "-":
        return None
    # The quotes of a single document say of none which it is.
    quotes = [quote for quote in record.quotes if (quote.document or "current") == which]
    return _Was(record, about, quotes)


_Rows = dict[str, list[tuple[Entry, Which]]]


class Rereading:
    """Compares the current records of a ledger with their sources.

    Args:
        limits: for records that do not say how they were read.
        counts: gets the sources that were looked at, and those and the quotes that could not be.
    """

    def __init__(
        self, ledger: Ledger, reading: Reading, limits: ReadLimits, counts: Counter[str]
    ) -> None:
        self._ledger = ledger
        self._reading = reading
        self._limits = limits
        self._counts = counts

    def differences(self) -> _Found:
        """Kinds, as `verifying.FINAL` has them, and names of the sources."""
        tabled: dict[_Table, _Rows] = {}
        for entry in self._ledger.current.values():
            with contextlib.suppress(DamagedRecordError):
                record = self._ledger.read(entry)
                for which in _BOTH:
                    if (was := _was(record, which)) is None:
                        continue
                    if tables.table_of(was.about.origin) is None:
                        yield from self._file(was)
                    elif (table := self._table(was)) is None:
                        self._counts["sources not checked"] += 1
                    else:
                        mark = _mark(was.about.custom_id, was.about.origin)
                        # A row may be in two pairs.
                        rows = tabled.setdefault(table, {})
                        rows.setdefault(mark, []).append((entry, which))
        for table, waiting in tabled.items():
            yield from self._rows(table, waiting)

    def _limits_of(self, record: Record) -> ReadLimits:
        """As they were; what a later version adds to limits is as it is by default."""
        said = record.reading or self._limits._asdict()
        return ReadLimits(**{name: said[name] for name in ReadLimits._fields if name in said})

    # -- files --------------------------------------------------------------------------------

    def _file(self, was: _Was) -> _Found:
        about = was.about
        source = Source(
            place=about.origin,
            relative=about.source,
            origin=about.origin,
            parts=series.files_of(about.origin),
        )
        # No more is read than was then: a file that grew has changed.
        most = max(about.bytes or 0, 1)
        limits = self._limits_of(was.record)._replace(max_bytes=most, max_slide_bytes=most)
        try:
            blob = readers.load(source, limits)
        except DocumentError as error:
            yield from self._unread(about, error.code)
        else:
            yield from self._compared(was, source, blob)

    def _unread(self, about: Record | Prior, code: str) -> _Found:
        # A name that is not UTF-8 is kept in a form for reading, not for opening.
        if code == "vanished" and "\\" not in about.origin:
            yield "source_gone", about.source
        elif code in ("too_large", "slide_too_large"):
            yield "source_changed", about.source
        else:
            self._counts["sources not checked"] += 1

    def _compared(self, was: _Was, source: Source, blob: readers.Blob) -> _Found:
        self._counts["sources"] += 1
        if blob.sha256 != was.about.sha256:
            yield "source_changed", was.about.source
        elif was.quotes and not self._quotes_stand(was, source, blob):
            yield "quote_not_found", was.about.source

    def _quotes_stand(self, was: _Was, source: Source, blob: readers.Blob) -> bool:
        limits = self._limits_of(was.record)
        try:
            document: Document = self._reading.submit(source, blob, limits).result()
        except DocumentError:
            # Read with other limits or in another encoding then.
            self._counts["quotes not checked"] += 1
            return True
        text = document.text
        return all(_fold(text[q.start : q.end]) == _fold(q.text) for q in was.quotes)

    # -- rows ---------------------------------------------------------------------------------

    def _table(self, was: _Was) -> _Table | None:
        """The table of a row; None where its record does not say which columns it was."""
        path = tables.table_of(was.about.origin) or ""
        limits = self._limits_of(was.record)
        if was.about.media_type == request.KIND:
            return _Table(path, None, None, limits.max_bytes)
        said = (was.record.reading or {}).get("columns") or {}
        columns = tuple((use, said[use]) for use in ("id", "image", "text") if use in said)
        return _Table(path, columns, limits.encoding, limits.max_bytes) if columns else None

    def _rows(self, table: _Table, waiting: _Rows) -> _Found:
        broke_off: str | None = None
        for source in table.sources():
            if source.row is None:
                broke_off = source.error
            elif source.error != "duplicate_id":
                for entry, which in waiting.pop(_mark(source.custom_id, source.origin), ()):
                    if was := _was(self._ledger.read(entry), which):
                        yield from self._row(was, source)
            if not waiting:
                return
        for entry, which in (one for found in waiting.values() for one in found):
            if broke_off in _PASSING or (broke_off == "vanished" and "\\" in table.path):
                self._counts["sources not checked"] += 1
            elif was := _was(self._ledger.read(entry), which):
                gone = broke_off is None or broke_off in _GONE
                yield "source_gone" if gone else "source_changed", was.about.source

    def _row(self, was: _Was, source: Source) -> _Found:
        try:
            blob = readers.load(source, self._limits_of(was.record))
        except DocumentError as error:
            if error.code in _PASSING:
                self._counts["sources not checked"] += 1
            else:
                kind = "source_gone" if error.code in _GONE else "source_changed"
                yield kind, was.about.source
        else:
            yield from self._compared(was, source, blob)


def _mark(identity: str | None, origin: str) -> str:
    """What a row is found by: no number is taken for an id."""
    return f"#{tables.number_of(origin)}" if identity is None else f"={identity}"


def _fold(text: str) -> str:
    return _SPACES.sub(" ", text).strip()
