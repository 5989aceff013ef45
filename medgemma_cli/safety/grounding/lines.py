"""The lines of a text: where each begins, and which are empty. Built once; asked by bisection."""

from bisect import bisect_left, bisect_right
from itertools import accumulate


class Lines:
    """Of a text, split at line feeds; a carriage return belongs to its line."""

    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        self.starts = list(accumulate((len(line) + 1 for line in lines[:-1]), initial=0))
        self._empty = [i for i, line in enumerate(lines) if not line.strip()]
        self._filled = [i for i, line in enumerate(lines) if line.strip()]
        self._end = len(text)

    def at(self, place: int) -> int:
        """The line in which a code point lies."""
        return bisect_right(self.starts, place) - 1

    def end(self, line: int) -> int:
        """The code point of its line feed, or the text's end."""
        return self.starts[line + 1] - 1 if line + 1 < len(self.starts) else self._end

    def has_empty(self, first: int, last: int) -> bool:
        """Whether one of the lines `first` to before `last` is empty."""
        at = bisect_left(self._empty, first)
        return at < len(self._empty) and self._empty[at] < last

    def next_filled(self, line: int) -> int:
        """The first line, from this one on, that is not empty; the number of lines if none is."""
        at = bisect_left(self._filled, line)
        return self._filled[at] if at < len(self._filled) else len(self.starts)
