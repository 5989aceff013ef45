"""What each number belongs to: the drug, analyte or vital sign that it is the number of.

A dose belongs to the nearest drug before it, or behind it ("500 mg of metformin"); a result to
the nearest analyte; lists with "respectively" go in order. Other numbers have no head and are
told apart by the words around them.
"""

from typing import NamedTuple

from medgemma_cli.safety.grounding import numbers
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.equality import group
from medgemma_cli.safety.grounding.lexicon import Term
from medgemma_cli.safety.grounding.readings import Quantity
from medgemma_cli.safety.grounding.words import Sentence

_DOSES = frozenset(
    {
        "dose",
        "form",
        "volume",
        "dose/mass",
        "mass/mass",
        "mass/time",
        "activity/time",
        "volume/time",
    }
)
_RESULTS = frozenset(
    {"concentration", "pair", "temperature", "pressure", "rate", "cells", "share", "length"}
)
_BETWEEN = frozenset(
    {
        "course",
        "of",
        "oral",
        "iv",
        "po",
        "the",
        "tablet",
        "(",
        "dose",
        "subcutaneou",
        "her",
        "his",
        "x",
    }
)
_NEW = frozenset(
    {",", "and", "plus", "with", ";", "of", "or", "to", "on", "took", "take", "taking", "start"}
)
_MARKS = {
    "<": "<",
    "≤": "<",
    ">": ">",
    "≥": ">",
    "under": "<",
    "below": "<",
    "over": ">",
    "above": ">",
    "least": ">",
    "exceeding": ">",
}
_FAR = 12
_VOLUMES = frozenset({"urine_output", "oxygen_flow", "fev1", "peak_flow"})
_CLOSED = frozenset({",", ";", "and", ".", "but", "then"})
_MOMENTS = {"today": "now", "now": "now", "currently": "now", "discharge": "discharge"}
_MOMENTS |= {"admission": "admission", "presentation": "admission"}
_PARTS = {
    **dict.fromkeys(("morning", "am", "mane", "qam", "breakfast"), "morning"),
    **dict.fromkeys(("noon", "lunch", "midday", "lunchtime"), "noon"),
    **dict.fromkeys(
        ("evening", "night", "bedtime", "pm", "nocte", "qpm", "qhs", "dinner", "supper", "nightly"),
        "night",
    ),
}


class Bound(NamedTuple):
    """A quantity of a text with its head (a drug's or analyte's name, or nothing)."""

    quantity: Quantity
    head: str
    category: str
    sign: str
    role: str
    side: str = ""


def bind(text: Analysis) -> list[Bound]:
    """Every quantity of a text with its head. Cached on the analysis."""
    known: list[Bound] | None = getattr(text, "_bound", None)
    if known is None:
        known = [
            bound for i, found in enumerate(text.quantities) for bound in _sentence(text, i, found)
        ]
        text._bound = known  # type: ignore[attr-defined]
    return known


def beside(text: Analysis, bound: Bound) -> list[Bound]:
    """The quantities of the same sentence, itself among them."""
    known: dict[int, list[Bound]] | None = getattr(text, "_beside", None)
    if known is None:
        known = {}
        for other in bind(text):
            known.setdefault(text.sentence_of[other.quantity.first], []).append(other)
        text._beside = known  # type: ignore[attr-defined]
    return known[text.sentence_of[bound.quantity.first]]


def _heads(text: Analysis) -> dict[int, list[Term]]:
    """What quantities may belong to, by sentence. Cached on the analysis."""
    known: dict[int, list[Term]] | None = getattr(text, "_heads", None)
    if known is None:
        known = {}
        for term in text.terms:
            if term.category in ("drug", "analyte"):
                known.setdefault(text.sentence_of[term.first], []).append(term)
        text._heads = known  # type: ignore[attr-defined]
    return known


def _sentence(text: Analysis, index: int, found: list[Quantity]) -> list[Bound]:
    sentence = text.sentences[index]
    if not found:
        return []
    heads = _heads(text).get(index, [])
    heads = [t for t in heads if not any(q.first <= t.first < q.last for q in found)]
    bases = text.bases[sentence.first : sentence.last]
    if "respectively" in bases and (bound := _in_order(text, heads, found)):
        return bound
    used: set[tuple[int, str]] = set()
    result = []
    for quantity in found:
        term = _head(text, sentence, quantity, heads, used)
        if term:
            used.add((term.first, group(quantity.readings[0])))
        result.append(_made(text, quantity, term))
    return result


def _made(text: Analysis, quantity: Quantity, term: Term | None) -> Bound:
    head, category = (term.id, term.category) if term else ("", "")
    return Bound(
        quantity,
        head,
        category,
        _sign(text, quantity.first),
        _role(text, quantity),
        _side(text, quantity),
    )


def _in_order(text: Analysis, heads: list[Term], found: list[Quantity]) -> list[Bound]:
    """ "sodium and potassium were 140 and 4.1, respectively"."""
    for category in ("analyte", "drug"):
        listed = [t for t in heads if t.category == category]
        values = [q for q in found if q.kind in ("amount", "pair", "frequency")]
        if len(listed) == len(values) > 1:
            return [_made(text, q, t) for q, t in zip(values, listed, strict=True)]
    return []


