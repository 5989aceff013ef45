"""Numbers as they are written or spoken: digits, decimals, thousands, fractions, words.

Covers "1,000", ".5", "2,5" before a unit, "½", "2 1/2", "twenty-five", "one and a "
    "half", "a couple"
(vague), and the spoken "one "
    "twenty" (120) of transcripts. Does not cover Roman numerals other than
behind a designator such as "type" (see `labels`).
"""

from typing import NamedTuple

from medgemma_cli.safety.grounding.words import Token

_ONES = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
WORDS = frozenset({*_ONES, *_TENS, "hundred", "thousand", "million", "half", "oh", "dozen"})
_SIGNS = {"½": 0.5, "¼": 0.25, "¾": 0.75, "⅓": 1 / 3, "⅔": 2 / 3, "⅛": 0.125}
_VAGUE = {"couple": (2.0, 2.0), "few": (2.0, 6.0), "several": (3.0, 10.0)}
_FRACTIONS = {(1, 2), (1, 3), (2, 3), (1, 4), (3, 4), (1, 8)}


class Number(NamedTuple):
    """A value from `low` to `high`, its decimals, and the token after it."""

    low: float
    high: float
    decimals: int
    last: int
    word: bool = False
    vague: bool = False


def read(words: list[Token], at: int, last: int) -> Number | None:
    """The number that begins at a token."""
    text = words[at].text
    if text == ".":
        return (
            _decimals(words, 0.0, at, last)
            if _is(words, at + 1, last, *_ONES) and words[at].spaced
            else None
        )
    if text[0].isdecimal() or text[0] == ".":
        return _digits(words, at, last)
    if text in _SIGNS:
        return Number(_SIGNS[text], _SIGNS[text], 2, at + 1)
    if text in _VAGUE:
        low, high = _VAGUE[text]
        return Number(low, high, 0, at + 1 + _is(words, at + 1, last, "of"), True, True)
    if text in ("a", "the") and _is(words, at + 1, last, "couple", "few", "dozen", "half"):
        return read(words, at + 1, last)
    if text == "half":
        skip = _is(words, at + 1, last, "a", "of", "an")
        return Number(0.5, 0.5, 1, at + 1 + skip, True)
    return _spelt(words, at, last) if text in WORDS and text != "oh" else None


def _is(words: list[Token], at: int, last: int, *texts: str) -> bool:
    return at < last and words[at].text in texts


def _number(token: Token) -> bool:
    return token.text[0].isdecimal() and "." not in token.text


def _digits(words: list[Token], at: int, last: int) -> Number:
    text = words[at].text.replace(",", "")
    value = float(text)
    decimals = len(text.partition(".")[2])
    after = at + 1
    if _tight(words, at, last, ",") and len(words[at + 2].text) <= 2 and decimals == 0:
        tail = words[at + 2].text
        if at + 3 < last and words[at + 3].text[0].isalpha() and words[at + 3].spaced:
            return Number(float(f"{text}.{tail}"), float(f"{text}.{tail}"), len(tail), at + 3)
    if after < last and words[after].text in _SIGNS:
        value += _SIGNS[words[after].text]
        return Number(value, value, 2, after + 1)
    if after + 2 < last and _fraction(words, after, last) and words[after].spaced and value < 20:
        value += _ratio(words, after)
        return Number(value, value, 2, after + 3)
    if _is(words, after, last, "and") and _is(words, after + 1, last, "half", "a"):
        half = after + 1 + (words[after + 1].text == "a")
        if _is(words, half, last, "half"):
            return Number(value + 0.5, value + 0.5, 1, half + 1)
    if _is(words, after, last, "hundred", "thousand", "million"):
        scale = {"hundred": 1e2, "thousand": 1e3, "million": 1e6}[words[after].text]
        if not (after + 1 < last and words[after + 1].text == "/"):
            return Number(value * scale, value * scale, 0, after + 1)
    if _fraction(words, at, last) and not (at + 3 < last and words[at + 3].text == "/"):
        after_unit = at + 3 < last and words[at + 3].base in (
            "tablet",
            "tab",
            "pill",
            "cup",
            "mile",
            "inch",
            "teaspoon",
            "dose",
            "pack",
            "hour",
        )
        if after_unit or _is(words, at + 3, last, "a", "of"):
            skip = not after_unit
            return Number(_ratio(words, at), _ratio(words, at), 2, at + 3 + skip)
    return Number(value, value, decimals, after)


def _tight(words: list[Token], at: int, last: int, sign: str) -> bool:
    """Whether a sign and digits follow without a space."""
    return (
        at + 2 < last
        and words[at + 1].text == sign
        and not words[at + 1].spaced
        and not words[at + 2].spaced
        and _number(words[at + 2])
    )


def _fraction(words: list[Token], at: int, last: int) -> bool:
    if at + 2 >= last or words[at + 1].text != "/" or not _number(words[at]):
        return False
    if not _number(words[at + 2]):
        return False
    return (
        int(words[at].text.replace(",", "")),
        int(words[at + 2].text.replace(",", "")),
    ) in _FRACTIONS


def _ratio(words: list[Token], at: int) -> float:
    return float(words[at].text) / float(words[at + 2].text)


def _spelt(words: list[Token], at: int, last: int) -> Number | None:
    """Number words: "twenty-five", "three hundred and ten", "one twenty", "nineteen ninety six"."""
    total, part, parts = 0.0, 0.0, 0
    before = ""
    place = at
    while place < last:
        text = words[place].text
        if text in _ONES or text == "oh":
            value = _ONES.get(text, 0)
            if before in ("ones", "teens") and parts:
                if not (value >= 10 or text == "oh") or part >= 100:
                    break
                part = part * 100 + value
            elif (before == "tens" and value >= 10) or before == "oh":
                part = part * 100 + value
            else:
                part += value
            before = "oh" if text == "oh" else "ones" if value < 10 else "teens"
        elif text in _TENS:
            part = (
                part * 100 + _TENS[text]
                if before in ("ones", "teens", "tens")
                else part + _TENS[text]
            )
            before = "tens"
        elif text in ("hundred", "hundreds") and parts:
            part, before = part * 100, "hundred"
        elif text in ("thousand", "million") and parts:
            total, part = total + part * (1e3 if text == "thousand" else 1e6), 0
            before = "hundred"
        elif text == "dozen":
            part, before = (part or 1) * 12, "dozen"
        elif (
            text == "and"
            and before == "hundred"
            and place + 1 < last
            and words[place + 1].text in WORDS
        ):
            place += 1
            continue
        else:
            break
        parts += 1
        place += 1
    if not parts:
        return None
    return _decimals(words, total + part, place, last)


def _decimals(words: list[Token], value: float, place: int, last: int) -> Number:
    """Go on over "point six" and "and a half"."""
    spoken = _is(words, place, last, ".") and words[place].spaced and place + 1 < last
    if (_is(words, place, last, "point") or spoken) and place + 1 < last:
        digits = ""
        at = place + 1
        while at < last and (words[at].text in _ONES or words[at].text.isdecimal()):
            digits += str(_ONES.get(words[at].text, words[at].text))
            at += 1
        if digits:
            value += float(f"0.{digits}")
            return Number(value, value, len(digits), at, True)
    if _is(words, place, last, "and") and _is(words, place + 1, last, "a", "half"):
        half = place + 1 + (words[place + 1].text == "a")
        if _is(words, half, last, "half"):
            return Number(value + 0.5, value + 0.5, 1, half + 1, True)
    return Number(value, value, 0, place, True)
