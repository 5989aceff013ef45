"""One invented patient as facts, each of which can be said, written, or put in shorthand.

What a summary may say of a fact is its `written` form: the same numbers, drugs, sides and
negations as any of the others.
"""

from random import Random
from typing import Any, NamedTuple

from scripts.build_demo.vocabulary import listed, words

_SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_UNITS = ("days", "days", "weeks", "weeks", "months", "years")


class Fact(NamedTuple):
    """`asked` and `said` are a conversation's, `written` a note's, `short` a busy doctor's.

    `{S}` stands for whoever the patient is called. `item` is the fact's bare value: the drug with
    its dose, the allergen with its reaction, the plan.
    """

    kind: str
    asked: str
    said: str
    written: str
    short: str
    item: str = ""
    by: str = "Patient"


class Patient(NamedTuple):
    """Who it is about; the facts come in the order in which a note would have them."""

    age: int
    woman: bool
    name: str
    facts: tuple[Fact, ...]


def patient(draw: Random) -> Patient:
    """A patient with a complaint, and with as much else as a visit may bring up."""
    woman = draw.random() < 0.5
    complaint = _fitting(draw, words()["complaint"], woman)
    conditions = [
        _fitting(draw, words()["condition"], woman) for _ in range(draw.choice((1, 2, 2, 3)))
    ]
    conditions = list({one["name"]: one for one in conditions}.values())
    facts = [
        _presents(draw, complaint),
        *_about(draw, complaint),
        *_with(draw, complaint),
        _without(draw, complaint),
        *[_history(draw, one) for one in conditions],
        *[_takes(draw, one) for one in conditions if draw.random() < 0.75],
        *_past(draw),
        _allergy(draw),
        *_living(draw),
        *_found(draw),
        *_planned(draw, conditions),
        *_risk(draw),
    ]
    name = f"{draw.choice(listed('first'))} {draw.choice(listed('last'))}"
    return Patient(draw.randint(19, 91), woman, name, tuple(facts))


def _fitting(draw: Random, among: list[dict[str, Any]], woman: bool) -> dict[str, Any]:
    other = "men" if woman else "women"
    return draw.choice([one for one in among if not one.get(other)])


def _span(draw: Random) -> str:
    count, unit = draw.randint(2, 10), draw.choice(_UNITS)
    return f"{_SMALL[count - 1] if draw.random() < 0.6 else count} {unit}"


def _joined(items: list[str], word: str) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def _presents(draw: Random, complaint: dict[str, Any]) -> Fact:
    span, side = _span(draw), draw.choice(("left", "right"))
    name, said = complaint["name"], complaint["said"]
    if complaint.get("sides"):
        name, said = f"{side} {name}", said.replace(" my ", f" my {side} ", 1)
        said = said.replace("an earache", f"an earache on the {side}")
        said = said.replace("blurry vision", f"blurry vision in the {side} eye")
    verb = draw.choice(("presents with", "reports", "complains of", "has had"))
    return Fact(
        "presents",
        draw.choice(
            (
                "What brings you in today?",
                "What can I do for you today?",
                "What's going on?",
                "How can I help you?",
                "So what seems to be the problem?",
            )
        ),
        draw.choice(
            (
                f"I've had {said} for {span} now.",
                f"I have been having {said} for about {span}.",
                f"Well, it's {said}, it started {span} ago.",
                f"I've been dealing with {said} for {span}.",
            )
        ),
        f"{{S}} {verb} {name} for {span}.",
        f"{span} hx of {name}.",
        name,
    )


