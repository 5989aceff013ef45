"""CSV and TSV, as RFC 4180 has them: a head, then rows of as many fields."""

import csv
from collections.abc import Iterator

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.tables.cells import Cells, Columns, cells_of
from medgemma_cli.readers.tables.opening import Lines, TooLongError, has_halves, opened

_SEPARATORS = ",;\t|"


def rows(path: str, columns: Columns) -> Iterator[Cells]:
    """A row with other fields than the head is ``row_broken``: a comma in a text without quotes
    would cut it. Blank lines are no rows.

    Raises:
        DocumentError: ``no_column`` (missing from the head, or twice in it), ``encoding``,
            ``limit`` (the head is over the limit), ``table_corrupt`` (it is no head).
        OSError: it cannot be opened or read.
    """
    # The limit of the module is the process's; in fields, where ours is in rows.
    csv.field_size_limit(max(columns.max_bytes, csv.field_size_limit()))
    with opened(path, columns.encoding) as text:
        lines = Lines(text, columns.max_bytes)
        try:
            first = next(lines, "")
        except TooLongError:
            raise DocumentError("limit") from None
        head, separator = _head(first, columns)
        reader = csv.reader(lines, delimiter=separator, strict=True)
        yield from _rows(reader, lines, head, columns)


def _head(line: str, columns: Columns) -> tuple[list[str], str]:
    """The names of the columns, and the separator under which all that are asked for are there."""
    for separator in _SEPARATORS:
        try:
            head = next(csv.reader([line], delimiter=separator, strict=True), [])
        except csv.Error:
            continue
        if all(head.count(name) == 1 for name in columns.names):
            return head, separator
    raise DocumentError("no_column")


def _rows(
    reader: Iterator[list[str]], lines: Lines, head: list[str], columns: Columns
) -> Iterator[Cells]:
    number = 0
    while True:
        lines.begin()
        error = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except TooLongError:  # the reader begins afresh at the next line
            fields, error = [], "too_large"
        except csv.Error:
            fields, error = [], "row_broken"
        if not fields and error is None:
            continue
        number += 1
        if error is None and len(fields) != len(head):
            error = "row_broken"
        if error is not None:
            yield Cells(number, error=error, numbered=columns.id is not None)
            continue
        made = cells_of(number, dict(zip(head, fields, strict=True)), columns)
        yield made._replace(error="encoding") if has_halves(made.text + made.image) else made
