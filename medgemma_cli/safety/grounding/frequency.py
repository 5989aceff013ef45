"""How often: `BID`, `q8h`, "three times a day", "every 6 to 8 hours", as times a day.

Covers the English words and the Latin abbreviations of prescribing. Does not tell morning from
evening, nor "with meals" from "three times a day".
"""

import re
from typing import NamedTuple

from medgemma_cli.safety.grounding import numbers, units
from medgemma_cli.safety.grounding.words import Token

_DAILY = 1.0
_WORDS = {
    "qd": 1,
    "daily": 1,
    "nightly": 1,
    "qhs": 1,
    "qam": 1,
    "qpm": 1,
    "nocte": 1,
    "mane": 1,
    "qday": 1,
    "bid": 2,
    "bd": 2,
    "bds": 2,
    "tid": 3,
    "tds": 3,
    "qid": 4,
    "qds": 4,
    "qod": 0.5,
    "eod": 0.5,
    "weekly": 1 / 7,
    "qweek": 1 / 7,
    "qwk": 1 / 7,
    "monthly": 12 / 365.25,
    "yearly": 1 / 365.25,
    "annually": 1 / 365.25,
    "hourly": 24,
    "quarterly": 4 / 365.25,
    "fortnightly": 1 / 14,
    "everyday": 1,
    "qmonth": 12 / 365.25,
}
_PERIODS = {
    "day": 1.0,
    "night": 1.0,
    "morning": 1.0,
    "evening": 1.0,
    "week": 7.0,
    "month": 30.4375,
    "year": 365.25,
    "hour": 1 / 24,
    "bedtime": 1.0,
    "daily": 1.0,
    "weekly": 7.0,
    "monthly": 30.4375,
    "d": 1.0,
    "afternoon": 1.0,
}
_EVERY_HOURS = re.compile(r"q(\d+)(h|hr|hrs|hour|hours|d|days|day|wk|weeks|week|w|min|mins)?")
_COUNTS = {"once": 1.0, "twice": 2.0, "thrice": 3.0}


class Frequency(NamedTuple):
    """Times a day, from the least to the most; `weak` where it is only "daily" or "a day"."""

    low: float
    high: float
    last: int
    weak: bool = False


def read(words: list[Token], at: int, last: int) -> Frequency | None:
    """The frequency that begins at a token."""
    text = words[at].text
    if text in _WORDS:
        if (
            text == "daily"
            and at + 1 < last
            and words[at + 1].text in ("activities", "life", "living")
        ):
            return None
        rate = float(_WORDS[text])
        return Frequency(rate, rate, at + 1, text in ("daily", "nightly", "everyday"))
    if (
        text == "od"
        and at > 0
        and units.table().get(words[at - 1].base, ("",))[0] in ("mass", "form:tablet")
    ):
        return Frequency(1, 1, at + 1, True)
    if text in ("every", "each", "q"):
        return _every(words, at, last)
    if text[0] == "q" and (match := _EVERY_HOURS.fullmatch(text)):
        return _latin(words, at, last, match)
    return _times(words, at, last) or _day_part(words, at, last)


def _latin(words: list[Token], at: int, last: int, match: "re.Match[str]") -> Frequency | None:
    low = high = float(match[1])
    unit, after = match[2], at + 1
    if unit is None and after + 1 < last and words[after].text == "-":
        part = re.fullmatch(r"(\d+)", words[after + 1].text)
        if part:
            high, after = float(part[1]), after + 2
    if unit is None:
        unit = words[after].text if after < last else "h"
        after += 1
    days = {"h": 1 / 24, "d": 1.0, "w": 7.0, "m": 1 / 1440}.get(unit[0])
    if not low or days is None:
        return None
    return Frequency(1 / (high * days), 1 / (low * days), min(after, last))


def _every(words: list[Token], at: int, last: int) -> Frequency | None:
    """`every other day`, `every 6 to 8 hours`, `every morning`."""
    after = at + 1
    after += after < last and words[at].text == "q" and words[after].text == "."
    if after >= last:
        return None
    if words[after].text in ("other", "second", "alternate") and after + 1 < last:
        period = _PERIODS.get(words[after + 1].base)
        return Frequency(0.5 / period, 0.5 / period, after + 2) if period else None
    period = _PERIODS.get(words[after].base)
    if period:
        weak = words[after].base in ("day", "night", "morning", "evening")
        return Frequency(1 / period, 1 / period, after + 1, weak)
    number = numbers.read(words, after, last)
    if number is None or not number.low:
        return None
    low, high, after = number.low, number.high, number.last
    if after + 1 < last and words[after].text in ("-", "to", "or"):
        upper = numbers.read(words, after + 1, last)
        if upper and upper.high > low:
            high, after = upper.high, upper.last
    unit = units.read(words, after, last) or _glued(words, after, last)
    if unit is None or unit[0].dimension != "time":
        return None
    days = unit[0].factor
    return Frequency(1 / (high * days), 1 / (low * days), unit[1])


def _glued(words: list[Token], at: int, last: int) -> tuple[units.Unit, int] | None:
    if at < last and words[at].text == "h":
        return units.Unit("time", 1 / 24, "hour"), at + 1
    return None


def _times(words: list[Token], at: int, last: int) -> Frequency | None:
    """`twice a day`, `3 times per week`, `2x/day`, `1-2 times daily`."""
    low: float
    if words[at].text in _COUNTS:
        low = high = _COUNTS[words[at].text]
        after = at + 1
        if after + 1 < last and words[after].text in ("or", "to", "-"):
            high = _COUNTS.get(words[after + 1].text, high)
            after += 2 if words[after + 1].text in _COUNTS else 0
    elif words[at].text[0] == "x" and re.fullmatch(r"x\d", words[at].text):
        low, after = float(words[at].text[1]), at + 1
        high = low
    else:
        number = numbers.read(words, at, last)
        if number is None or number.vague:
            return None
        low, high, after = number.low, number.high, number.last
        if after + 1 < last and words[after].text in ("-", "to", "or"):
            upper = numbers.read(words, after + 1, last)
            if upper and not upper.vague:
                high, after = upper.high, upper.last
        if after >= last or words[after].text not in ("time", "times", "x"):
            return None
        after += 1
    linked = after < last and words[after].text in ("a", "per", "each", "every", "/", "in", "the")
    while after < last and words[after].text in ("a", "per", "each", "every", "/", "in", "the"):
        after += 1
    period = _PERIODS.get(words[after].base) if after < last else None
    if period is None or not (
        linked or words[after].base in ("daily", "weekly", "monthly", "day", "nightly")
    ):
        return None
    return Frequency(low / period, high / period, after + 1)


def _day_part(words: list[Token], at: int, last: int) -> Frequency | None:
    """`a day`, `per day`, `/day` behind a dose; `at bedtime`."""
    text = words[at].text
    if text == "at" and at + 1 < last and words[at + 1].text in ("bedtime", "night"):
        return Frequency(1, 1, at + 2, True)
    if text not in ("a", "per", "/") or at + 1 >= last or at == 0:
        return None
    period = _PERIODS.get(words[at + 1].base)
    before = words[at - 1].base
    known = units.table().get(before, ("", 0))[0]
    if period and known.startswith(("mass", "form", "activity", "volume", "amount")):
        return Frequency(1 / period, 1 / period, at + 2, True)
    return None
