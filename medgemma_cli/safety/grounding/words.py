"""Text as tokens and sentences, each with its code points in the text as read. Pure.

Folding keeps every offset: case, dashes, quotes, spaces and full-width forms become their plain
ASCII form, one character for one. Sentences end at punctuation before a capital, at blank lines,
at lines that do not go on in small letters, and at the spaced full stops of transcripts.
"""

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple


def listed(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


_FOLD = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—−﹣－", "-"),
        **dict.fromkeys("‘’ʼ′`´", "'"),
        **dict.fromkeys("“”„″", '"'),
        **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000", " "),
        **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
        **{sign: str(i) for i, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        "µ": "u",
        "μ": "u",
        "×": "x",
        "⁄": "/",
        "∕": "/",
    }
)
_SPOKEN = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b"
_TOKEN = re.compile(  # plain words first: they are the most, and white space fails at once
    r"[a-z](?!\.[a-z])[^\W_]*(?:'(?=[a-z])[^\W_]+)*"
    r"|(?!\s)(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
    r"|[½¼¾⅓⅔⅛]"
    r"|(?:[a-z]\.){2,}(?![a-z]{2})[a-z]?(?![a-z])|[a-z]\.[a-z](?![a-z.])"
    r"|[^\W\d_][^\W_]*(?:'(?=[a-z])[^\W_]+)*"
    rf"|(?<=\d)-(?={_SPOKEN})|[^\s\w-]|(?<!\w)-(?=\.?\d)|_)"
    r"|(?<=\d) ?- ?(?=[\d.])"
)
_SECTION = re.compile(
    r"^[ \t#*•-]*([A-Za-z][A-Za-z /&'()-]{2,60}?)[ \t]*(?:\*\*)?:[ \t]*(?:\*\*)?|^[ "
    r"\t#*]*([A-Z][A-Z /&'()-]{3,60})$"
    r"|^[ \t]*((?i:(?:drug |medication )?allergies|medications|family history|social history|plan|"
    r"assessment|past medical history|impression|findings))[ \t]*$"
    r"|^(?:#{1,6}[ \t]+|\*\*)([A-Za-z][A-Za-z /&'()-]{2,60}?)[ \t]*(?:\*\*)?[ \t]*$",
    re.MULTILINE,
)
_SPEAKER = re.compile(r"^\s*(?:\[[a-z ]{2,20}\]|(?:doctor|patient|dr|pt|d|p) ?:)", re.M)
_ENDS = frozenset(".?!")
_TITLES = listed(
    "dr mr mrs ms prof st vs approx ca fig pt no inc e i etc resp temp wt ht dept sig q"
)
_PLURAL_KEPT = listed(
    "this his is was has does as us plus yes gas lens pus series diabetes always less illness "
    "loss mass across process pancreas abs stasis basis species besides sometimes towards "
    "hers its ours yours theirs whereas perhaps os as ms"
)


class Token(NamedTuple):
    """A folded word, number or sign; its singular; whether white space is before."""

    text: str
    base: str
    start: int
    end: int
    spaced: bool


_token = partial(tuple.__new__, Token)  # what Token(...) does, in half the time


class Sentence(NamedTuple):
    """Tokens `first` up to `last`; its section's heading; whether it asks; who speaks.

    `opened` is the code point behind that heading.
    """

    first: int
    last: int
    start: int
    end: int
    section: str
    asks: bool
    speaker: str
    opened: int = 0


@lru_cache(maxsize=20_000)
def singular(word: str) -> str:
    """The word without a plural's ending; a guess that is the same on both sides."""
    if len(word) < 4 or not word.endswith("s") or word in _PLURAL_KEPT:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ss", "us", "is", "'s")):
        return word[:-2] if word.endswith("'s") else word
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1]


