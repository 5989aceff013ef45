"""A text's sentences and lines. Pure; linear in the text.

Sentences are told by their punctuation and the capital after it: a bound on what a quote may
span, not a claim about grammar.
"""

import re
from collections.abc import Iterator

TOKEN = re.compile(r"\S+")
"""What stands between white space."""
_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
SENTENCE_MARKS = ("。", "！", "？")
"""The ends of sentences in scripts that put no space behind them."""
_GOES_ON = (".", "!", "?", ":", ";", *SENTENCE_MARKS, "；")
_ABBREVIATIONS = re.compile(
    r"drs?|mrs?|ms|prof|st|vs|no|approx|ca|e\.g|i\.e|fig|hr|fr|sra?|[A-Z]", re.ASCII
)


def sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence; a line that goes on in small letters goes on."""
    sentence: list[str] = []
    end = 0
    for match in TOKEN.finditer(text):
        word = match.group()
        if sentence and _is_end(sentence[-1], text[end : match.start()], word):
            yield sentence
            sentence = []
        sentence.append(word)
        end = match.end()
    if sentence:
        yield sentence


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
    """The line of a character, from 1."""
    return len(_LINE_ENDS.findall(text, 0, at)) + 1
