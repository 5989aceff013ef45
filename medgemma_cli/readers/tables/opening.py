"""A table's text, a line at a time, within bounds."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.text import mark_of

_CHUNK = 1 << 20


class TooLongError(ValueError):
    """A row is over its limit."""


class Lines:
    """The lines of a text; one over the limit is passed over, and raises `TooLongError`.

    Of a row of several lines all count: `begin` begins the count.
    """

    def __init__(self, text: io.TextIOBase, most: int) -> None:
        self._text = text
        self._most = most
        self._taken = 0

    def begin(self) -> None:
        """A new row."""
        self._taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._most + 1)
        if not line:
            raise StopIteration
        self._taken += len(line)
        if self._taken > self._most:
            while not line.endswith(("\n", "\r")) and line:
                line = self._text.readline(_CHUNK)
            raise TooLongError
        return line


@contextmanager
def opened(path: str, encoding: str | None) -> Iterator[io.TextIOWrapper]:
    """A table as text, in the encoding of its mark, else as asked for, else UTF-8.

    Bytes that are no text become half characters: they cost their row alone.

    Raises:
        OSError: it cannot be opened.
        DocumentError: ``encoding``, in an encoding that knows no half characters.
    """
    # O_NONBLOCK so that a FIFO put in the file's place cannot hang the run.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        name = mark_of(file.peek(4)) or encoding or "utf-8"
        wide = name.lower().startswith(("utf-16", "utf_16", "utf-32", "utf_32"))
        errors = "strict" if wide else "surrogateescape"
        try:
            yield io.TextIOWrapper(file, encoding=name, errors=errors, newline="")
        except UnicodeError:
            raise DocumentError("encoding") from None


def has_halves(text: str) -> bool:
    """Whether some of it was no text."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
