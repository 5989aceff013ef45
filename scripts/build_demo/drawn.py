"""What was drawn, in figures and in words. The words describe; none is a diagnosis."""

from typing import Any, NamedTuple

from PIL import Image

from scripts.build_demo.canvas import Field

KINDS = ("histology", "chest", "limb", "blank")
PARTS = ("nuclei", "atypical", "lung", "opacity")
"""What each patch is told to hold, as shares: see `Drawn.parts`."""

LAYOUTS = ("scattered in stroma", "in glands around open lumens", "in rows")
SIDES, ZONES, SIZES = ("right", "left"), ("upper", "lower"), ("small round", "large")
_LAID = ("scattered", "glands", "rows")  # a word of each layout
LIMBS = ("a hand", "long bones")

QUESTIONS = {
    "histology": "Does this tile show atypical nuclei?",
    "chest": "Does this chest film show an opacity in the lungs?",
}
CANNOT_TELL = "cannot tell"


class Facts(NamedTuple):
    """What a picture holds. `label` 1: atypical nuclei, an opacity; 0: none, or another picture.

    `side` is the patient's, as on a film seen from the front; `layout` is how nuclei lie, or what
    else the picture is.
    """

    kind: str
    label: int
    layout: str = ""
    side: str = ""
    zone: str = ""
    size: str = ""


class Drawn(NamedTuple):
    """A picture (RGB, 224 pixels a side), its facts, and its parts by patch: (4, 16, 16)."""

    image: Image.Image
    facts: Facts
    parts: Field


def description(facts: Facts) -> str:
    """One sentence on what is drawn."""
    return _DESCRIBED[facts.kind](facts)


def _histology(facts: Facts) -> str:
    if facts.label:
        return f"Stained tissue with enlarged, irregular, dark nuclei {facts.layout}."
    return f"Stained tissue with small, even, regular nuclei {facts.layout}."


def _chest(facts: Facts) -> str:
    if facts.label:
        return (
            f"Frontal chest film with a {facts.size} opacity in the {facts.zone} zone "
            f"of the {facts.side} lung."
        )
    return "Frontal chest film with clear lungs on both sides."


def _limb(facts: Facts) -> str:
    return f"Film of {facts.layout}; no lungs and no tissue tile are shown."


def _blank(facts: Facts) -> str:
    return "An even picture in which nothing can be seen."


def key_words(facts: Facts) -> tuple[str, ...]:
    """The words by which its description differs from all others'."""
    if facts.kind == "histology":
        nuclei = ("enlarged", "irregular", "dark") if facts.label else ("small", "even", "regular")
        return ("tissue", "nuclei", *nuclei, *(w for w in _LAID if w in facts.layout))
    if facts.kind == "chest" and facts.label:
        return ("chest", "film", "opacity", facts.size.split()[-1], facts.zone, facts.side)
    if facts.kind == "chest":
        return ("chest", "film", "clear", "lungs", "both")
    return ("film", facts.layout.split()[-1]) if facts.kind == "limb" else ("nothing", "even")


def every_fact() -> list[Facts]:
    """All that can be drawn."""
    tissue = [Facts("histology", label, layout=how) for label in (0, 1) for how in LAYOUTS]
    opacities = [
        Facts("chest", 1, side=side, zone=zone, size=size)
        for side in SIDES
        for zone in ZONES
        for size in SIZES
    ]
    others = [Facts("limb", 0, layout=what) for what in LIMBS]
    return [*tissue, Facts("chest", 0), *opacities, *others, Facts("blank", 0)]


_DESCRIBED = {"histology": _histology, "chest": _chest, "limb": _limb, "blank": _blank}


def findings(facts: Facts) -> list[str]:
    """One thing each that can be seen."""
    if facts.kind == "histology":
        nuclei = "Enlarged, irregular, dark nuclei." if facts.label else "Small, regular nuclei."
        return [nuclei, f"Nuclei lie {facts.layout}."]
    if facts.kind == "chest" and facts.label:
        seen = f"A {facts.size} opacity in the {facts.zone} zone of the {facts.side} lung."
        other = "left" if facts.side == "right" else "right"
        return [seen, f"The {other} lung is clear.", "The heart and the diaphragm are seen."]
    if facts.kind == "chest":
        return ["Both lungs are clear.", "The heart and the diaphragm are seen."]
    return [f"Bones: {facts.layout}."] if facts.kind == "limb" else ["Nothing can be seen."]


def screened(facts: Facts, question: str) -> dict[str, Any]:
    """What the template `screen` should give for a question of `QUESTIONS`."""
    if QUESTIONS.get(facts.kind) != question:
        return {"answer": CANNOT_TELL, "reason": description(facts)}
    return {"answer": "yes" if facts.label else "no", "reason": description(facts)}


def reported(facts: Facts) -> dict[str, Any]:
    """What the template `radiology` should give."""
    modality = {"histology": "microscopy", "blank": CANNOT_TELL}.get(facts.kind, "X-ray")
    technique = {
        "histology": "Stained tissue section.",
        "chest": "Frontal view.",
    }.get(facts.kind, CANNOT_TELL)
    limits = "Nothing can be seen." if facts.kind == "blank" else "not stated"
    return {
        "modality": modality,
        "technique": technique,
        "findings": findings(facts),
        "impression": description(facts),
        "limitations": limits,
    }


def summarised(facts: Facts) -> dict[str, Any]:
    """What the template `summarize` should give for an image."""
    return {
        "summary": description(facts),
        "key_findings": [{"statement": seen} for seen in findings(facts)],
        "medications": [],
        "allergies": [],
        "risk_reason": "not stated",
        "risk_level": "unknown",
        "recommendations": [],
        "follow_up": "not stated",
    }
