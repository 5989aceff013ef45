"""JSON Lines, an object a line, and JSON files that are a list of objects."""

import json
from collections.abc import Iterator
from itertools import islice

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.tables.cells import Cells, Columns, cells_of
from medgemma_cli.readers.tables.opening import Lines, TooLongError, has_halves, opened

_LOOKED_AT = 100  # rows; fields may be left out of some
_SPACE = " \t\r\n"
_Row = tuple[int, dict[str, object] | str]  # its number, and what it says or a code


def lines(path: str, columns: Columns) -> Iterator[Cells]:
    """A row a line; blank lines are no rows, but count: a row's number is its line's.

    Raises:
        DocumentError: ``no_column`` (in none of the first rows), ``encoding``.
        OSError: it cannot be opened or read.
    """
    _look(objects(path, columns), columns)
    yield from _cells(objects(path, columns), columns)


def listed(path: str, columns: Columns) -> Iterator[Cells]:
    """A row an object of the list.

    Raises:
        DocumentError: ``no_column``, ``encoding``, ``too_large`` (the file), ``table_corrupt``
            (it is no list; or broken from here on, for nothing says where the next row begins).
        OSError: it cannot be opened or read.
    """
    _look(_listed(path, columns), columns)
    yield from _cells(_listed(path, columns), columns)


def _look(found: Iterator[_Row], columns: Columns) -> None:
    """See that each column that is asked for is in one of the first rows at least."""
    missing, seen = set(columns.names), 0
    for _, fields in islice(found, _LOOKED_AT):
        if isinstance(fields, dict):
            seen += 1
            missing.difference_update(fields)
            if not missing:
                return
    if seen:
        raise DocumentError("no_column")


def _cells(found: Iterator[_Row], columns: Columns) -> Iterator[Cells]:
    for number, fields in found:
        if isinstance(fields, str):
            yield Cells(number, error=fields, numbered=columns.id is not None)
        else:
            yield cells_of(number, fields, columns)


def objects(path: str, columns: Columns) -> Iterator[_Row]:
    """Each line that is not blank, with its number: an object, or the code of why it is none.

    Raises:
        DocumentError: ``encoding``. OSError: it cannot be opened or read.
    """
    with opened(path, columns.encoding) as text:
        rows, number = Lines(text, columns.max_bytes), 0
        while True:
            rows.begin()
            number += 1
            try:
                line = next(rows)
            except StopIteration:
                return
            except TooLongError:
                yield number, "too_large"
                continue
            if line.strip():
                yield number, "encoding" if has_halves(line) else _object(line)


def _object(line: str) -> dict[str, object] | str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "row_broken"
    return value if isinstance(value, dict) else "row_broken"


def _listed(path: str, columns: Columns) -> Iterator[_Row]:
    with opened(path, columns.encoding) as file:
        text = file.read(columns.max_bytes + 1)
    if len(text) > columns.max_bytes:
        raise DocumentError("too_large")
    decoder, at, number = json.JSONDecoder(), _after(text, 0), 0
    if text[at : at + 1] != "[":
        raise DocumentError("table_corrupt")
    at = _after(text, at + 1)
    while text[at : at + 1] != "]" or number:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise DocumentError("table_corrupt") from None
        number += 1
        yield number, value if isinstance(value, dict) else "row_broken"
        at = _after(text, at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise DocumentError("table_corrupt")
        at = _after(text, at + 1)
    if _after(text, at + 1) != len(text):
        raise DocumentError("table_corrupt")


def _after(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at
