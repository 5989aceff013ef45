"""A text's sentences and lines. Pure; linear in the text.

Sentences are told by their punctuation and the capital after it: a bound on what a quote may
span, not a claim about grammar.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(r"\S+")
"""What stands between white space."""
_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
SENTENCE_MARKS = ("。", "！", "？")
"""The ends of sentences in scripts that put no space behind them."""
_EDITOR_LINES = re.compile(r"\r\n|[\n\r]")
_GOES_ON = (".", "!", "?", ":", ";", *SENTENCE_MARKS, "；")
_ABBREVIATIONS = re.compile(
    r"drs?|mrs?|ms|prof|st|vs|no|approx|ca|e\.g|i\.e|fig|hr|fr|sra?|[A-Z]", re.ASCII
)


class Sentence(NamedTuple):
    """The words of a sentence, and whether a blank line is before it."""

    words: list[str]
    apart: bool


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a text; a line that goes on in small letters goes on."""
    sentence: list[str] = []
    end, apart = 0, False
    for match in TOKEN.finditer(text):
        word, gap = match.group(), text[end : match.start()]
        if sentence and _is_end(sentence[-1], gap, word):
            yield Sentence(sentence, apart)
            sentence, apart = [], len(_LINE_ENDS.findall(gap)) > 1
        sentence.append(word)
        end = match.end()
    if sentence:
        yield Sentence(sentence, apart)


def starts(text: str, begin: int, end: int) -> Iterator[int]:
    """Where, between two characters of a text, a sentence or line begins, by the same rules."""
    before: re.Match[str] | None = None
    for match in TOKEN.finditer(text, begin, end):
        if before is not None:
            gap = text[before.end() : match.start()]
            if _is_end(before.group(), gap, match.group()):
                yield match.start()
        before = match


def _is_end(before: str, gap: str, after: str) -> bool:
    """Whether a sentence or line ends between two words."""
    goes_on = after[0].islower()
    lines = len(_LINE_ENDS.findall(gap))
    if lines:
        return lines > 1 or not goes_on or before.endswith(_GOES_ON)
    bare = before.rstrip("\"')]}”’*_")
    if not bare.endswith((".", "!", "?", *SENTENCE_MARKS)):
        return False
    name = bare.removesuffix(".").lstrip("(")
    known = _ABBREVIATIONS.fullmatch(name) or _ABBREVIATIONS.fullmatch(name.lower())
    return not goes_on and not known


def line_of(at: int, text: str) -> int:
    """The line of a character, from 1, as editors count: by \\n, \\r\\n and \\r."""
    return len(_EDITOR_LINES.findall(text, 0, at)) + 1
