"""Rule `laterality_flip`: left, right and both, each with the part of the body it belongs to.

Covers words, "R"/"L"/"rt"/"lt" before a body part, "-sided", and the abbreviations RLL, LUE, RUQ,
OD/OS/OU and their like. A side counts only where it belongs to a body part or a finding: "left the
clinic", "right away", "all right" and the L of L2 are no sides. Does not cover dominance "
    "of hands,
nor sides that follow only from a drawing or an image.
"""

from collections.abc import Iterator
from typing import NamedTuple

from medgemma_cli.safety.grounding.analysis import Analysis, likeness
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.lexicon import Term, regions
from medgemma_cli.safety.grounding.words import listed

_RULE = "laterality_flip"
_WORDS = {
    "left": "left",
    "right": "right",
    "lt": "left",
    "rt": "right",
    "l": "left",
    "r": "right",
    "bilateral": "both",
    "bilaterally": "both",
    "both": "both",
    "bilat": "both",
    "leftward": "left",
    "rightward": "right",
}
_SHORT = {
    "ll": "lower lobe",
    "ul": "upper lobe",
    "ml": "middle lobe",
    "uq": "upper quadrant",
    "lq": "lower quadrant",
    "ue": "arm",
    "le": "leg",
    "vh": "ventricle",
    "bbb": "bundle branch",
    "knee": "knee",
}
_COMPOSED = {
    f"{letter}{end}": (side, region)
    for letter, side in (("l", "left"), ("r", "right"))
    for end, region in _SHORT.items()
}
_COMPOSED |= {
    "od": ("right", "eye"),
    "os": ("left", "eye"),
    "ou": ("both", "eye"),
    "ble": ("both", "leg"),
    "bue": ("both", "arm"),
    "lv": ("left", "ventricle"),
    "rv": ("right", "ventricle"),
    "lca": ("left", "coronary artery"),
    "rca": ("right", "coronary artery"),
    "tkr": ("", ""),
    "lica": ("left", "neck"),
    "rica": ("right", "neck"),
    "lmca": ("left", "middle cerebral artery"),
    "rmca": ("right", "middle cerebral artery"),
    "au": ("both", "ear"),
    "ad": ("right", "ear"),
}
_ANY = frozenset({*_WORDS, *_COMPOSED, "b"})
_LEFT_WHAT = listed(
    "the ama against work home for without a his her before early school hospital clinic "
    "over untreated behind to "
    "message voicemail town ed er and at because after when open alone with out off it them "
    "us me in my their"
)
_RIGHT_WHAT = listed(
    "away now after before there here then dose medication medications thing time direction "
    "track to answer when where "
    "on decision choice course of way at okay ok , . ? ! drug treatment so well and i yeah "
    "up down back until as"
)
_OWN = listed("sided side lateral handed hemiparesis hemiplegia greater more upper lower")
_REACH = 5
_STEPS = listed(", ; : . ( ) left right both bilateral bilaterally")


class Side(NamedTuple):
    """A side as a text has it, with the regions it belongs to (perhaps none, then a finding)."""

    side: str
    regions: frozenset[str]
    first: int
    last: int


def sides(text: Analysis) -> list[Side]:
    """The sides of a text. Cached on the analysis."""
    known: list[Side] | None = getattr(text, "_sides", None)
    if known is None:
        places: dict[int, Term] = {}
        for term in text.terms_of("anatomy"):
            places[term.first] = term
        ends = {term.last: term for term in text.terms_of("anatomy")}
        finds = {term.first: term.id for term in text.terms_of("finding")}
        known = [
            side
            for at, token in enumerate(text.tokens)
            if token.text in _ANY and (side := _side(text, at, places, ends, finds))
        ]
        text._sides = known  # type: ignore[attr-defined]
    return known


def _side(
    text: Analysis, at: int, places: dict[int, Term], ends: dict[int, Term], finds: dict[int, str]
) -> Side | None:
    word = text.tokens[at].text
    if word in _COMPOSED:
        return _composed(text, at, word)
    side = _WORDS.get(word)
    if word == "b" and [t.text for t in text.tokens[at + 1 : at + 3]] == ["/", "l"]:
        side = "both"
    if side is None or _is_other(text, at, word):
        return None
    sentence = text.sentences[text.sentence_of[at]]
    found = _following(text, at + 1, sentence.last, places)
    if len(word) == 1 and word != "b" and (not found or not _adjoining(text, at, places)):
        return None
    if found:
        return Side(side, frozenset(found), at, at + 1)
    if word == "both":
        return None
    return _behind(text, at, side, sentence.first, sentence.last, ends, finds)


def _composed(text: Analysis, at: int, word: str) -> Side | None:
    side, region = _COMPOSED[word]
    raw = text.text[text.tokens[at].start : text.tokens[at].end]
    before = text.tokens[at - 1].text if at else ""
    if not region or (not raw.isupper() and word not in ("od", "os", "ou")):
        return None
    if word == "od" and (
        before in ("mg", "mcg", "tablet", "tab", "dose", "g") or before[:1].isdecimal()
    ):
        return None
    if word in ("ad", "au"):
        sentence = text.sentences[text.sentence_of[at]]
        if not {"ear", "hearing", "tinnitu"} & set(text.bases[sentence.first : sentence.last]):
            return None
    if word in ("ml", "os", "au", "rml", "lul") and before[:1].isdecimal():
        return None
    return Side(side, frozenset({region}), at, at + 1)


