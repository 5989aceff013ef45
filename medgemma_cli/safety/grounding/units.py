"""Units of measure: what a word measures, and its factor to a base unit.

Covers the units of `units.toml` and quotients of them (mg/dL, mcg/kg/min, 10^3/uL). Masses and
amounts of substance meet only for an analyte whose molar mass is known. It is not a UCUM parser:
exponents and multiplied units are read as far as clinical notes write them.
"""

from functools import cache
from typing import NamedTuple

from medgemma_cli.safety.grounding.lexicon import toml
from medgemma_cli.safety.grounding.words import Token, listed


class Unit(NamedTuple):
    """What is measured, as `mass/volume`; the factor to base units; the words as written."""

    dimension: str
    factor: float
    name: str


@cache
def table() -> dict[str, tuple[str, float]]:
    """Each unit's dimension and factor."""
    found = {}
    for dimension, units in toml("units").items():
        for name, factor in units.items():
            own = f"form:{_form(name)}" if dimension in ("form", "count") else dimension
            if dimension in ("rate", "counting"):
                own = "rate" if dimension == "rate" else "cells"
            found[name] = (own, float(factor))
    return found


_FORMS = {"tab": "tablet", "pill": "tablet", "caplet": "tablet", "cap": "capsule", "gtt": "drop"}
_FORMS |= {"inhalation": "puff"}
# Words that are units only right behind a number, and not before certain words.
_RISKY = {
    "in": listed("length width diameter height tall size x by long wide"),
    "c": frozenset(".,;)"),
    "f": frozenset(".,;)"),
    "m": frozenset(".,;)"),
    "u": frozenset(),
    "k": frozenset("/"),
}


_POWERS = listed("x 10 109 103 k thousand / cell cells * ^")


_GLUED = {"d": (1.0, "day"), "w": (7.0, "week"), "h": (1 / 24, "hour")}
_PLANES = listed("echo echocardiogram imaging ultrasound view ct mammogram mammography images")


def _form(name: str) -> str:
    return _FORMS.get(name, name)


def read(words: list[Token], at: int, last: int) -> tuple[Unit, int] | None:
    """The unit that begins at a token, and the token after it."""
    if at >= last:
        return None
    if words[at].text == "°":
        at += 1
        if at >= last or words[at].base not in ("c", "f"):
            return (Unit("temperature", 1, ""), at)
        return Unit("temperature", 1, words[at].base), at + 1
    if words[at].text in ("degree", "degrees"):
        known = at + 1 < last and words[at + 1].base in ("c", "f", "celsius", "fahrenheit")
        name = words[at + 1].base[0] if known else ""
        return Unit("temperature", 1, name), at + 1 + known
    power = _power(words, at, last)
    if power is not None:
        return power
    first = _single(words, at, last)
    if first is None:
        return None
    unit, at = first
    return _quotient(words, unit, at, last)


def _power(words: list[Token], at: int, last: int) -> tuple[Unit, int] | None:
    """Cell counts: `x10^9/L`, `10^3/uL`, `K/uL`, `/uL`, `thousand/uL`."""
    if words[at].text not in _POWERS and not words[at].text.startswith(("x", "10")):
        return None
    texts = [words[i].text for i in range(at, min(at + 8, last))]
    joined = "".join(texts).replace("*", "x").replace("^", "")
    for head, scale in (
        ("x109/l", 1.0),
        ("109/l", 1.0),
        ("x103/ul", 1.0),
        ("103/ul", 1.0),
        ("x10e9/l", 1.0),
        ("x10e3/ul", 1.0),
        ("k/ul", 1.0),
        ("k/mm3", 1.0),
        ("thousand/ul", 1.0),
        ("/ul", 1e-3),
        ("/mm3", 1e-3),
        ("/cumm", 1e-3),
        ("x1012/l", 1e3),
        ("x106/ul", 1e3),
        ("cells/ul", 1e-3),
    ):
        if joined.startswith(head):
            used, n = 0, 0
            while used < len(head):
                used += len(texts[n].replace("^", ""))
                n += 1
            return Unit("cells", scale, head), at + n
    return None


def _single(words: list[Token], at: int, last: int) -> tuple[Unit, int] | None:
    token = words[at]
    following = words[at + 1].text if at + 1 < last else "."
    counted = at and not token.spaced and words[at - 1].text[0].isdecimal()
    if counted and token.text in _GLUED and following != "/" and following not in _PLANES:
        return Unit("time", *_GLUED[token.text]), at + 1
    if token.base in ("mm", "cm") and following in ("hg", "h2o"):
        dimension, factor = table()[token.base + following]
        return Unit(dimension, factor, token.base + following), at + 2
    if token.base == "international" and following.startswith("unit"):
        return Unit("activity", 1, "iu"), at + 2
    if token.base == "fluid" and following.startswith(("oz", "ounce")):
        return Unit("volume", 0.0295735, "floz"), at + 2
    known = table().get(token.base)
    if known is None:
        return None
    risky = _RISKY.get(token.text)
    if risky is not None and following not in risky and at + 1 < last:
        if token.text == "m" and following in ("x", "tall"):
            return Unit(*known, token.base), at + 1
        degree = token.text in "cf" and (not token.spaced or _is_degree(words, at))
        if token.text != "u" and not degree:
            return None
    return Unit(known[0], known[1], token.base), at + 1


def _is_degree(words: list[Token], at: int) -> bool:
    """Whether the number before "F" or "C" can be a body's temperature."""
    before = words[at - 1].text.replace(",", "") if at else ""
    if not before[:1].isdecimal():
        return False
    return 33 <= float(before) <= 44 if words[at].text == "c" else 90 <= float(before) <= 110


def _quotient(words: list[Token], unit: Unit, at: int, last: int) -> tuple[Unit, int]:
    """Go on over "/dL", "per kilogram", and so on."""
    while at + 1 < last and words[at].text in ("/", "per"):
        nxt = at + 1
        if words[nxt].text == "1" or words[nxt].text[0].isdecimal():
            break
        below = _single(words, nxt, last)
        if below is None:
            break
        under, nxt = below
        plain = unit.dimension.startswith(("form", "mass", "activity", "volume", "amount"))
        if under.dimension == "time" and under.name in ("day", "week", "month") and plain:
            break  # "10 mg per day" is a dose and how often
        dimension = f"{unit.dimension}/{under.dimension}"
        unit = Unit(dimension, unit.factor / under.factor, f"{unit.name}/{under.name}")
        at = nxt
    return unit, at
