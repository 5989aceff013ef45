"""Every number of a sentence as a quantity: its kind, value, unit and other readings.

Kinds: amount (with or without a unit, also a range), pair (blood pressure, scores), frequency,
age, date, clock, label (a type, stage, grade or vertebra). Numbering of lists, telephone numbers
and names with digits in them (B12, COVID-19) are no quantities.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from medgemma_cli.safety.grounding import dates, frequency, labels, numbers, units
from medgemma_cli.safety.grounding.readings import Quantity, Reading
from medgemma_cli.safety.grounding.units import Unit
from medgemma_cli.safety.grounding.words import Sentence, Token, listed

_TIMES = re.compile(r"x(\d{1,3})([dwh])")  # x7d
_NOT_COUNTED = listed(
    "# covid vitamin omega cn room apartment suite hcpcs icd cpt extension line version"
)
_ONE_OF = listed("one a an the oh zero")
_SEPARATORS = ("-", "to", "or", "and")


def read(words: list[Token], sentence: Sentence, taken: frozenset[int]) -> Iterator[Quantity]:
    """The quantities of a sentence; `taken` are tokens that belong to a name with digits."""
    at = sentence.first
    while at < sentence.last:
        if not _can_begin(words[at].text) or at in taken or _is_no_number(words, at, sentence):
            at += 1
            continue
        if phone := _telephone(words, at, sentence.last):
            at = phone
            continue
        found = _one(words, at, sentence.last)
        if found is None:
            at += 1
            continue
        yield found
        at = max(found.last, at + 1)


def _is_no_number(words: list[Token], at: int, sentence: Sentence) -> bool:
    """Numbering of a list, `#3`, `CN 7`, the digits of a code."""
    token = words[at]
    if not token.text[0].isdecimal():
        return False
    before = words[at - 1] if at > sentence.first else None
    after = words[at + 1] if at + 1 < sentence.last else None
    if at == sentence.first and after is not None and after.text in (".", ")") and not after.spaced:
        return True
    if at == sentence.first and after is None:
        return False
    if before is None:
        return False
    if before.text in _NOT_COUNTED:
        return before.text != "#" or after is None or after.base not in ("tablet", "tab", "capsule")
    glued = not token.spaced and before.text not in "(-/~<>=≤≥+x:,[$±"
    return glued and before.text[-1:].isalnum()


@lru_cache(maxsize=20_000)
def _can_begin(text: str) -> bool:
    """Whether any quantity begins with this word."""
    return text[0].isdecimal() or (text[0] in ".½¼¾⅓⅔⅛") or _may_begin(text) or labels.begins(text)


def _telephone(words: list[Token], at: int, last: int) -> int:
    if len(words[at].text) != 3:
        return 0
    texts = [words[i].text for i in range(at, min(at + 5, last))]
    shape = [len(t) for t in texts[::2]]
    if texts[1::2] == ["-", "-"] and shape == [3, 3, 4] and all(t.isdecimal() for t in texts[::2]):
        return at + 5
    return 0


def _one(words: list[Token], at: int, last: int) -> Quantity | None:
    """The quantity that begins at a token."""
    text = words[at].text
    if not (text[0].isdecimal() or (text[0] in ".½¼¾⅓⅔⅛" and text != ".")) and not _may_begin(text):
        return labels.read(words, at, last)
    ordered = text.isdecimal() and at + 1 < last and words[at + 1].text in labels.ENDINGS
    if ordered and (ordinal := labels.ordinal(words, at, last)):
        return ordinal
    if date := dates.read(words, at, last):
        readings = tuple(Reading("date", tuple(map(float, day))) for day in date.readings)
        return Quantity(readings, at, date.last)
    times = text[0] == "x" and text[1:].isdecimal()
    if times and (timed := units.read(words, at + 1, last)) and timed[0].dimension == "time":
        value = float(text[1:])
        return Quantity((Reading("amount", (value, value), timed[0]),), at, timed[1])
    if short := _TIMES.fullmatch(text):
        days = {"d": 1.0, "w": 7.0, "h": 1 / 24}[short[2]]
        unit = Unit("time", days, {"d": "day", "w": "week", "h": "hour"}[short[2]])
        value = float(short[1])
        return Quantity((Reading("amount", (value, value), unit),), at, at + 1)
    if often := frequency.read(words, at, last):
        reading = Reading("frequency", (often.low, often.high))
        return Quantity((reading,), at, often.last, weak=often.weak)
    if clock := dates.clock(words, at, last):
        return Quantity((Reading("clock", (float(clock[0]),)),), at, clock[1])
    number = numbers.read(words, at, last)
    if number is None or (text == "." and number.low == 0):
        return _article(words, at, last) or labels.read(words, at, last)
    return _pair(words, at, last, number) or _amount(words, at, last, number)


def _may_begin(text: str) -> bool:
    return (
        text in numbers.WORDS
        or text in dates.MONTHS
        or text in dates.WEEKDAYS
        or text in _STARTS
        or (text[0] == "q" and len(text) > 1 and text[1].isdecimal())
        or (text[0] == "x" and (text[1:].isdecimal() or bool(_TIMES.fullmatch(text))))
    )


_STARTS = listed(
    "od . couple few several a an the every each q once twice thrice noon per / at qd daily "
    "nightly qhs "
    "qam qpm nocte mane qday bid bd bds tid tds qid qds qod eod weekly qweek qwk monthly yearly "
    "annually hourly quarterly fortnightly everyday qmonth half past last yesterday"
)


def _article(words: list[Token], at: int, last: int) -> Quantity | None:
    """ "a week", "an hour", "a tablet": one; "yesterday" is about a day ago."""
    if words[at].text == "yesterday":
        day = Unit("time", 1.0, "day")
        return Quantity((Reading("amount", (1.0, 1.0), day),), at, at + 1, vague=True)
    if words[at].text not in ("a", "an", "past", "last", "per") or at + 1 >= last:
        return None
    unit = units.read(words, at + 1, last)
    if unit is None or not unit[0].dimension.startswith(("time", "form:tablet", "form:capsule")):
        return None
    if words[at + 1].text in ("second", "min", "m", "hr"):
        return None
    return Quantity((Reading("amount", (1.0, 1.0), unit[0]),), at, unit[1], vague=True)


def _pair(words: list[Token], at: int, last: int, number: numbers.Number) -> Quantity | None:
    """`120/80`, `7/10`, `7 out of 10`, `one twenty over eighty`."""
    after = number.last
    if after >= last:
        return None
    sign = words[after].text
    if sign == "out" and after + 1 < last and words[after + 1].text == "of":
        after += 1
    elif (
        (sign == "of" and number.word)
        or sign not in ("/", "over")
        or (
            sign == "/" and after + 1 < last and words[after + 1].spaced and not words[after].spaced
        )
    ):
        return None
    below = numbers.read(words, after + 1, last) if after + 1 < last else None
    if below is None or below.vague or words[after + 1].text in _ONE_OF:
        return None
    values = (number.low, below.low)
    readings = [Reading("pair", values)]
    unit = units.read(words, below.last, last)
    end = below.last
    if unit and unit[0].dimension == "pressure":
        readings, end = [Reading("pair", values, unit[0])], unit[1]
    if sign == "/":
        readings += _short_duration(values)
        if 1 <= values[0] <= 12 and 1 <= values[1] <= 31:
            readings.append(Reading("date", (0.0, *values, 0.0)))
        if 1 <= values[1] <= 12 and 1 <= values[0] <= 31:
            readings.append(Reading("date", (0.0, values[1], values[0], 0.0)))
    return Quantity(tuple(readings), at, end)


def _short_duration(values: tuple[float, float]) -> list[Reading]:
    """British `2/7`, `3/52`, `6/12`: days, weeks, months."""
    days = {7.0: ("day", 1.0), 52.0: ("week", 7.0), 12.0: ("month", 30.4375)}.get(values[1])
    if days is None:
        return []
    return [Reading("amount", (values[0], values[0]), Unit("time", days[1], days[0]))]


def _amount(words: list[Token], at: int, last: int, number: numbers.Number) -> Quantity | None:
    low, high, after, decimals = number.low, number.high, number.last, number.decimals
    unit = units.read(words, after, last)
    upper_at = unit[1] if unit else after
    if upper_at + 1 < last and words[upper_at].text in _SEPARATORS[:3]:
        upper = numbers.read(words, upper_at + 1, last)
        if upper and not upper.vague and upper.high > high and not _is_from(words, at):
            upper_unit = units.read(words, upper.last, last)
            if upper_unit or words[upper_at].text != "or":
                same = not (unit and upper_unit) or unit[0].dimension == upper_unit[0].dimension
                if same and not (unit and not upper_unit):
                    low *= (
                        100 if low < 10 and upper.word and upper.high >= 100 and number.word else 1
                    )
                    high, after, unit = upper.high, upper.last, upper_unit
                    decimals = max(decimals, upper.decimals)
    if unit is None and after + 1 < last and words[after].text in ("x", "by"):
        unit = _shared(words, after + 1, last)
        unit = (unit[0], after) if unit else None
    if unit and unit[1] + 2 < last and words[unit[1]].text == "/" and unit[0].dimension == "mass":
        low, high, unit = _strength(words, low, high, unit, last)
    if at and words[at - 1].text == "-" and words[at - 1].spaced and not words[at].spaced:
        low, high = -high, -low
    if unit:
        after = unit[1]
    if age := _age(words, at, after, last, unit):
        timed = unit is not None and unit[0].dimension == "time"
        factor = unit[0].factor / 365.25 if unit and timed else 1.0
        return Quantity((Reading("age", (low * factor,)),), at, age, decimals)
    if number.word and unit is None and low < 2:
        return None
    own = Reading("amount", (low, high), unit[0] if unit else None)
    return Quantity((own,), at, after, decimals, number.vague)


def _shared(words: list[Token], at: int, last: int) -> tuple[Unit, int] | None:
    """The unit of "1.2 x 0.8 cm", which its first numbers share."""
    for _ in range(2):
        number = numbers.read(words, at, last) if at < last else None
        if number is None:
            return None
        unit = units.read(words, number.last, last)
        if unit:
            return unit if unit[0].dimension == "length" else None
        at = number.last + 1
    return None


def _strength(
    words: list[Token], low: float, high: float, unit: tuple[Unit, int], last: int
) -> tuple[float, float, tuple[Unit, int]]:
    """ "10 mg/5 mL" as 2 mg/mL."""
    below = numbers.read(words, unit[1] + 1, last)
    under = units.read(words, below.last, last) if below else None
    if below is None or under is None or under[0].dimension != "volume" or not below.low:
        return low, high, unit
    name = f"{unit[0].name}/{under[0].name}"
    whole = Unit("mass/volume", unit[0].factor / under[0].factor, name)
    return low / below.low, high / below.low, (whole, under[1])


def _is_from(words: list[Token], at: int) -> bool:
    """ "from 20 to 40" is a change, no range."""
    return at > 0 and words[at - 1].text in ("from", "was", "increased", "decreased")


def _age(words: list[Token], at: int, after: int, last: int, unit: tuple[Unit, int] | None) -> int:
    """The token after "year old", "yo", "y/o", or of "aged 43"; 0 if this is no age."""
    texts = [words[i].text for i in range(after, min(after + 3, last))]
    timed = unit is not None and unit[0].dimension == "time"
    if timed and texts[:1] in (["old"], ["o"]):
        return after + 1
    if timed and texts[:2] == ["of", "age"]:
        return after + 2
    if timed and texts[:2] == ["/", "o"]:
        return after + 2
    if not timed and texts[:1] in (["yo"], ["yom"], ["yof"]):
        return after + 1
    if not timed and (texts[:3] == ["y", "/", "o"] or texts[:2] == ["y", "o"]):
        return after + len(["y", "/", "o"] if texts[1] == "/" else ["y", "o"])
    if not timed and texts[:1] in (["f"], ["m"]) and not words[after].spaced and unit is None:
        return after + 1
    if unit and unit[0].name == "f" and not words[after - 1].spaced and words[at].text.isdecimal():
        return after if int(words[at].text) < 95 else 0
    if unit and unit[0].name == "m" and not words[after - 1].spaced and words[at].text.isdecimal():
        opens = at == 0 or words[at - 1].text in (".", ":", ";", "a", "an", "pt", "patient")
        return after if opens and 12 < int(words[at].text) < 110 else 0
    before = words[at - 1].text if at else ""
    if before in ("aged", "age") or (before == ":" and at > 1 and words[at - 2].text == "age"):
        return after
    return 0
