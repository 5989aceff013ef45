"""Dates and times of day, as (year, month, day, weekday), 0 where not said.

Covers numeric dates (month first, and day first where that can be), ISO, month names in either
order, years, months and weekdays alone, and clock times. Does not cover "yesterday" and other
words that need to know today's date.
"""

from typing import NamedTuple

from medgemma_cli.safety.grounding.words import Token, listed

Day = tuple[int, int, int, int]
_NAMES = "january february march april may june july august september october november december"
MONTHS = {name: i for i, name in enumerate(_NAMES.split(), 1)}
MONTHS |= {name[:3]: i for name, i in list(MONTHS.items())} | {"sept": 9}
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
WEEKDAYS = {name: i for i, name in enumerate(_DAYS.split(), 1)}
_BEFORE_MONTH = listed(
    "in since of last this next early late mid until by from to between through during on past and"
)
_NOT_YEARS = listed("mg mcg ml / units cc calories kcal g steps - % iu meq hours")


class Date(NamedTuple):
    """The readings of a date, the most likely first, and the token after it."""

    readings: tuple[Day, ...]
    last: int


def read(words: list[Token], at: int, last: int) -> Date | None:
    """The date that begins at a token."""
    text = words[at].text
    if text in WEEKDAYS:
        return Date(((0, 0, 0, WEEKDAYS[text]),), at + 1)
    if text in MONTHS:
        return _named(words, at, last)
    if not text[0].isdecimal():
        return None
    return _numeric(words, at, last) or _day_first(words, at, last) or _year(words, at, last)


def _whole(words: list[Token], at: int, last: int) -> int:
    """The whole number at a token, or 0."""
    if at >= last or not words[at].text.isdecimal():
        return 0
    return int(words[at].text)


def _ordinal(words: list[Token], at: int, last: int) -> int:
    """How many tokens "th", "of" or a comma take."""
    taken = 0
    while at + taken < last and words[at + taken].text in ("th", "st", "nd", "rd", ",", "of"):
        taken += 1
    return taken


def _is_year(value: int) -> bool:
    return 1900 <= value <= 2100


def _named(words: list[Token], at: int, last: int) -> Date | None:
    month = MONTHS[words[at].text]
    after = at + 1
    after += after < last and words[after].text == "."
    day = _whole(words, after, last)
    if _is_year(day):
        return Date(((day, month, 0, 0),), after + 1)
    if 1 <= day <= 31:
        end = after + 1
        skip = _ordinal(words, end, last)
        year = _whole(words, end + skip, last)
        if _is_year(year):
            return Date(((year, month, day, 0),), end + skip + 1)
        skip = min(skip, 1) if skip and words[end].text != "," else 0
        return Date(((0, month, day, 0),), end + skip)
    skip = _ordinal(words, after, last)
    if skip and _is_year(_whole(words, after + skip, last)):
        return Date(((_whole(words, after + skip, last), month, 0, 0),), after + skip + 1)
    long = len(words[at].text) > 3 and words[at].text not in ("may", "march")
    if long or (words[at].text != "mar" and at > 0 and words[at - 1].text in _BEFORE_MONTH):
        follows = words[after].text if after < last else ""
        if words[at].text in ("may", "march") and follows in ("have", "be", "not"):
            return None
        return Date(((0, month, 0, 0),), after)
    return None


def _day_first(words: list[Token], at: int, last: int) -> Date | None:
    day = _whole(words, at, last)
    if not 1 <= day <= 31:
        return None
    after = at + 1 + _ordinal(words, at + 1, last)
    if after >= last or words[after].text not in MONTHS:
        return None
    if words[after].text in ("may", "mar", "dec", "sec") and after > at + 2:
        return None
    month = MONTHS[words[after].text]
    skip = _ordinal(words, after + 1, last)
    year = _whole(words, after + 1 + skip, last)
    if _is_year(year):
        return Date(((year, month, day, 0),), after + 2 + skip)
    return Date(((0, month, day, 0),), after + 1)


def _numeric(words: list[Token], at: int, last: int) -> Date | None:
    """`3/4/2021`, `2021-03-04`, `04.03.2021`, `12/2019`."""
    if at + 2 < last and words[at + 1].text == "." and "." in words[at].text:
        day, _, month = words[at].text.partition(".")
        year = _full(_whole(words, at + 2, last), words[at + 2].text)
        if (
            year
            and day.isdecimal()
            and month.isdecimal()
            and 1 <= int(month) <= 12
            and not words[at + 2].spaced
        ):
            return Date(((year, int(month), int(day), 0),), at + 3)
    sign = words[at + 1].text if at + 1 < last else ""
    if sign not in ("/", "-") or at + 2 >= last or words[at + 2].spaced:
        return None
    one, two = _whole(words, at, last), _whole(words, at + 2, last)
    if at + 4 < last and words[at + 3].text == sign and not words[at + 4].spaced:
        three = _whole(words, at + 4, last)
        if _is_year(one) and two <= 12 and three <= 31:
            return Date(((one, two, three, 0),), at + 5)
        year = _full(three, words[at + 4].text)
        readings = [
            (year, m, d, 0) for m, d in ((one, two), (two, one)) if 1 <= m <= 12 and 1 <= d <= 31
        ]
        return Date(tuple(dict.fromkeys(readings)), at + 5) if year and readings else None
    if sign == "/" and _is_year(two) and len(words[at + 2].text) == 4 and 1 <= one <= 31:
        return Date(((two, one, 0, 0),), at + 3)
    return None


def _full(year: int, text: str) -> int:
    """A year of two digits in its century; 0 for what is no year."""
    if len(text) == 2 and text.isdecimal():
        return year + (2000 if year < 50 else 1900)
    return year if _is_year(year) else 0


def _year(words: list[Token], at: int, last: int) -> Date | None:
    value = _whole(words, at, last)
    if not (_is_year(value) and len(words[at].text) == 4 and 1920 <= value <= 2060):
        return None
    after = words[at + 1].text if at + 1 < last else ""
    before = words[at - 1].text if at > 0 else ""
    if after in _NOT_YEARS:
        return None
    closed = after in ("", ".", ",", ";", ")") and 1950 <= value <= 2049
    if (
        closed
        or before in _BEFORE_MONTH
        or before
        in (
            "(",
            ",",
            "around",
            "year",
            "circa",
            "about",
            "/",
            "before",
            "after",
        )
    ):
        return Date(((value, 0, 0, 0),), at + 1)
    return None


def clock(words: list[Token], at: int, last: int) -> tuple[int, int] | None:
    """Minutes since midnight, and the token after it: `8:30`, `8 am`, `14:05`."""
    text = words[at].text
    if text == "noon":
        return 720, at + 1
    if not text.isdecimal() or int(text) > 23:
        return None
    hour, minute, after = int(text), 0, at + 1
    if at + 2 < last and words[at + 1].text == ":" and not words[at + 2].spaced:
        if not (words[at + 2].text.isdecimal() and len(words[at + 2].text) == 2):
            return None
        minute, after = int(words[at + 2].text), at + 3
    half = words[after].text if after < last else ""
    if half in ("am", "pm"):
        return (hour % 12 + (12 if half == "pm" else 0)) * 60 + minute, after + 1
    return (hour * 60 + minute, after) if after > at + 1 and minute < 60 else None


def agrees(one: Day, other: Day) -> bool:
    """Whether two dates say the same as far as both say anything, and both do."""
    common = [(a, b) for a, b in zip(one, other, strict=True) if a and b]
    return bool(common) and all(a == b for a, b in common)