def _about(draw: Random, complaint: dict[str, Any]) -> list[Fact]:
    made = []
    if draw.random() < 0.5:
        kind = draw.choice(complaint["kinds"])
        made.append(
            Fact(
                "about",
                "Can you describe it?",
                f"It's {kind}, I would say.",
                f"It is described as {kind}.",
                f"{kind}.".capitalize(),
            )
        )
    if draw.random() < 0.45:
        worse = draw.choice(listed("worse"))
        made.append(
            Fact(
                "about",
                "Does anything make it worse?",
                f"It gets worse with {worse}.",
                f"It is worse with {worse}.",
                f"Worse with {worse}.",
            )
        )
    if draw.random() < 0.4:
        better = draw.choice(listed("better"))
        made.append(
            Fact(
                "about",
                "Have you tried anything for it?",
                f"Yeah, {better} helps a little.",
                f"It improves with {better}.",
                f"Better with {better}.",
            )
        )
    if draw.random() < 0.25:
        score = draw.randint(2, 9)
        made.append(
            Fact(
                "about",
                "How bad is it on a scale from 0 to 10?",
                f"I would say it's a {score} out of 10.",
                f"It is rated {score} out of 10.",
                f"Severity {score} out of 10.",
            )
        )
    return made


def _with(draw: Random, complaint: dict[str, Any]) -> list[Fact]:
    if draw.random() < 0.3:
        return []
    found = _joined(draw.sample(complaint["with"], draw.choice((1, 2))), "and")
    return [
        Fact(
            "with",
            draw.choice(
                ("Anything else going on?", "Any other symptoms?", "What else have you noticed?")
            ),
            draw.choice(
                (f"I've also noticed {found}.", f"Yes, {found} as well.", f"There's {found}, too.")
            ),
            f"There is also {found}.",
            f"Also {found}.",
        )
    ]


def _without(draw: Random, complaint: dict[str, Any]) -> Fact:
    missing = draw.sample(complaint["not"], draw.choice((1, 2, 2, 3)))
    either = _joined(missing, "or")
    return Fact(
        "without",
        f"Any {either}?",
        draw.choice((f"No, no {either}.", f"No {either}, no.", f"I haven't had any {either}.")),
        f"{{S}} denies {either}.",
        f"No {either}.",
    )


def _history(draw: Random, condition: dict[str, Any]) -> Fact:
    name = condition["name"]
    known = name if draw.random() < 0.6 else condition["said"]
    return Fact(
        "history",
        draw.choice(
            (
                "Any other medical problems?",
                "What about your past medical history?",
                "Do you have any conditions I should know about?",
            )
        ),
        draw.choice(
            (
                f"I have {known}.",
                f"I was diagnosed with {known} a while ago.",
                f"Well, I've got {known}.",
            )
        ),
        f"{{S}} has a history of {known}.",
        f"PMH: {known}.",
        known,
    )


def _takes(draw: Random, condition: dict[str, Any]) -> Fact:
    drug = draw.choice(condition["drugs"])
    return Fact(
        "takes",
        draw.choice(
            (
                "Are you taking any medications?",
                "What do you take for that?",
                "Which medicines are you on?",
            )
        ),
        draw.choice((f"I take {drug}.", f"I'm on {drug}.", f"Yes, {drug}.")),
        f"{{S}} takes {drug}.",
        f"DH: {drug}.",
        drug,
    )


def _past(draw: Random) -> list[Fact]:
    made = []
    if draw.random() < 0.35:
        done, year = draw.choice(listed("surgeries")), draw.randint(1986, 2023)
        made.append(
            Fact(
                "past",
                "Any surgeries in the past?",
                f"I had a {done} in {year}.",
                f"Past surgical history includes {done} in {year}.",
                f"PSH: {done} {year}.",
            )
        )
    elif draw.random() < 0.25:
        made.append(
            Fact(
                "past",
                "Have you ever had any surgery?",
                "No, I have never had any surgery.",
                "No past surgery is reported.",
                "PSH: nil.",
            )
        )
    if draw.random() < 0.35:
        who, what = draw.choice(listed("relatives")), draw.choice(listed("familial"))
        made.append(
            Fact(
                "family",
                "Does anything run in the family?",
                f"My {who} had {what}.",
                f"Family history includes {what} in the {who}.",
                f"FH: {who} - {what}.",
            )
        )
    return made


