"""A long text → parts that each fit, cut where it parts by itself. Pure; linear in the text.

A part ends at the last heading or page in its second half, else at the last blank line, else
where a sentence or line ends, else between two words, else where it must. The next part begins a
little before that, so that what was cut is whole in one of the two.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.sentences import starts

VERSION = 1
"""Of where texts are cut; counted up when that changes, since it is in every key."""
OVERLAP = 200
"""What two neighbours share at most, in characters, but for the last two: see `_begin_next`."""

_USUAL = 3.0  # characters a token, to begin with
_HIGHEST = 16.0  # where there are more, they are white space: what comes next is not guessed by it
_LEAST = 16  # tokens of a document that are worth a prompt
_SHORT = 8  # a last part of less than an eighth is lengthened
_LOOSE = 0.4  # of the room; a part that leaves more is tried again

# A line in Markdown's form, in capitals, or alone with a colon; the beginning of a page.
_HEADING = re.compile(
    r"\f|\n(?=[ \t]{0,8}(?:#{1,6}[ \t]"
    r"|[A-Z][A-Z0-9 /&(),-]{2,60}:?[ \t]{0,8}\r?\n"
    r"|[A-Z][\w /&-]{1,60}:[ \t]{0,8}\r?\n))"
)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
_CLAUSE = re.compile(r"[。！？]+")
_SPACE = re.compile(r"\s+")


Measure = Callable[[str, int], int]
"""The tokens of the prompt that shows a text, which begins at a character of the whole."""


class Span(NamedTuple):
    """Characters `start` to `end` of a text, and the tokens of the prompt that shows them."""

    start: int
    end: int
    tokens: int


def spans(text: str, room: int, measure: Measure) -> Iterator[Span]:
    """The parts of a text, in order; each begins in the one before or where that ends.

    Args:
        room: the longest prompt there may be, in tokens.
        measure: called a few times for each part.

    Raises:
        DocumentError: ``too_long``, hardly anything would fit beside the prompt's own words.
    """
    start, density, last = 0, _USUAL, len(text.rstrip())
    own = measure("", 0)
    while True:
        if room - own < _LEAST:
            raise DocumentError("too_long")
        part, density = _longest(text, start, room, own, density, measure)
        yield part
        if part.end >= last:
            return
        if start == 0:
            own = measure("", part.end)  # the first prompt alone has images
        start = _begin_next(text, part)


def _longest(
    text: str, start: int, room: int, own: int, density: float, measure: Measure
) -> tuple[Span, float]:
    """About as much as fits, and how many characters a token had in it."""
    best: Span | None = None
    most = _characters(room - own, density)
    while most > 0:
        end = cut(text, start, most)
        tokens = measure(text[start:end], start)
        density = min((end - start) / max(tokens - own, 1), _HIGHEST)
        wider = _characters(room - own, density)
        if tokens <= room:
            made = Span(start, end, tokens)
            loose = tokens - own < _LOOSE * (room - own) and wider > most
            if best is not None or not loose or end == len(text):
                return made, density
            best, most = made, wider
        elif best is not None:
            return best, density
        else:
            most = min(wider, (end - start) * 9 // 10)
    raise DocumentError("too_long")


def _characters(tokens: int, density: float) -> int:
    return int(tokens * density * 0.95)


def cut(text: str, start: int, most: int) -> int:
    """Where a part that begins at a character ends, after `most` characters at the latest."""
    limit = start + most
    if limit >= len(text):
        return len(text)
    least = start + most // 2
    for ends in (_matches(_HEADING), _matches(_PARAGRAPH), _sentences, _matches(_SPACE)):
        last = max((end for end in ends(text, least, limit) if end > start), default=None)
        if last is not None:
            return last
    return limit


def _matches(pattern: re.Pattern[str]) -> Callable[[str, int, int], Iterator[int]]:
    return lambda text, begin, end: (match.end() for match in pattern.finditer(text, begin, end))


def _sentences(text: str, begin: int, end: int) -> Iterator[int]:
    yield from starts(text, begin, end)
    yield from _matches(_CLAUSE)(text, begin, end)


def _begin_next(text: str, part: Span) -> int:
    """Some sentences before the end; further back where little is left, which alone says little."""
    size = part.end - part.start
    back = min(OVERLAP, size // 4)
    if len(text) - part.end < size // _SHORT:
        back = size // 3
    begin = part.end - back
    for places in (_sentences, _matches(_SPACE)):
        if (
            first := next((at for at in places(text, begin, part.end) if at > begin), None)
        ) is not None:
            return first
    return part.end
