"""Facts → a document in one of the ways in which clinical text comes, and where each fact stands.

Nothing that a summary could take as a fact is in the words around them.
"""

from random import Random
from typing import NamedTuple

from scripts.build_demo.facts import Fact, Patient
from scripts.build_demo.vocabulary import listed, words


class Told(NamedTuple):
    """A fact and the words of the document that tell it, in one line of it."""

    fact: Fact
    quote: str


class Document(NamedTuple):
    """`sex` and `age`: whether the text tells them."""

    text: str
    told: tuple[Told, ...]
    sex: bool
    age: bool


_SPEAKERS = (
    ("Doctor:", "Patient:"),
    ("Doctor:", "Patient:"),
    ("Doctor:", "Patient:"),
    ("[doctor]", "[patient]"),
    ("[doctor]", "[patient]"),
    ("Dr:", "Pt:"),
    ("D:", "P:"),
    ("Clinician:", "Patient:"),
    ("GP:", "Patient:"),
)
_HEADINGS = {
    "History of present illness": ("presents", "plainly", "follow"),
    "Past medical history": ("history", "healthy", "surgery", "no_surgery"),
    "Medications": ("takes", "no_drugs"),
    "Family history": ("family", "no_family"),
    "Allergies": ("allergy", "bare_allergy", "no_allergy"),
    "Social history": ("smokes", "no_smoke", "no_smoke_drinks", "no_habits", "quit", "drinks",
                       "job", "home", "habit"),
    "Vital signs": ("sign",),
    "Examination": ("exam",),
    "Results": ("lab", "image"),
    "Assessment": ("assess", "suspect", "risk"),
    "Plan": ("plan_for", "stable", "order", "start", "stop", "refer", "advise", "return"),
}  # fmt: skip
_HEADING_OF = {kind: heading for heading, kinds in _HEADINGS.items() for kind in kinds}
_TITLES = (
    "# Clinic note",
    "Outpatient visit",
    "Progress note",
    "Visit note",
    "DISCHARGE SUMMARY",
    "Emergency department note",
)