def _is_other(text: Analysis, at: int, word: str) -> bool:
    """ "left the clinic", "right away", "all right", "2 L"."""
    following = text.tokens[at + 1].text if at + 1 < len(text.tokens) else "."
    before = text.tokens[at - 1].text if at else ""
    if word in ("l", "r"):
        raw = text.text[text.tokens[at].start]
        return (
            before[:1].isdecimal()
            or before == "/"
            or following in ("/", "&", "'")
            or (raw.islower() and before not in ("", ".", ","))
        )
    if following in ("handed", "handedness", "dominant"):
        return True
    if following in ("and", "or", "/") and at + 2 < len(text.tokens):
        return text.tokens[at + 2].text not in _WORDS and following != "/" and word == "right"
    if word == "left":
        return following in _LEFT_WHAT and before not in ("the", "on", "to", "of")
    if word == "right":
        if before in ("all", "that's", "you're", "is", "are", "does", "yeah", "i'm", "me", "it's"):
            return following in _RIGHT_WHAT or before == "all"
        return following in _RIGHT_WHAT and before not in ("the", "on", "to", "of")
    return False


def _adjoining(text: Analysis, at: int, places: dict[int, Term]) -> bool:
    return any(at + step in places for step in (1, 2, 3))


def _following(text: Analysis, at: int, last: int, places: dict[int, Term]) -> set[str]:
    """The regions after a side: the next one, and what "and" joins to it."""
    found: set[str] = set()
    if at + 1 < last and text.tokens[at].text in ("and", "or", "/"):
        at += 2 * (text.tokens[at + 1].text in _WORDS)
    if at < last and text.tokens[at].text == ")":
        at += 1
    step = at
    while step < min(at + _REACH, last):
        word = text.tokens[step].text
        if (
            word in _STEPS
            or (word == "and" and not found)
            or word in ("the", "with", "for", "from", "but", "who")
        ):
            break
        term = places.get(step)
        if term is None:
            if found and word not in ("and", "/", "or"):
                break
            step += 1
            continue
        found.add(term.id)
        step = term.last
        nxt = text.tokens[step].text if step < last else ""
        if nxt not in ("and", "/", "or") and places.get(step) is None:
            break
        at = step
    return found


def _behind(
    text: Analysis,
    at: int,
    side: str,
    first: int,
    last: int,
    ends: dict[int, Term],
    finds: dict[int, str],
) -> Side | None:
    """ "the knee on the left", "edema bilaterally", "right-sided weakness"."""
    word = text.tokens[at].text
    following = text.tokens[at + 1].text if at + 1 < last else "."
    before = [text.tokens[i].text for i in range(max(first, at - 2), at)]
    own = following in _OWN
    on_the = (
        before[-1:] == ["the"]
        and before[:1]
        and before[0] in ("on", "to", "of", "in", "at", "over", "along", "than")
    )
    adverb = side == "both"
    label = following == ":" or (
        before[-1:] and before[-1] in ("(", ",", ":", ";") and following in (")", ",", ".")
    )
    if not (own or on_the or adverb or label or at + 1 in finds):
        return None
    if at + 1 in finds or (following == "sided" and at + 2 in finds):
        return Side(side, frozenset({finds[at + 1 if at + 1 in finds else at + 2]}), at, at + 1)
    for back in range(at, max(first, at - 9) - 1, -1):
        if back in ends:
            return Side(side, frozenset({ends[back].id}), at, at + 1)
    return Side(side, frozenset(), at, at + 1) if word != "both" else None


def check(source: Analysis, output: Analysis) -> Iterator[Fact]:
    """A fact for each side of the output."""
    known = sides(source)
    for side in sides(output):
        yield _fact(source, output, side, known)


def _fact(source: Analysis, output: Analysis, side: Side, known: list[Side]) -> Fact:
    span, value = output.span(side.first, side.last), output.value(side.first, side.last)
    near = output.around(side.first, side.last)
    found = [
        (likeness(near, source.around(s.first, s.last)), s) for s in known if _comparable(side, s)
    ]
    exact = [
        (a, s) for a, s in found if side.regions & s.regions or not (side.regions or s.regions)
    ]
    found = exact or [(a, s) for a, s in found if a >= 0.45]
    if not found:
        return Fact(
            "side", "not checked", span, value, None, "The source gives no side for this part."
        )
    equal = [(a, s) for a, s in found if s.side == side.side]
    unequal = [(a, s) for a, s in found if s.side != side.side]
    best = max(equal, key=lambda pair: pair[0], default=(0.0, None))
    rival = max(unequal, key=lambda pair: pair[0], default=(0.0, None))
    if side.side == "both" and not equal and {s.side for _, s in unequal} >= {"left", "right"}:
        return Fact(
            "side", "supported", span, value, source.span(unequal[0][1].first, unequal[0][1].last)
        )
    if not equal or (rival[1] and rival[0] - best[0] > 0.15 and rival[0] >= 0.45):
        assert rival[1] is not None  # found is not empty
        evidence = source.span(rival[1].first, rival[1].last)
        why = "The source gives another side for this part of the body."
        return Fact("side", "contradicted", span, value, evidence, why, _RULE)
    assert best[1] is not None  # equal is not empty
    return Fact("side", "supported", span, value, source.span(best[1].first, best[1].last))


def _comparable(one: Side, other: Side) -> bool:
    if not one.regions or not other.regions:
        return True
    if one.regions & other.regions:
        return True
    wider = regions()
    return any(wider.get(a) == b or wider.get(b) == a for a in one.regions for b in other.regions)