def _head(
    text: Analysis,
    sentence: Sentence,
    quantity: Quantity,
    heads: list[Term],
    used: set[tuple[int, str]],
) -> Term | None:
    category = _category(quantity)
    if not category:
        return None
    if name := _lettered(text, quantity):
        return Term("analyte", name, "", quantity.first - 1, quantity.first)
    kind = group(quantity.readings[0])
    fitting = [t for t in heads if t.category in category]
    if kind == "volume":
        fitting = [t for t in fitting if t.category == "drug" or t.id in _VOLUMES]
    before = [t for t in fitting if t.last <= quantity.first]
    after = [t for t in fitting if t.first >= quantity.last]
    last = before[-1] if before else None
    if last and len(fitting) > 1 and _cut(text, last.last, quantity.first):
        last = None
    nxt = after[0] if after else None
    if nxt and _adjoins(text, quantity.last, nxt.first):
        lead = text.tokens[quantity.first - 1].text if quantity.first > sentence.first else ","
        course = text.bases[quantity.last] == "course"
        if course or last is None or lead in _NEW or (last.first, kind) in used:
            return nxt
    if last and quantity.first - last.last <= _FAR:
        return last
    if last is None and nxt and nxt.first - quantity.last <= 5 and category != ("drug",):
        return nxt if not _cut(text, quantity.last, nxt.first) else None
    return None


def _lettered(text: Analysis, quantity: Quantity) -> str:
    """ "T 38.4", by its value, and "Mg 1.9", where no number is before."""
    at, value = quantity.first, quantity.readings[0].values[0]
    bare = quantity.kind == "amount" and (
        quantity.unit is None or quantity.unit.dimension == "temperature"
    )
    letter = text.tokens[at - 1].text if at else ""
    if bare and letter == "t" and (34 <= value <= 43 or 93 <= value <= 108):
        return "temperature"
    counted = at > 1 and text.tokens[at - 2].text[0].isdecimal()
    return "magnesium" if bare and letter == "mg" and not counted and value < 10 else ""


def _category(quantity: Quantity) -> tuple[str, ...]:
    """What kinds of head a quantity can have."""
    kind = group(quantity.readings[0])
    if kind == "frequency":
        return ("drug",)
    if kind in _DOSES or kind.startswith("dose"):
        return ("drug", "analyte")
    if kind in _RESULTS or kind == "bare":
        return ("analyte", "drug")
    if kind == "time" and quantity.kind == "amount":
        return ("drug",)
    if quantity.kind == "amount" and "/" in kind:
        return ("analyte", "drug")
    return ()


def _adjoins(text: Analysis, first: int, last: int) -> bool:
    return last - first <= 2 and all(text.bases[at] in _BETWEEN for at in range(first, last))


def _cut(text: Analysis, first: int, last: int) -> bool:
    return any(text.tokens[at].text in (";", "•") for at in range(first, last))


def _sign(text: Analysis, at: int) -> str:
    """Whether the number is a bound: "less than", "over", "≤"."""
    for back in range(1, 4):
        if at - back < 0:
            return ""
        mark = text.tokens[at - back].text
        if mark in _MARKS and (back == 1 or mark in ("<", ">", "least")):
            return _MARKS[mark]
        if mark == "than" and at - back > 0:
            word = text.tokens[at - back - 1].text
            return "<" if word in ("less", "lower", "fewer", "smaller") else ">"
        if mark not in ("=", "a", "the", "about"):
            return ""
    return ""


def _role(text: Analysis, quantity: Quantity) -> str:
    """The side of a change that a number stands on, or "x" in measures such as 3 x 2 cm."""
    at, last = quantity.first, quantity.last
    after = text.tokens[last].text if last < len(text.tokens) else ""
    if after in ("x", "by") or (at and text.tokens[at - 1].text in ("x", "by")):
        return "x" if quantity.kind == "amount" else ""
    before = text.tokens[at - 1].text if at else ""
    if before in ("from", "to"):
        return before
    return _day_part(text, quantity) or _moment(text, quantity)


def _moment(text: Analysis, quantity: Quantity) -> str:
    """When a value was taken: "7.4% today", "9.1 on discharge"."""
    sentence = text.sentences[text.sentence_of[quantity.first]]
    for at in range(quantity.last, min(quantity.last + 3, sentence.last)):
        word = text.tokens[at].text
        if word in _CLOSED or word[0].isdecimal():
            break
        if word in _MOMENTS:
            return _MOMENTS[word]
    return ""


_SIDES = {
    **dict.fromkeys(("left", "lt", "os"), "left"),
    **dict.fromkeys(("right", "rt", "od"), "right"),
}


def _side(text: Analysis, quantity: Quantity) -> str:
    """The side of the body that a measurement belongs to: "16 OD", "right kidney 11 cm"."""
    timed = quantity.unit is not None and quantity.unit.dimension == "time"
    if quantity.kind not in ("amount", "pair") or timed:
        return ""
    sentence = text.sentences[text.sentence_of[quantity.first]]
    behind = range(quantity.last, min(quantity.last + 4, sentence.last))
    ahead = range(quantity.first - 1, max(quantity.first - 5, sentence.first - 1), -1)
    for places in (behind, ahead):
        for at in places:
            word = text.tokens[at].text
            if word in _CLOSED or word[0].isdecimal():
                break
            if word in _SIDES:
                return _SIDES[word]
    return ""


def _day_part(text: Analysis, quantity: Quantity) -> str:
    """The one part of the day that a dose is for: "two tablets at night"."""
    sentence = text.sentences[text.sentence_of[quantity.first]]
    found = set()
    for at in range(quantity.last, min(quantity.last + 7, sentence.last)):
        word = text.tokens[at].text
        if word[0].isdecimal() or word in numbers.WORDS or word in (";", "then"):
            break
        if word in _PARTS:
            found.add(_PARTS[word])
    return found.pop() if len(found) == 1 else ""
