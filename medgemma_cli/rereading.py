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
from medgemma_cli.records import Document, Record, Source

_SPACES = re.compile(r"\s+")
# Of a table or a row: it may be as it was, and cannot be read here and now.
_PASSING = {
    "unreadable", "read_error", "unstable", "no_parquet", "reader_crashed", "timeout", "limit"
}  # fmt: skip
_GONE = {"vanished", "image_missing"}
_Found = Iterator[tuple[str, str]]


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
        rows: dict[_Table, dict[str, Entry]] = {}
        for entry in self._ledger.current.values():
            with contextlib.suppress(DamagedRecordError):
                record = self._ledger.read(entry)
                if record.sha256 is None or record.origin == "-":
                    continue
                if tables.table_of(record.origin) is None:
                    yield from self._file(record)
                elif (table := self._table(record)) is None:
                    self._counts["sources not checked"] += 1
                else:
                    rows.setdefault(table, {})[_mark(record.custom_id, record.origin)] = entry
        for table, waiting in rows.items():
            yield from self._rows(table, waiting)

    def _limits_of(self, record: Record) -> ReadLimits:
        """As they were; what a later version adds to limits is as it is by default."""
        said = record.reading or self._limits._asdict()
        return ReadLimits(**{name: said[name] for name in ReadLimits._fields if name in said})

    # -- files --------------------------------------------------------------------------------

    def _file(self, record: Record) -> _Found:
        source = Source(
            place=record.origin,
            relative=record.source,
            origin=record.origin,
            parts=series.files_of(record.origin),
        )
        # No more is read than was then: a file that grew has changed.
        most = max(record.bytes or 0, 1)
        limits = self._limits_of(record)._replace(max_bytes=most, max_slide_bytes=most)
        try:
            blob = readers.load(source, limits)
        except DocumentError as error:
            yield from self._unread(record, error.code)
        else:
            yield from self._compared(record, source, blob)

    def _unread(self, record: Record, code: str) -> _Found:
        # A name that is not UTF-8 is kept in a form for reading, not for opening.
        if code == "vanished" and "\\" not in record.origin:
            yield "source_gone", record.source
        elif code in ("too_large", "slide_too_large"):
            yield "source_changed", record.source
        else:
            self._counts["sources not checked"] += 1

    def _compared(self, record: Record, source: Source, blob: readers.Blob) -> _Found:
        self._counts["sources"] += 1
        if blob.sha256 != record.sha256:
            yield "source_changed", record.source
        elif record.quotes and not self._quotes_stand(record, source, blob):
            yield "quote_not_found", record.source

    def _quotes_stand(self, record: Record, source: Source, blob: readers.Blob) -> bool:
        limits = self._limits_of(record)
        try:
            document: Document = self._reading.submit(source, blob, limits).result()
        except DocumentError:
            # Read with other limits or in another encoding then.
            self._counts["quotes not checked"] += 1
            return True
        text = document.text
        return all(_fold(text[q.start : q.end]) == _fold(q.text) for q in record.quotes)

    # -- rows ---------------------------------------------------------------------------------

    def _table(self, record: Record) -> _Table | None:
        """The table of a row's record; None where it does not say which columns it was."""
        path = tables.table_of(record.origin) or ""
        limits = self._limits_of(record)
        if record.media_type == request.KIND:
            return _Table(path, None, None, limits.max_bytes)
        said = (record.reading or {}).get("columns") or {}
        columns = tuple((use, said[use]) for use in ("id", "image", "text") if use in said)
        return _Table(path, columns, limits.encoding, limits.max_bytes) if columns else None

    def _rows(self, table: _Table, waiting: dict[str, Entry]) -> _Found:
        broke_off: str | None = None
        for source in table.sources():
            if source.row is None:
                broke_off = source.error
            elif source.error != "duplicate_id":
                entry = waiting.pop(_mark(source.custom_id, source.origin), None)
                if entry is not None:
                    yield from self._row(self._ledger.read(entry), source)
            if not waiting:
                return
        for entry in waiting.values():
            if broke_off in _PASSING or (broke_off == "vanished" and "\\" in table.path):
                self._counts["sources not checked"] += 1
            elif broke_off is None or broke_off in _GONE:
                yield "source_gone", entry.source
            else:
                yield "source_changed", entry.source

    def _row(self, record: Record, source: Source) -> _Found:
        try:
            blob = readers.load(source, self._limits_of(record))
        except DocumentError as error:
            if error.code in _PASSING:
                self._counts["sources not checked"] += 1
            else:
                kind = "source_gone" if error.code in _GONE else "source_changed"
                yield kind, record.source
        else:
            yield from self._compared(record, source, blob)


def _mark(identity: str | None, origin: str) -> str:
    """What a row is found by: no number is taken for an id."""
    return f"#{tables.number_of(origin)}" if identity is None else f"={identity}"


def _fold(text: str) -> str:
    return _SPACES.sub(" ", text).strip()
