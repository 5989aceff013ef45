"""What of a text may be quoted, and where a quote stands in it. Pure.

A quote is 3 to 40 whole words standing one after the other in one sentence or line, white space
folded. A word is what stands between white space, with or without the punctuation around it:
"160/95", "2.5" and "BP-lowering" are never cut. Scripts that put no spaces between words are cut
at their punctuation into clauses, long clauses every 40 characters. A line or sentence of under
three words counts with the next one; a whole text of under three words is its own quote. A run
of over 60 characters without a space (base64, a URL) cannot be quoted.

Sentences are told by their punctuation and the capital after it: a bound on what a quote may
span, not a claim about grammar.
"""

import re
import unicodedata
from collections.abc import Iterator

MIN_WORDS = 3
MAX_WORDS = 40
BARRIER = "\n"
"""Stands between pieces of `chunks` that no quote may run across."""

UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without spaces between words, as the inside of a character class."""

# A word has a letter or digit; punctuation may stand alone between words, or after the last.
_RUN = r"[^ \n]*[^\W_][^ \n]*"
_ALONE = r"( [^\w \n]+){0,3}"
BOUNDS = (
    rf"{_RUN}({_ALONE} {_RUN}){{{MIN_WORDS - 1},{MAX_WORDS - 1}}}{_ALONE}",
    rf"[^ \n]{{0,196}}[{UNSPACED}][^ \n]{{0,196}}",
)
"""A quote matches one of these regular expressions (Python's and Rust's syntax)."""

_LONGEST_WORD = 60
_LONGEST_OWN = 120
_CLAUSE = 40
_SHORTEST_CLAUSE = 4

_HAS_UNSPACED = re.compile(f"[{UNSPACED}]")
_BOUND = re.compile("|".join(BOUNDS))
_LINES = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_ENDS = tuple(".!?:;。！？；")
_CLOSERS = "\"')\\]}”’*_"
_SENTENCE_END = re.compile(rf"[.!?]+[{_CLOSERS}]*\s+(?![a-z])|[。！？]+[{_CLOSERS}」』]*\s*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:(?-i:[A-Z])|Drs?|Mr|Mrs|Ms|Prof|St|vs|No|approx|ca|e\.g|i\.e|Fig|Hr|Fr|Sr|Sra)\.\s+$",
    re.I,
)
# Punctuation that a quote may leave out; signs that change a value (< - + ± .5) stay with it.
_OPENING = re.compile(r"[(\[{\"'“‘«*_#|]*")
_CLOSING = re.compile(r"[.,;:!?)\]}\"'”’»*_|]*\Z")
_CLAUSES = re.compile(r"[^，。！？；、：]+[，。！？；、：]*|[，。！？；、：]+")
# A letter or digit of a script that puts spaces between words.
_LETTER = re.compile(f"[^\\W{UNSPACED}]")


def chunks(text: str) -> list[str]:
    """The pieces of which quotes are made, in order: words, punctuation, spaces and `BARRIER`.

    A run of them without a barrier that fits `BOUNDS` is a quote. A single piece is a text that
    is its own quote; none means that nothing can be quoted.
    """
    found: list[str] = []
    for sentence in _glued(_sentences(text)):
        for i, word in enumerate(sentence):
            found += [" "] * bool(i) + _pieces(word)
        found.append(BARRIER)
    if any(_BOUND.search(run) for run in "".join(found).split(BARRIER)):
        return found
    whole = " ".join(text.split())
    return [whole] if whole and len(whole) <= _LONGEST_OWN and _is_plain(whole) else []


def is_quotable(text: str) -> bool:
    """Whether anything of a text can be quoted."""
    return bool(chunks(text))


def samples(text: str) -> Iterator[str]:
    """From each sentence that can be quoted, the longest quote that begins it, folded."""
    parts = chunks(text)
    if len(parts) == 1:
        yield parts[0]
        return
    begun = ""
    best = ""
    for part in parts:
        begun = "" if part == BARRIER else (begun + part).lstrip(" ")
        if part == BARRIER and best:
            yield best
            best = ""
        elif _BOUND.fullmatch(begun):
            best = begun


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """Start and end of a quote in a text, in code points, white space folded; None if absent.

    A quote does not begin or end inside a word or number: "5 mg" does not stand in "125 mg" or
    "2.5 mg".
    """
    words = quote.split()
    if not words:
        return None
    pattern = re.compile(r"\s+".join(map(re.escape, words)))
    at = 0
    while match := pattern.search(text, at):
        if _is_whole(text, *match.span()):
            return match.span()
        at = match.start() + 1
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether a span is not cut out of a word or a number at either end."""
    if _LETTER.match(text, start) and start > 0:
        before = text[start - 1]
        inside = before in ".," and text[start - 2 : start - 1].isdigit()
        if inside or _LETTER.match(before):
            return False
    if _LETTER.match(text, end - 1) and end < len(text):
        after = text[end]
        inside = after in ".," and text[end + 1 : end + 2].isdigit()
        if inside or _LETTER.match(after):
            return False
    return True


