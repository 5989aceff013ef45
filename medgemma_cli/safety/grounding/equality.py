"""Do two quantities say the same? With units converted, rounding allowed where it is harmless.

Covers one dimension's units, Celsius and Fahrenheit, mg/dL and mmol/L of analytes whose molar mass
is listed, HbA1c in % and mmol/mol (NGSP and IFCC), weeks and months, and rounding a measurement
within half a unit of the output's last digit. A dose is never rounded, nor is an age.
"""

from typing import NamedTuple

from medgemma_cli.safety.grounding import dates
from medgemma_cli.safety.grounding.lexicon import toml
from medgemma_cli.safety.grounding.readings import Quantity, Reading
from medgemma_cli.safety.grounding.units import Unit

_TINY = 1e-6
_CELLS = frozenset({"wbc", "platelets", "neutrophils", "eosinophils"})
_SCORES = frozenset({5.0, 6.0, 10.0, 15.0, 30.0})


class Terms(NamedTuple):
    """How to compare: the analyte for molar conversion, whether exactly, whether roughly."""

    analyte: str = ""
    exact: bool = False
    rough: bool = False


def group(reading: Reading, label: str = "") -> str:
    """What a reading may be compared with at all."""
    if reading.kind == "label":
        return f"label:{label}"
    if reading.kind == "age":
        return "time"
    if reading.kind == "amount" and reading.unit:
        return _root(reading.unit.dimension)
    return "bare" if reading.kind == "amount" else reading.kind


def _root(dimension: str) -> str:
    if dimension in ("rate/time", "form:time/time"):
        return "rate"
    if dimension in ("mass/volume", "amount/volume", "equivalent/volume", "activity/volume"):
        return "concentration"
    if dimension in ("mass", "amount", "equivalent", "activity"):
        return "dose"
    return "form" if dimension.startswith("form:") else dimension


def same(one: Quantity, other: Quantity, terms: Terms = Terms()) -> str:  # noqa: B008
    """ "same", "bare" (equal, but only one has a unit), "part" (one of a pair), or ""."""
    best = ""
    for a in one.readings:
        for b in other.readings:
            found = _readings(a, b, one, other, terms)
            if found == "same":
                return found
            best = best or found
    return best


def _readings(a: Reading, b: Reading, one: Quantity, other: Quantity, terms: Terms) -> str:
    kinds = {a.kind, b.kind}
    if kinds == {"amount"}:
        return _amounts(a, b, one, other, terms)
    if kinds == {"age", "amount"} or kinds == {"age"}:
        return _ages(a, b)
    if kinds == {"date", "amount"}:
        day, amount = (a, b) if a.kind == "date" else (b, a)
        year = day.values[0] if not any(day.values[1:]) else 0
        return "same" if amount.unit is None and amount.values == (year, year) else ""
    if kinds == {"date"}:
        return "same" if dates.agrees(_day(a), _day(b)) else ""
    if kinds == {"label"}:
        return "same" if one.label == other.label and a.values == b.values else ""
    if kinds == {"frequency"}:
        near = all(abs(x - y) <= 0.03 * max(x, y) for x, y in zip(a.values, b.values, strict=True))
        return "same" if near else ""
    if kinds == {"pair"}:
        units = a.unit is None or b.unit is None or a.unit.factor == b.unit.factor
        return "same" if a.values == b.values and units else ""
    if kinds == {"pair", "amount"}:
        pair, amount = (a, b) if a.kind == "pair" else (b, a)
        plain = amount.unit is None or amount.unit.dimension in ("pressure", "form:point")
        if plain and amount.values[0] in pair.values and amount.values[0] == amount.values[1]:
            return (
                "part"
                if pair.values[1] not in _SCORES
                else "same" * (amount.values[0] == pair.values[0])
            )
        return ""
    return "same" if a.kind == b.kind and a.values == b.values else ""


def _day(reading: Reading) -> dates.Day:
    year, month, day, weekday = (int(value) for value in reading.values)
    return year, month, day, weekday


def _ages(a: Reading, b: Reading) -> str:
    years = []
    for reading in (a, b):
        if reading.kind == "age" or reading.unit is None:
            years.append(reading.values[0])
        elif reading.unit.dimension == "time":
            years.append(reading.values[0] * reading.unit.factor / 365.25)
        else:
            return ""
    return "same" if abs(years[0] - years[1]) < 1e-3 * max(years) else ""


def _amounts(a: Reading, b: Reading, one: Quantity, other: Quantity, terms: Terms) -> str:
    if one.vague != other.vague and not (
        a.unit and b.unit and a.unit.dimension != b.unit.dimension
    ):
        loose, tight = (a, b) if one.vague else (b, a)
        if (
            loose.values[1] > loose.values[0]
            and loose.values[0] <= tight.values[0] <= loose.values[1]
        ):
            return "same"
    if (a.unit is None) != (b.unit is None) and _implied(a, b):
        return "same"
    if a.unit is b.unit is None and terms.analyte in _CELLS and _in_thousands(a, b):
        return "same"
    if a.unit is None or b.unit is None:
        if a.unit is not b.unit:
            return "bare" if a.values == b.values else ""
        return "same" if _equal(a.values, b.values, one, other, terms) else ""
    if a.unit == b.unit or a.unit.name == b.unit.name:
        return "same" if _equal(a.values, b.values, one, other, terms) else ""
    return _converted(a, b, one, terms)