def _allergy(draw: Random) -> Fact:
    asked = draw.choice(
        ("Any allergies?", "Are you allergic to anything?", "Do you have any drug allergies?")
    )
    if draw.random() < 0.45:
        return Fact(
            "no allergy",
            asked,
            draw.choice(
                (
                    "No, I don't have any allergies.",
                    "No allergies that I know of.",
                    "I'm not allergic to anything.",
                )
            ),
            "No known allergies are documented.",
            "NKDA.",
        )
    what, does = draw.choice(listed("allergens")), draw.choice(listed("reactions"))
    if draw.random() < 0.35:
        return Fact(
            "allergy",
            asked,
            draw.choice(
                (f"Yes, I'm allergic to {what}.", f"I can't have {what}, I'm allergic to {what}.")
            ),
            f"{{S}} is allergic to {what}.",
            f"Allergy: {what}.",
            what,
        )
    return Fact(
        "allergy",
        asked,
        draw.choice(
            (
                f"Yes, I'm allergic to {what}, I get {does}.",
                f"I am allergic to {what}, it gives me {does}.",
            )
        ),
        f"{{S}} is allergic to {what} with a reaction of {does}.",
        f"Allergy: {what} ({does}).",
        f"{what} ({does})",
    )


def _living(draw: Random) -> list[Fact]:
    made = []
    if draw.random() < 0.4:
        smokes = draw.choice(listed("smoking"))
        mine = _first_person(smokes)
        made.append(
            Fact("living", "Do you smoke?", f"I {mine}.", f"{{S}} {smokes}.", f"SH: {smokes}.")
        )
    if draw.random() < 0.35:
        drinks = draw.choice(listed("drinking"))
        made.append(
            Fact(
                "living",
                "What about alcohol?",
                f"I {_first_person(drinks)}.",
                f"{{S}} {drinks}.",
                f"SH: {drinks}.",
            )
        )
    if draw.random() < 0.35:
        job = draw.choice(listed("jobs"))
        made.append(
            Fact(
                "living",
                "What do you do for work?",
                f"I work as {job}.",
                f"{{S}} works as {job}.",
                f"SH: works as {job}.",
            )
        )
    if draw.random() < 0.3:
        home = draw.choice(listed("homes"))
        made.append(
            Fact(
                "living",
                "Who do you live with?",
                f"I live {home.replace('his', 'my')}.",
                f"{{S}} lives {home.replace(' his', ' a')}.",
                f"SH: lives {home.replace(' his', ' a')}.",
            )
        )
    return made


def _first_person(words: str) -> str:
    swaps = {"smokes": "smoke", "does": "do", "has": "have", "drinks": "drink"}
    head, _, rest = words.partition(" ")
    return f"{swaps.get(head, head)} {rest}"


def _found(draw: Random) -> list[Fact]:
    made = []
    if draw.random() < 0.45:
        pressure = f"{draw.randint(104, 178)}/{draw.randint(60, 102)}"
        pulse, heat = draw.randint(56, 112), round(draw.uniform(36.2, 38.9), 1)
        text = f"blood pressure is {pressure}, pulse {pulse}, temperature {heat}"
        made.append(
            Fact(
                "sign",
                "",
                f"So your {text}.",
                f"The {text}.",
                f"BP {pressure}, HR {pulse}, T {heat}.",
                by="Doctor",
            )
        )
    for finding in draw.sample(listed("exam"), draw.choice((0, 1, 1, 2))):
        lower = finding[0].lower() + finding[1:]
        made.append(Fact("exam", "", f"On exam, {lower}", finding, f"O/E: {lower}", by="Doctor"))
    if draw.random() < 0.3:
        what, result = draw.choice(listed("imaging")), draw.choice(listed("clear"))
        made.append(
            Fact(
                "image",
                "",
                f"Your {what} {result}.",
                f"The {what} {result}.",
                f"{what} {result}.",
                by="Doctor",
            )
        )
    if draw.random() < 0.35:
        lab = draw.choice(words()["lab"])
        value = f"{value_of(draw, lab)} {lab['unit']}".replace(" %", "%")
        made.append(
            Fact(
                "lab",
                "",
                f"Your {lab['name']} came back at {value}.",
                f"{lab['name']} is {value}.",
                f"{lab['name']} {value}.",
                by="Doctor",
            )
        )
    return made