_ENDINGS = ("ingly", "edly", "ion", "ing", "ed", "ly", "er")


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """A rough stem, for telling that two sentences speak of the same thing."""
    word = singular(word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if len(word) > 3 and word[-1] == "e":
        return word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" else word


def fold(text: str) -> str:
    """The text in small letters and plain signs, of the same length."""
    low = text.lower()
    if len(low) != len(text):
        low = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return low if low.isascii() and "`" not in low else low.translate(_FOLD)


def tokens(folded: str) -> list[Token]:
    """The tokens of a folded text; hyphens inside words are dropped."""
    found = []
    for match in _TOKEN.finditer(folded):
        start, end = match.span()
        text, base = _word(folded[start:end])
        spaced = start == 0 or folded[start - 1].isspace()
        found.append(_token((text, base, start, end, spaced)))
    return found


@lru_cache(maxsize=50_000)
def _word(text: str) -> tuple[str, str]:
    """A token's text without the signs in it, and its singular."""
    if not text[0].isalpha():
        return text.strip(), text.strip()
    text = text.replace(".", "").removesuffix("'s")
    return text, singular(text)


def sentences(text: str, words: list[Token]) -> list[Sentence]:
    """The sentences of a text, with the heading that each stands under."""
    headings = _headings(text)
    speakers = [(m.start(), m.group().strip(" []:\n\t")) for m in _SPEAKER.finditer(text.lower())]
    found: list[Sentence] = []
    first = heading = speaker = 0
    for i in _cuts(text, words):
        start, end = words[first].start, words[i - 1].end
        while heading < len(headings) and headings[heading][0] <= start:
            heading += 1
        while speaker < len(speakers) and speakers[speaker][0] <= start:
            speaker += 1
        _, section, opened = headings[heading - 1] if heading else (0, "", 0)
        who = speakers[speaker - 1][1] if speaker else ""
        asks = words[i - 1].text == "?"
        found.append(Sentence(first, i, start, end, section, asks, who, opened))
        first = i
    return found


def _headings(text: str) -> list[tuple[int, str, int]]:
    """Where each heading begins, its words, where it ends; an allergen in a list is none."""
    found: list[tuple[int, str, int]] = []
    for match in _SECTION.finditer(text):
        name = next(group for group in match.groups() if group).lower()
        line = match.group().lstrip()
        item = line[0] in "-*•" and not line.startswith("**")
        if item and found and "allerg" in found[-1][1]:
            continue
        found.append((match.start(), name, match.end()))
    return found


_DIGIT_WORDS = listed("one two three four five six seven eight nine zero")
_NUMBER_WORDS = _DIGIT_WORDS | listed(
    "twenty thirty forty fifty sixty seventy eighty ninety hundred a of ten eleven twelve "
    "thirteen fourteen fifteen"
)


def _is_spoken(words: list[Token], i: int) -> bool:
    """Whether a full stop is a spoken decimal point: "ninety eight . two"."""
    return i > 1 and words[i].text in _DIGIT_WORDS and words[i - 2].text in _NUMBER_WORDS


def _cuts(text: str, words: list[Token]) -> Iterator[int]:
    """The tokens before which a sentence ends, and the end of the text."""
    last, before = -1, ""
    for i, (word, _, start, end, _) in enumerate(words):
        apart = start > last + 1 or (start > last and text[last] in "\n\r")
        if i and (apart or before in _ENDS or text[last - 1] in _ENDS) and _ends(text, words, i):
            yield i
        last, before = end, word
    if words:
        yield len(words)


def _ends(text: str, words: list[Token], i: int) -> bool:
    """Whether a sentence ends before token `i`."""
    before, after = words[i - 1], words[i]
    gap = text[before.end : after.start]
    if "\n" in gap or "\r" in gap:
        lines = gap.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        first = text[after.start]
        goes_on = first.islower() and before.text not in (".", "?", "!", ":", ";")
        return lines > 1 or not goes_on
    if before.text == "?" and (i < 2 or words[i - 2].text in (".", ":", ";", ",", "(")):
        return False
    if before.text not in _ENDS:
        # "b.i.d. She": the initialism took the full stop with it
        return text[before.end - 1] == "." and len(gap) > 0 and text[after.start].isupper()
    if not gap:
        return False
    if before.spaced and _is_spoken(words, i):
        return False
    if before.text != ".":
        return True
    last = words[i - 2].text if i > 1 else ""
    unit = i > 2 and words[i - 3].text[0].isdecimal()  # "38.9 C."
    initial = len(last) == 1 and last.isalpha() and not unit
    if last in _TITLES or (initial and text[after.start].isupper()):
        return bool(before.spaced)
    first = text[after.start]
    return before.spaced or first.isupper() or first.isdecimal() or not first.isalnum()
