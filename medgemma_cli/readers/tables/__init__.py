"""Tables whose rows are documents: which columns are read, and each row as a `Source`.

Rows are found while paths are walked, one at a time: a table is never in memory, but for JSON
lists, which are read whole within ``--max-bytes``. Parquet is decoded in a process of its own.
A file of chat requests is read as a table, too: a line is a row.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Container, Iterator

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.tables import jsonrows, parquet, requests, separated
from medgemma_cli.readers.tables.cells import Cells, Columns
from medgemma_cli.records import Row, Source

__all__ = [
    "SUFFIXES",
    "Columns",
    "check",
    "has_requests",
    "number_of",
    "request_sources",
    "rows",
    "sources",
    "table_of",
]

_FORMATS = {
    ".csv": separated.rows,
    ".tsv": separated.rows,
    ".json": jsonrows.listed,
    ".jsonl": jsonrows.lines,
    ".parquet": parquet.rows,
}
SUFFIXES = frozenset(_FORMATS)
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_ROW = re.compile(r"(.+\.(?:csv|tsv|jsonl?|parquet))#\d+", re.I | re.S)
_MARK_CHARACTERS = 12


def rows(path: str, columns: Columns) -> Iterator[Cells]:
    """The rows of a table, from 1; one that cannot be read has an error in place of its cells.

    Raises:
        DocumentError: the whole table, or the rest of it, cannot be read: ``no_column``,
            ``table_corrupt``, ``encoding``, ``too_large``, ``no_parquet``, ``limit``,
            ``timeout``, ``reader_crashed``, ``vanished``, ``unreadable``, ``read_error``.
    """
    with _readable():
        yield from _FORMATS[os.path.splitext(path)[1].lower()](path, columns)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DocumentError("vanished") from None
    except PermissionError:
        raise DocumentError("unreadable") from None
    except OSError:
        raise DocumentError("read_error") from None


def check(path: str, columns: Columns) -> str | None:
    """The code that a table ends with before its first row, if it does."""
    try:
        next(rows(path, columns), None)
    except DocumentError as error:
        return error.code
    return None


def sources(table: Source, columns: Columns) -> Iterator[Source]:
    """A source for each row of a table; of a table that cannot be read on, one for the table.

    A row's name is made of its id, or of its number where it has none. The first row with an id
    has it; a later one comes with the error ``duplicate_id``.
    """
    like = Row(columns=columns.used)
    yield from _named(table, rows(table.place, columns), like)


def has_requests(path: str, max_bytes: int) -> bool:
    """Whether a file is one of chat requests, as `vllm run-batch` takes: by its first lines."""
    if os.path.splitext(path)[1].lower() != ".jsonl":
        return False
    try:
        with _readable():
            return requests.recognised(path, Columns(max_bytes=max_bytes))
    except DocumentError:
        return False


def request_sources(
    file: Source, max_bytes: int, models: Container[str] | None
) -> Iterator[Source]:
    """A source for each line of a file of chat requests; of one that cannot be read on, one for it.

    Args:
        models: names that a request may ask for; None: any.
    """

    def lines() -> Iterator[Cells]:
        with _readable():
            yield from requests.rows(file.place, Columns(max_bytes=max_bytes), models)

    yield from _named(file, lines(), Row(request=True))


def _named(table: Source, found: Iterator[Cells], like: Row) -> Iterator[Source]:
    taken: set[bytes] = set()
    try:
        for cells in found:
            repeated = cells.id is not None and _take(cells.id, taken)
            yield _source(table, cells, repeated, like)
    except DocumentError as error:
        yield table.model_copy(update={"error": error.code})


def _take(identity: str, taken: set[bytes]) -> bool:
    """Note an id, in 16 bytes; whether it was there before."""
    mark = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()[:16]
    if mark in taken:
        return True
    taken.add(mark)
    return False


def _source(table: Source, cells: Cells, repeated: bool, like: Row) -> Source:
    named = cells.id is not None and not repeated
    # No id becomes a name that begins so: a number never takes the place of an id.
    leaf = _leaf(cells.id or "") if named else f"~{cells.number}"
    if cells.id is None and not cells.numbered:
        leaf = str(cells.number)
    return Source(
        place=table.place,
        relative=f"{table.relative}#{cells.number}",
        origin=f"{table.origin}#{cells.number}",
        error=cells.error or ("duplicate_id" if repeated else None),
        name=f"{table.relative}/{leaf}",
        custom_id=_whole(cells.id),
        row=like.model_copy(update={"text": cells.text, "image": cells.image}),
    )


def _leaf(identity: str) -> str:
    """An id as a file name; two ids never have the same."""
    if _PLAIN.fullmatch(identity) and not identity.endswith(".md"):
        return identity
    mark = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_UNSAFE.sub('_', identity)[:60].lstrip('.') or '_'}~{mark[:_MARK_CHARACTERS]}"


def _whole(identity: str | None) -> str | None:
    """Without half characters, which no JSON holds."""
    return identity and identity.encode("utf-8", "backslashreplace").decode()


def table_of(origin: str) -> str | None:
    """The table that a record's row stood in, by the path that the record has; else None."""
    found = _ROW.fullmatch(origin)
    return found.group(1) if found else None


def number_of(origin: str) -> str:
    """The row's number in such a path."""
    return origin.rpartition("#")[2]