def value_of(draw: Random, lab: dict[str, Any]) -> str:
    """A value, in half of the cases outside the reference range."""
    width = lab["high"] - lab["low"]
    number = draw.uniform(max(lab["low"] - width * 0.5, 0), lab["high"] + width * 0.7)
    return f"{number:.{lab['places']}f}"


def _planned(draw: Random, conditions: list[dict[str, Any]]) -> list[Fact]:
    made = []
    for condition in conditions:
        if draw.random() < 0.3:
            plan = condition["plan"]
            made.append(
                _plan(
                    f"For your {condition['said']}, we will {plan}.",
                    f"For {condition['said']}, the plan is to {plan}.",
                    f"Plan: {plan}.",
                )
            )
    if draw.random() < 0.5:
        test = draw.choice(listed("tests"))
        made.append(
            _plan(
                draw.choice(
                    (
                        f"I'm going to order {test}.",
                        f"Let's get {test}.",
                        f"I would like to order {test}.",
                    )
                ),
                f"The plan is to order {test}.",
                f"Plan: {test}.",
            )
        )
    if draw.random() < 0.45:
        drug = draw.choice(listed("acute"))
        made.append(
            _plan(
                draw.choice(
                    (
                        f"I will prescribe {drug}.",
                        f"I'm going to start you on {drug}.",
                        f"I'll send {drug} to your pharmacy.",
                    )
                ),
                f"The plan is to start {drug}.",
                f"Rx: {drug}.",
                "drug:" + drug,
            )
        )
    if draw.random() < 0.35:
        place = draw.choice(listed("referrals"))
        made.append(
            _plan(
                f"I will refer you to {place}.",
                f"Referral to {place} is planned.",
                f"Refer to {place}.",
            )
        )
    if draw.random() < 0.35:
        advice = draw.choice(listed("advice"))
        made.append(
            _plan(
                f"I want you to {advice}.",
                f"The patient was advised to {advice}.",
                f"Advised to {advice}.",
            )
        )
    if draw.random() < 0.65:
        when = f"{draw.randint(2, 10)} {draw.choice(('days', 'weeks', 'weeks', 'months'))}"
        made.append(
            Fact(
                "return",
                "",
                f"I'll see you back in {when}.",
                f"Follow-up is in {when}.",
                f"Review in {when}.",
                f"in {when}",
                by="Doctor",
            )
        )
    return made


def _plan(said: str, written: str, short: str, item: str = "") -> Fact:
    return Fact("plan", "", said, written, short, item, by="Doctor")


_RISKS = {
    "high": ("high risk of falls", "high risk of readmission", "high cardiovascular risk"),
    "moderate": (
        "moderate risk of falls",
        "moderate bleeding risk",
        "moderate cardiovascular risk",
    ),
    "low": ("low risk of complications", "low cardiovascular risk", "low risk of falls"),
}


def _risk(draw: Random) -> list[Fact]:
    if draw.random() < 0.75:
        return []
    level = draw.choice(tuple(_RISKS))
    what = draw.choice(_RISKS[level])
    return [
        Fact(
            "risk",
            "",
            f"I consider this a {what}.",
            f"{{S}} is at {what}.".replace("at high card", "at a high card"),
            f"{what}.".capitalize(),
            level,
            by="Doctor",
        )
    ]
