"""Facts → a long consultation: what is told stands far apart, among talk that tells nothing.

Real ones run to several thousand words, and most of what is said in them is no fact. Only with
such examples does a small model learn to go on reading, and to stop writing.
"""

from random import Random

from scripts.build_demo.facts import Fact, Patient, Teller
from scripts.build_demo.telling import Document, Told
from scripts.build_demo.vocabulary import listed, words

_SHORTEST, _LONGEST = 1_200, 7_500  # characters
_FILLED = ("Um, ", "Yeah, um, ", "So, ", "Well, um, ", "Uh, ", "Yeah, so, ", "I mean, ")


def consultation(draw: Random, who: Patient, facts: list[Fact]) -> Document:
    """The facts with many more symptoms asked after and denied; neither sex nor age are told."""
    doctor, patient = draw.choice((("Doctor:", "Patient:"), ("[doctor]", "[patient]")))
    lines = [f"{patient} Hello.", f"{doctor} {draw.choice(listed('greetings'))}"]
    told = []
    asked = facts[:1] + _denied(draw, who, facts)
    room = draw.randint(_SHORTEST, _LONGEST) - sum(len(fact.asked + fact.said) for fact in asked)
    for fact in asked:
        quote = _turns(draw, fact, doctor, patient, lines)
        told.append(Told(fact, quote))
        if fact.kind != "without" or draw.random() < 0.3:
            _talk(draw, doctor, patient, lines, room // len(asked))
    lines += [f"{doctor} {draw.choice(listed('closings'))}", f"{patient} Thank you. Bye."]
    return Document("\n".join(lines), tuple(told), False, False)


def _denied(draw: Random, who: Patient, facts: list[Fact]) -> list[Fact]:
    """The later facts, with symptoms that are not there among the first of them."""
    named = " ".join(fact.said + fact.asked for fact in facts)
    teller = Teller(draw, woman=who.woman)
    missing = [what for what in draw.sample(listed("negatives"), 9) if what not in named]
    denied = [teller.fact("without", x=what, item=what) for what in missing]
    cut = next((place for place, fact in enumerate(facts) if fact.by == "Doctor"), len(facts))
    return [*facts[1:cut], *denied[: draw.randint(2, 9)], *facts[cut:]]


def _turns(draw: Random, fact: Fact, doctor: str, patient: str, lines: list[str]) -> str:
    """The lines of a fact, and which words of them tell it."""
    said = fact.said
    if draw.random() < 0.35:
        began = said if said.startswith(("I ", "I'")) else said[0].lower() + said[1:]
        said = draw.choice(_FILLED) + began
    if fact.asked:
        before = draw.choice(listed("chat")[6:]) if draw.random() < 0.4 else ""
        lines.append(f"{doctor} {before} {fact.asked}".replace("  ", " "))
    lines.append(f"{doctor if fact.by == 'Doctor' else patient} {said}")
    return said if len(fact.said.split()) > 2 else fact.asked


def _talk(draw: Random, doctor: str, patient: str, lines: list[str], room: int) -> None:
    """So much talk as there is room for; each piece may come more than once in a document."""
    while room > 0:
        began, answered = draw.choice((*words()["lists"]["talk"], *words()["lists"]["longer_talk"]))
        answered = draw.choice(_FILLED) + answered if draw.random() < 0.3 else answered
        lines += [f"{doctor} {began}", f"{patient} {answered}"]
        room -= len(began) + len(answered)
