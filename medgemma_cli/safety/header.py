"""Rules `modality_mismatch`, `side_mismatch`, `burned_in_text` and `magnification_assumed`.

A DICOM header says how an image was made and, of paired parts, of which side. An answer that names
another modality or only the other side contradicts it. Covers the modalities by their English
names, and the words left and right. Does not cover body parts (a chest film shows a shoulder, too),
nor a mention that is a comparison, a plan or a denial: a sentence with such a word is passed over.
Whether the header itself is right nobody here can know.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medgemma_cli.records import Flag

_FAMILIES = {
    "CT": r"(?-i:CT|CBCT|HRCT|CTA)\b|computed tomogra|CAT scan",
    "MR": r"(?-i:MRI|MRA|MRCP)\b|magnetic resonance|(?-i:MR) (?:imag|scan|sequ|angio|stud|exam)",
    "ultrasound": r"ultrasound|sonogra|echocardiogra|doppler",
    "X-ray": r"x-?\s?ray|radiograph|plain film",
    "mammography": r"mammogra",
    "nuclear medicine": r"(?-i:PET|SPECT)\b|positron emission|scintigra",
    "microscopy": r"microscop|histolog",
    "photograph": r"photograph",
}
_FAMILY = {
    name: re.compile(rf"\b(?:{pattern})", re.IGNORECASE) for name, pattern in _FAMILIES.items()
}
_ACCEPTED = (
    ("CT", "CT"),
    ("MR", "MR"),
    ("US IVUS", "ultrasound"),
    ("CR DX RG IO PX RF XA RTIMAGE MG", "X-ray"),
    ("MG", "mammography"),
    ("NM PT", "nuclear medicine"),
    ("SM GM", "microscopy"),
    ("XC OP ES", "photograph"),
)
_ELSEWHERE = re.compile(
    r"\b(?:prior|previous|earlier|recent|old|compar\w*|correlat\w*|recommend\w*|suggest\w*|advis\w*"
    r"|consider\w*|follow\w*|further|additional|next|later|if|may|might|could|would|should|no|not"
    r"|without|unlike|rather|versus|than)\b",
    re.IGNORECASE,
)
_SIDE = re.compile(
    r"\b(left|right)\b(?! (?:away|now|after|the|out|in|open|untreated|alone|unchanged"
    r"|(?:side |half |part |edge |hand side )?(?:of|in) (?:the|this) (?:image|picture|film|frame"
    r"|slice|scan)))",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.;!?\n]+(?:[.](?=\d)[^.;!?\n]+)*")
BURNED_IN = "burned_in_annotation"  # the reader's note
ASSUMED = "magnification_assumed:20x"  # of another reader
_OTHER = {"R": "left", "L": "right"}


def check_header(header: Mapping[str, str], fields: Mapping[str, Any]) -> list[Flag]:
    """What of an output contradicts the header of its document; see the module for what is covered.

    Args:
        header: modality, body_part and laterality in the words of `readers.dicom.terms`.
        fields: the output, choices too.
    """
    modality = header.get("modality", "")
    own = {family for codes, family in _ACCEPTED if modality in codes.split()}
    other = _OTHER.get(header.get("laterality", ""))
    flags: list[Flag] = []
    for where, text in _leaves(fields, ""):
        if own:
            flags += _modality(where, text, own)
        if other:
            flags += _side(where, text, other)
    return flags


def burned_in() -> Flag:
    """The header says that text is part of the pixels, names perhaps: the model saw it."""
    why = "The header says that text is burned into the image; it may name the patient."
    return Flag(rule="burned_in_text", severity="review", where="source", why=why)


def magnification_assumed() -> Flag:
    """A slide does not say how it was scanned: what looks large may be small."""
    why = "The slide does not say its magnification; 20x was assumed, so sizes may be wrong."
    return Flag(rule="magnification_assumed", severity="review", where="source", why=why)


def _leaves(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{where}[{i}]")


def _modality(where: str, text: str, own: set[str]) -> Iterator[Flag]:
    """The first mention of another modality, where the text does not name its own."""
    if any(_FAMILY[name].search(text) for name in own):
        return
    for sentence in _SENTENCE.finditer(text):
        if _ELSEWHERE.search(sentence[0]):
            continue
        for name in _FAMILIES.keys() - own:
            if found := _FAMILY[name].search(sentence[0]):
                start = sentence.start() + found.start()
                why = "The answer names another modality than the image's header."
                yield Flag(
                    rule="modality_mismatch",
                    severity="review",
                    where=where,
                    value=name,
                    why=why,
                    span=(start, start + len(found[0])),
                )
                return


def _side(where: str, text: str, other: str) -> Iterator[Flag]:
    """The first mention of the other side, where the text does not name its own."""
    found = list(_SIDE.finditer(text))
    if found and all(match[1].lower() == other for match in found):
        yield Flag(
            rule="side_mismatch",
            severity="stop",
            where=where,
            value=other,
            why="The answer names the other side than the image's header, and that alone.",
            span=found[0].span(),
        )