def _sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence; a line that goes on in small letters goes on."""
    line = ""
    for new in (*_LINES.split(text), ""):
        new = new.strip()
        if line and new[:1].islower() and not line.endswith(_ENDS):
            line = f"{line} {new}"
            continue
        yield from _cut(line)
        line = new


def _cut(line: str) -> Iterator[list[str]]:
    start = 0
    for match in _SENTENCE_END.finditer(line):
        if not _ABBREVIATION.search(line, start, match.end()):
            yield line[start : match.end()].split()
            start = match.end()
    if rest := line[start:].split():
        yield rest


def _glued(sentences: Iterator[list[str]]) -> list[list[str]]:
    """Short sentences joined with what follows, the last with what is before."""
    joined: list[list[str]] = []
    for words in sentences:
        if joined and _is_short(joined[-1]):
            joined[-1] = joined[-1] + words
        else:
            joined.append(words)
    if len(joined) > 1 and _is_short(joined[-1]):
        last = joined.pop()
        joined[-1] = joined[-1] + last
    return joined


def _is_short(words: list[str]) -> bool:
    if _HAS_UNSPACED.search(" ".join(words)):
        return max(map(len, words)) < _SHORTEST_CLAUSE
    return sum(any(map(str.isalnum, word)) for word in words) < MIN_WORDS


def _pieces(word: str) -> list[str]:
    if not _is_plain(word):
        return [BARRIER]
    if _HAS_UNSPACED.search(word):
        return [part for clause in _clauses(word) for part in _shortened(clause)]
    if len(word) > _LONGEST_WORD:
        return [BARRIER]
    opening = _OPENING.match(word)
    assert opening is not None
    closing = _CLOSING.search(word, opening.end())
    assert closing is not None
    cut = opening.end(), closing.start()
    return [part for part in (word[: cut[0]], word[cut[0] : cut[1]], word[cut[1] :]) if part]


def _is_plain(word: str) -> bool:
    """Half of a surrogate pair cannot be written in UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


def _clauses(word: str) -> list[str]:
    """Clauses with their punctuation; one of under four characters joins the next."""
    found: list[str] = []
    for clause in _CLAUSES.findall(word):
        if found and len(found[-1]) < _SHORTEST_CLAUSE:
            found[-1] += clause
        else:
            found.append(clause)
    if len(found) > 1 and len(found[-1]) < _SHORTEST_CLAUSE:
        last = found.pop()
        found[-1] += last
    return found


def _shortened(clause: str) -> list[str]:
    """A long clause in pieces, cut between characters that stand alone."""
    found, start = [], 0
    for at in range(1, len(clause)):
        alone = _HAS_UNSPACED.match(clause[at - 1]) and _HAS_UNSPACED.match(clause[at])
        if at - start >= _CLAUSE and alone and unicodedata.category(clause[at])[0] != "M":
            found.append(clause[start:at])
            start = at
    found.append(clause[start:])
    return [part if len(part) <= 2 * _LONGEST_WORD else BARRIER for part in found]
