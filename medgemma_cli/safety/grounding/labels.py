"""Numbers that are names: a type, stage or grade, a vertebra, a toe, gravida and para."""

import re
from functools import lru_cache

from medgemma_cli.safety.grounding.readings import Quantity, Reading
from medgemma_cli.safety.grounding.words import Token, listed

_LABELS = listed(
    "type stage grade class phase category level factor tier asa nyha gleason ecog gold kdigo"
    " childs child bi-rads birads tanner mallampati schedule zone"
)
_ROMAN = {
    "i": 1,
    "ii": 2,
    "iii": 3,
    "iv": 4,
    "v": 5,
    "vi": 6,
    "vii": 7,
    "viii": 8,
    "ix": 9,
    "x": 10,
}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
ENDINGS = ("st", "nd", "rd", "th")
_COUNTED = listed(
    "toe finger digit metatarsal metacarpal degree rib trimester mtp mcp pip dip ray nerve molar"
)
_TYPES = {"t2dm": 2.0, "t2d": 2.0, "dm2": 2.0, "dmii": 2.0, "t1dm": 1.0, "t1d": 1.0, "dm1": 1.0}
_VERTEBRA = re.compile(r"([ctls])(\d{1,2})")
_GRAVIDA = re.compile(r"([gp])(\d{1,2})(?:p(\d{1,4}))?")


@lru_cache(maxsize=20_000)
def begins(text: str) -> bool:
    """Whether a label begins with this word."""
    return (
        text in _TYPES
        or text in _LABELS
        or text in _ORDINALS
        or bool(_VERTEBRA.fullmatch(text) or _GRAVIDA.fullmatch(text))
    )


def read(words: list[Token], at: int, last: int) -> Quantity | None:
    """`type 2`, `stage III`, `grade 2`, `L4`, `L4-5`, `T12`, `G2P1`."""
    text = words[at].text
    lettered = text[0].isalpha() and text[-1].isdecimal()
    if lettered and (match := _VERTEBRA.fullmatch(text)):
        return _level(words, at, last, match)
    if lettered and (match := _GRAVIDA.fullmatch(text)) and match[3]:
        pair = (float(match[2]), float(match[3]))
        return Quantity((Reading("label", pair),), at, at + 1, label="gravida")
    if text in _ORDINALS or (text.isdecimal() and at + 1 < last and words[at + 1].text in ENDINGS):
        return ordinal(words, at, last)
    if text in _TYPES:
        return Quantity((Reading("label", (_TYPES[text],)),), at, at + 1, label="type")
    if text not in _LABELS or at + 1 >= last:
        return None
    value = words[at + 1].text
    letter = ""
    if len(value) > 1 and value[-1] in "abcd" and (value[:-1] in _ROMAN or value[:-1].isdecimal()):
        value, letter = value[:-1], value[-1]
    elif (
        value.isdecimal()
        and at + 2 < last
        and words[at + 2].text in ("a", "b", "c")
        and not words[at + 2].spaced
    ):
        letter = words[at + 2].text
    number = _ROMAN.get(value) or (int(value) if value.isdecimal() and len(value) < 3 else 0)
    number = number or {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}.get(value, 0)
    if not number or (
        at + 2 < last
        and words[at + 2].text in ("/", "%", "out", "over", ".")
        and (words[at + 2].text != "." or at + 3 < last)
    ):
        return None
    values: tuple[float, ...] = (float(number),)
    values += (float(ord(letter)),) if letter else ()
    return Quantity((Reading("label", values),), at, at + 2, label=text)


def ordinal(words: list[Token], at: int, last: int) -> Quantity | None:
    """`third toe`, `2nd degree`."""
    text = words[at].text
    value = _ORDINALS[text] if text in _ORDINALS else int(text)
    noun = at + 1 + (text not in _ORDINALS)
    if noun >= last or words[noun].base not in _COUNTED:
        return None
    label = f"ordinal {words[noun].base}"
    return Quantity((Reading("label", (float(value),)),), at, noun, label=label)


def _level(words: list[Token], at: int, last: int, match: re.Match[str]) -> Quantity | None:
    letter, number = match[1], int(match[2])
    if number > {"c": 8, "t": 12, "l": 6, "s": 5}[letter] or (letter == "s" and number < 3):
        return None
    if (letter == "t" and number < 5) or words[at].text in ("t3", "t4", "s3", "s4", "c3", "c4"):
        spinal = {words[i].text for i in range(max(0, at - 5), min(at + 6, last))}
        if not spinal & {
            "vertebra",
            "vertebral",
            "disc",
            "spine",
            "compression",
            "radiculopathy",
            "nerve",
            "fracture",
        }:
            return None
    values: tuple[float, ...] = (float(number),)
    after = at + 1
    if after + 1 < last and words[after].text in ("-", "/"):
        following = words[after + 1].text
        second = _VERTEBRA.fullmatch(following)
        if following.isdecimal() or second:
            values, after = (float(number), float(second[2] if second else following)), after + 2
    elif (
        after < last
        and (second := _VERTEBRA.fullmatch(words[after].text))
        and not words[after].spaced
    ):
        values, after = (float(number), float(second[2])), after + 1
    return Quantity((Reading("label", values),), at, after, label=f"vertebra {letter}")
