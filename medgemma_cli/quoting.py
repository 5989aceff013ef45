"""What of a text may be quoted, and where a quote stands in it. Pure; linear in the text.

A quote is 3 to 40 whole words standing one after the other in one sentence or line, white space
folded. A word is what stands between white space, with or without the punctuation around it:
"160/95", "<2.5" and "BP-lowering" are never cut. Signs that stand alone (a table's bars) are no
words and may stand between them, up to three together. Scripts that put no spaces between words
are cut at their punctuation into clauses, long clauses every 40 characters. A line or sentence of
under three words counts with the next one, not over a blank line; a whole text of under three
words is its own quote. A run of over 60 characters without a space (base64, a URL) cannot be
quoted.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from medgemma_cli.sentences import SENTENCE_MARKS, TOKEN, Sentence, sentences

MIN_WORDS = 3
MAX_WORDS = 40
BARRIER = "\n"
"""Stands between pieces of `chunks` that no quote may run across."""

_SIGNS = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "‐‑‒–—―‘’“”„†‡•‣…‰′″‹›※¡§«¶·»¿×÷±←↑→↓≈≠≤≥■□▪▫○●◦✓✗"
    "、。〈〉《》「」『』【】〔〕！（），：；？［］｛｝～"
)
UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without spaces between words, as the inside of a character class."""
_STANDING_ALONE = 3

# Escaped as both Rust and Lark take it.
_SIGN_CLASS = "".join(f"\\{sign}" if sign in "\\[]^-&~/" else sign for sign in _SIGNS)
_WORD = rf"[^ \n]*[^ \n{_SIGN_CLASS}][^ \n]*"
_ALONE = rf"( [{_SIGN_CLASS}]+){{0,{_STANDING_ALONE}}}"
BOUNDS = (
    f"{_WORD}({_ALONE} {_WORD}){{{MIN_WORDS - 1},{MAX_WORDS - 1}}}{_ALONE}",
    rf"[^ \n]*[{UNSPACED}][^ \n]*",
)
"""A quote matches one of these (Rust's syntax; Python's `re` would take exponential time)."""

_LONGEST_WORD = 60
_LONGEST_OWN = 120
_CLAUSE = 40
_SHORTEST_CLAUSE = 4
_LONGEST_RUN = 200
_BEGINNING = 20_000

_HAS_UNSPACED = re.compile(f"[{UNSPACED}]")
_HAS_WORD = re.compile(rf"[^\s{_SIGN_CLASS}]")
_CLAUSE_MARKS = (*SENTENCE_MARKS, "，", "；", "、", "：")
# Punctuation that a quote may leave out; signs that change what is said (< - + ± .5 ?) stay.
_OPENING = re.compile(r"[(\[{\"'“‘«*_#|]*")
_HEAD = re.compile(r"[(\[<>≤≥±~+-]?[0-9]{1,3}")
_THOUSANDS = re.compile(r"[0-9]{3}(?:[.,][0-9]+)?[.,;:)\]]*")
_CLOSERS = ".,;:!)]}\"'”’»|"


def chunks(text: str) -> list[str]:
    """The pieces of which quotes are made, in order: words, punctuation, spaces and `BARRIER`.

    A run of them without a barrier that fits `BOUNDS` is a quote. A single piece is a text that
    is its own quote; none means that nothing can be quoted.
    """
    pieces = _all_pieces(text)
    if next(_samples(pieces), None) is not None:
        return pieces
    words = text.split()
    whole = " ".join(words)
    short = words and len(whole) <= _LONGEST_OWN and max(map(len, words)) <= _LONGEST_WORD
    return [whole] if short and _is_plain(whole) else []


def is_quotable(text: str) -> bool:
    """Whether anything of a text can be quoted; of a long one the beginning mostly tells."""
    if len(text) > 2 * _BEGINNING:
        head = text[: text.rfind(" ", 0, _BEGINNING) + 1]
        if next(_samples(_all_pieces(head)), None) is not None:
            return True
    return bool(chunks(text))


def samples(text: str) -> Iterator[str]:
    """The longest first quote of each sentence that has one, folded."""
    pieces = chunks(text)
    yield from pieces if len(pieces) == 1 else _samples(pieces)


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """Start and end of a quote in a text, in code points, white space folded; None if absent.

    A quote begins and ends where a word does, punctuation aside: "5 mg" stands in neither
    "125 mg" nor "2.5 mg", "95 mmHg" not in "160/95 mmHg".
    """
    wanted = " ".join(quote.split())
    if not wanted:
        return None
    folded = _fold(text)
    at = folded.text.find(wanted)
    while at >= 0:
        nearest = bisect_left(folded.starts, at)
        if nearest == len(folded.starts):
            return None
        end = at + len(wanted)
        if folded.starts[nearest] == at and end in folded.ends:
            return folded.place(at), folded.place(end - 1) + 1
        # On to the next place where a quote may begin: a text of one letter is no trap.
        at = folded.text.find(wanted, max(folded.starts[nearest], at + 1))
    return None


class _Folded(NamedTuple):
    """A text with its white space folded, and where in it a quote may begin and end."""

    text: str
    starts: list[int]
    ends: frozenset[int]
    here: list[int]
    there: list[int]

    def place(self, at: int) -> int:
        """The index, in the text as read, of a character of the folded one."""
        word = bisect_right(self.here, at) - 1
        return self.there[word] + at - self.here[word]