def tell(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """The facts in one style; a conversation in somewhat over half of the cases."""
    style = draw.choices(
        (conversation, narrative, sections, shorthand, letter), (11, 3, 4, 2, 2), k=1
    )[0]
    return style(draw, who, facts)


def conversation(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """Turns of a doctor and a patient, with what people say besides."""
    doctor, patient = draw.choice(_SPEAKERS)
    spoken = doctor == "[doctor]"
    lines, sex, age = _greeting(draw, who, doctor, patient)
    told = []
    talkative = draw.choice((0.0, 0.0, 0.15, 0.4))
    for fact in facts:
        if draw.random() < talkative:
            began, answered = draw.choice(words()["lists"]["talk"])
            lines += [f"{doctor} {began}", f"{patient} {answered}"]
        said = _spoken(fact.said, draw) if spoken else _stumbling(fact.said, draw)
        asked = _spoken(fact.asked, draw) if spoken and fact.asked else fact.asked
        if asked:
            lines.append(f"{doctor} {asked}")
        lines.append(f"{doctor if fact.by == 'Doctor' else patient} {said}")
        told.append(Told(fact, said if len(said.split()) > 2 else asked))
        if fact.by == "Doctor" and draw.random() < 0.5:
            lines.append(f"{patient} {draw.choice(listed('answers'))}")
        elif draw.random() < 0.25:
            lines.append(f"{doctor} {draw.choice(listed('chat')[6:])}")
    return Document("\n".join(lines), tuple(told), sex and _tells_sex(lines), age)


def _greeting(
    draw: Random, who: Patient, doctor: str, patient: str
) -> tuple[list[str], bool, bool]:
    """The first lines, and whether they are to tell sex and age."""
    lines = []
    sex = draw.random() < 0.45
    age = sex and draw.random() < 0.5
    if draw.random() < 0.6:
        title = (" ma'am" if who.woman else " sir") if sex else ""
        lines += [
            f"{doctor} {draw.choice(listed('chat')).rstrip('.?!')}{title}.",
            f"{patient} {draw.choice(listed('answers'))}",
        ]
    if age or (sex and not lines):
        kind = "female" if who.woman else "male"
        told = f"a {who.age}-year-old {kind}"
        first = who.name.split()[0]
        opening = draw.choice(
            (
                f"So, this is {told} patient.",
                f"So {first} is {told}.",
                f"{first}, I see you are {told}.",
            )
        )
        lines.append(f"{doctor} {opening}")
        age = True
    return lines, sex, age


def _tells_sex(lines: list[str]) -> bool:
    return any(word in " ".join(lines[:4]) for word in ("ma'am", " sir", "-year-old"))


def _stumbling(said: str, draw: Random) -> str:
    roll = draw.random()
    if roll < 0.12:
        return f"Um, {said[0].lower() + said[1:] if not said.startswith('I') else said}"
    return f"{said[:-1]}, you know." if roll < 0.17 else said


def _spoken(said: str, draw: Random) -> str:
    """As some transcripts have it: no capitals, punctuation apart."""
    said = _stumbling(said, draw).lower()
    for mark in (",", "?"):
        said = said.replace(mark, f" {mark}")
    return f"{said[:-1]} ." if said.endswith(".") else said


def called(who: Patient, draw: Random) -> str:
    """What a note calls a patient."""
    return draw.choice(("The patient", "Patient", "She" if who.woman else "He", "Pt"))


def _plain(fact: Fact, who: Patient, draw: Random) -> str:
    made = fact.written.replace("{S}", called(who, draw))
    return made[0].upper() + made[1:]


def _opening(who: Patient, draw: Random) -> str:
    kind = (
        ("woman" if who.woman else "man")
        if draw.random() < 0.6
        else ("female" if who.woman else "male")
    )
    return f"{who.age}-year-old {kind}"


def narrative(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """A paragraph or two, as dictated."""
    first, begun = _plain(facts[0], who, draw), False
    if "{S}" in facts[0].written and draw.random() < 0.7:
        begun = True
        first = facts[0].written.replace("{S}", f"This is a {_opening(who, draw)} who")
    told = [Told(facts[0], first)]
    told += [Told(fact, _plain(fact, who, draw)) for fact in facts[1:]]
    cut = len(told) // 2
    paragraphs = [" ".join(one.quote for one in part) for part in (told[:cut], told[cut:]) if part]
    title = f"{draw.choice(_TITLES)}\n\n" if draw.random() < 0.5 else ""
    sex = begun or any(one.quote.startswith(("She ", "He ")) for one in told)
    return Document(title + "\n\n".join(paragraphs), tuple(told), sex, begun)


def sections(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """Under headings, with list marks or without."""
    mark = draw.choice(("- ", "", "", "* "))
    upper = draw.random() < 0.4
    lines = [draw.choice(_TITLES), "", f"Patient: {who.name}, {_opening(who, draw)}"]
    told, last = [], ""
    for fact in facts:
        heading = _HEADING_OF.get(fact.kind, last)
        if heading != last:
            lines += ["", f"{heading.upper()}:" if upper else f"## {heading}"]
            last = heading
        sentence = _plain(fact, who, draw)
        lines.append(mark + sentence)
        told.append(Told(fact, sentence))
    return Document("\n".join(lines), tuple(told), True, True)


def shorthand(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """What a busy doctor types; a few lines, no whole sentences."""
    told = [Told(fact, fact.short[0].upper() + fact.short[1:]) for fact in facts]
    opened = draw.random() < 0.6
    lines = [f"{who.age}{'F' if who.woman else 'M'}"] if opened else []
    return Document("\n".join([*lines, *(one.quote for one in told)]), tuple(told), opened, opened)


def letter(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """To another doctor."""
    last = who.name.split()[-1]
    title = f"{'Ms' if who.woman else 'Mr'} {last}"
    head = ["Dear colleague,", "", f"Thank you for seeing {title}, a {_opening(who, draw)}."]
    told = []
    for fact in facts:
        subject = draw.choice((title, "She" if who.woman else "He"))
        told.append(Told(fact, fact.written.replace("{S}", subject)))
    end = draw.choice(("Kind regards,", "With best wishes,", "Yours sincerely,"))
    body = " ".join(one.quote for one in told)
    return Document("\n".join([*head, "", body, "", end]), tuple(told), True, True)