def _in_thousands(a: Reading, b: Reading) -> bool:
    """White cells 12,400 and 12.4."""
    low, high = sorted((a.values[0], b.values[0]))
    return high >= 1000 and abs(high / 1000 - low) < 0.051


def _implied(a: Reading, b: Reading) -> bool:
    """A number without a unit whose unit goes without saying: platelets 90,000, a fever of 102."""
    bare, full = (a, b) if a.unit is None else (b, a)
    assert full.unit is not None  # one of the two has a unit
    if full.unit.dimension == "cells" and bare.values[0] >= 1000:
        return abs(bare.values[0] / 1000 - full.values[0] * full.unit.factor) < 0.051
    if full.unit.dimension == "temperature" and 30 < bare.values[0] < 110:
        value = _temperature(bare.values[0], "", full.unit.name)
        return abs(value - full.values[0]) < 0.06
    return False


def _equal(
    a: tuple[float, ...], b: tuple[float, ...], one: Quantity, other: Quantity, terms: Terms
) -> bool:
    """Equal values of one unit; a measurement may be rounded in the output, which is `one`."""
    for x, y in zip(a, b, strict=False):
        allowed = _TINY * max(abs(x), abs(y))
        if not terms.exact and other.decimals > one.decimals:
            allowed = 0.5 * 10**-one.decimals + _TINY
        if terms.rough and not terms.exact:
            allowed = max(allowed, 0.05 * abs(y))
        if abs(x - y) > allowed:
            return False
    return True


def _converted(a: Reading, b: Reading, one: Quantity, terms: Terms) -> str:
    """Whether the source's value, in the output's unit, is the output's value."""
    assert a.unit is not None and b.unit is not None  # the caller has looked
    for x, y in zip(a.values, b.values, strict=True):
        value = convert(y, b.unit, a.unit, terms.analyte)
        if value is None:
            return ""
        allowed = _TINY * abs(value) if terms.exact else 0.5001 * 10**-one.decimals
        if a.unit.dimension == "time":
            loose = {a.unit.name, b.unit.name} & {"week", "wk"} and {a.unit.name, b.unit.name} & {
                "month",
                "mo",
                "mth",
            }
            allowed = (0.09 if loose else 0.02) * abs(value)
        elif one.decimals == 0 and abs(value) < 5 and not terms.exact:
            allowed = max(_TINY, 0.05 * abs(value))
        if terms.rough:
            allowed = max(allowed, 0.05 * abs(value))
        if abs(x - value) > allowed:
            return ""
    return "same"


def convert(value: float, source: Unit, wanted: Unit, analyte: str = "") -> float | None:
    """A value in another unit; None where the units do not measure the same thing."""
    if source.dimension == wanted.dimension == "temperature":
        return _temperature(value, source.name, wanted.name)
    if _root(source.dimension) == _root(wanted.dimension) == "rate":
        return value
    if source.dimension == wanted.dimension:
        return value * source.factor / wanted.factor
    grams = _grams_per_mole(analyte)
    pair = source.dimension.split("/")[0], wanted.dimension.split("/")[0]
    if source.dimension.partition("/")[2] == wanted.dimension.partition("/")[2]:
        scale = source.factor / wanted.factor
        if pair == ("mass", "amount") and grams:
            return value * scale / grams
        if pair == ("amount", "mass") and grams:
            return value * scale * grams
        charge = _charge(analyte)
        if pair == ("equivalent", "amount") and charge:
            return value * scale / charge
        if pair == ("amount", "equivalent") and charge:
            return value * scale * charge
    if analyte == "hba1c":
        if source.dimension == "share" and wanted.dimension == "amount/amount":
            return (value - 2.15) / 0.0915
        if source.dimension == "amount/amount" and wanted.dimension == "share":
            return value * 0.0915 + 2.15
    return None


def _temperature(value: float, source: str, wanted: str) -> float:
    """Celsius and Fahrenheit; where the scale is not said, the value tells."""
    source = source[:1] or ("f" if value > 50 else "c")
    if not wanted or source == wanted[:1]:
        return value
    return value * 9 / 5 + 32 if wanted[:1] == "f" else (value - 32) * 5 / 9


def _grams_per_mole(analyte: str) -> float:
    return float(toml("analytes")["molar"].get(analyte, 0))


def _charge(analyte: str) -> int:
    data = toml("analytes")
    return (
        1 if analyte in data["monovalent"]["names"] else 2 * (analyte in data["divalent"]["names"])
    )