@lru_cache(maxsize=4)
def _fold(text: str) -> _Folded:
    starts: set[int] = set()
    ends: set[int] = set()
    words, here, there, at = [], [], [], 0
    for match in TOKEN.finditer(text):
        word = match.group()
        words.append(word)
        here.append(at)
        there.append(match.start())
        opened, closed = _core(word)
        starts.update(range(at, at + opened + 1))
        ends.update(range(at + closed, at + len(word) + 1))
        if opened:  # a quote may end with the bracket or mark that opens what comes next
            ends.add(at + opened)
        if _HAS_UNSPACED.search(word):
            inside = {at + cut for cut, _ in _cuts(word)}
            starts |= inside
            ends |= inside
        if len(words) > 1 and _is_one_number(words[-2], word):
            starts.discard(at)
            ends.discard(at - 1)
        at += len(word) + 1
    return _Folded(" ".join(words), sorted(starts), frozenset(ends), here, there)


def _core(word: str) -> tuple[int, int]:
    """Where a word begins and ends without the punctuation around it."""
    opening = _OPENING.match(word)
    opened = opening.end() if opening else 0
    inside = word[opened:].rstrip(_CLOSERS)
    # Bold or italics end in as many stars as they begin with; a star of its own marks a value.
    while inside.endswith(("**", "__")) or (opened and inside.endswith(("*", "_"))):
        inside = inside.rstrip("*_").rstrip(_CLOSERS)
    return opened, opened + len(inside)


def _may_cut(word: str, at: int) -> bool:
    """Whether a script without spaces lets a quote begin or end before a character.

    Not inside a number or a word of another script, nor before a combining mark.
    """
    before, after = word[at - 1], word[at]
    if unicodedata.category(after).startswith("M"):
        return False
    return _is_letter(before) or _is_letter(after)


def _is_letter(character: str) -> bool:
    return bool(_HAS_UNSPACED.match(character)) and not character.isdigit()


def _all_pieces(text: str) -> list[str]:
    pieces: list[str] = []
    for sentence in _glued(sentences(text)):
        for i, word in enumerate(sentence):
            own = _pieces(word)
            if i and _is_one_number(sentence[i - 1], word):
                pieces[-1] += f" {own[0]}"
                own = own[1:]
            elif i:
                pieces.append(" ")
            pieces += own
        pieces.append(BARRIER)
    return pieces


def _is_one_number(before: str, after: str) -> bool:
    """Whether a space is a thousands mark, as in 25 000 IU."""
    return bool(_HEAD.fullmatch(before) and _THOUSANDS.fullmatch(after))


def _samples(pieces: list[str]) -> Iterator[str]:
    for run in "".join(pieces).split(BARRIER):
        words = run.split()
        for i, word in enumerate(words):
            if _HAS_UNSPACED.search(word) and len(words) < MIN_WORDS:
                yield word
                break
            if _HAS_WORD.search(word) and (quote := _longest(words, i)):
                yield quote
                break


def _longest(words: list[str], start: int) -> str | None:
    """The longest quote that begins with a word."""
    count, alone, end = 0, 0, start
    for i in range(start, len(words)):
        alone = 0 if _HAS_WORD.search(words[i]) else alone + 1
        count += not alone
        if alone > _STANDING_ALONE or count > MAX_WORDS:
            break
        end = i + 1
    counted = min(count, MAX_WORDS)
    if counted >= MIN_WORDS:
        return " ".join(words[start:end])
    return words[start] if _HAS_UNSPACED.search(words[start]) else None


def _glued(found: Iterator[Sentence]) -> list[list[str]]:
    """Short sentences joined with what follows, the last with what is before.

    Not over a blank line: what stands apart is not one thing.
    """
    joined: list[list[str]] = []
    count, before, apart = MIN_WORDS, False, False
    for words, apart_from in [*found, Sentence([], True)]:
        if joined and count < MIN_WORDS and not apart_from:
            joined[-1].extend(words)
            count += _count(words)
            continue
        if count < MIN_WORDS and before and not apart:
            last = joined.pop()
            joined[-1].extend(last)
        before, apart, count = bool(joined), apart_from, _count(words)
        joined.append(words)
    return joined[:-1]


def _count(words: list[str]) -> int:
    """How many words there are; a clause of a script without spaces counts as enough."""
    clause = any(len(w) >= _SHORTEST_CLAUSE and _HAS_UNSPACED.search(w) for w in words)
    return MIN_WORDS if clause else sum(_HAS_WORD.search(word) is not None for word in words)


def _pieces(word: str) -> list[str]:
    if not _is_plain(word):
        return [BARRIER]
    if _HAS_UNSPACED.search(word):
        return _clauses(word)
    if len(word) > _LONGEST_WORD:
        return [BARRIER]
    opened, closed = _core(word)
    return [part for part in (word[:opened], word[opened:closed], word[closed:]) if part]


def _is_plain(word: str) -> bool:
    """Half of a surrogate pair cannot be written in UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


def _clauses(word: str) -> list[str]:
    """A run without spaces in clauses; sentences, and what would get too long, kept apart."""
    found: list[str] = []
    start = 0
    for at, apart in [*_cuts(word), (len(word), False)]:
        piece = word[start:at]
        found.append(piece if len(piece) <= 2 * _LONGEST_WORD else BARRIER)
        if apart:
            found.append(BARRIER)
        start = at
    return found


def _cuts(word: str) -> Iterator[tuple[int, bool]]:
    """Where a run without spaces is cut, and whether no quote may run across."""
    start, run = 0, 0
    for at in range(1, len(word) - _SHORTEST_CLAUSE + 1):
        size = at - start
        ends = word[at - 1] in _CLAUSE_MARKS and word[at] not in _CLAUSE_MARKS
        wanted = (ends and size >= _SHORTEST_CLAUSE) or size >= _CLAUSE
        if not wanted or not _may_cut(word, at):
            continue
        run += size
        apart = word[at - 1] in SENTENCE_MARKS or run + _CLAUSE >= _LONGEST_RUN
        yield at, apart
        run = 0 if apart else run
        start = at
