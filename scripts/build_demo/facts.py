"""One invented patient as facts, each of which can be said, written, or put in shorthand.

What a summary may say of a fact is its `written` form: the same numbers, drugs, sides and
negations as any of the others. The words are those of `phrases.toml`.
"""

from random import Random
from typing import Any, NamedTuple

from scripts.build_demo.vocabulary import listed, phrases, words

_SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_UNITS = ("days", "days", "weeks", "weeks", "months", "years")
_VERBS = {"smokes": "smoke", "does": "do", "has": "have", "drinks": "drink", "walks": "walk",
          "eats": "eat", "goes": "go", "sleeps": "sleep", "follows": "follow", "uses": "use",
          "swims": "swim", "wakes": "wake", "vapes": "vape"}  # fmt: skip
_RISKS = {
    "high": ("high risk of falls", "high risk of readmission", "high risk of a stroke"),
    "moderate": ("moderate risk of falls", "moderate risk of bleeding"),
    "low": ("low risk of complications", "low risk of falls", "low risk of infection"),
}


class Fact(NamedTuple):
    """`asked` and `said` are a conversation's, `written` a note's, `short` a busy doctor's.

    `{S}` stands for whoever the patient is called, `by` who says it. `item` is the fact's bare
    value: the drug with its dose, the allergen with its reaction, the level of risk.
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


class Teller:
    """Draws the facts of one patient."""

    def __init__(self, draw: Random, *, woman: bool) -> None:
        self._draw = draw
        self._woman = woman

    def fact(self, kind: str, *, item: str = "", **slots: object) -> Fact:
        """A fact in one of its phrasings."""
        phrase = phrases()[kind]
        made = {}
        for form in ("asked", "said", "written", "short"):
            text = self._draw.choice(phrase.get(form, [""]))
            for slot, value in slots.items():
                text = text.replace(f"{{{slot}}}", str(value))
            made[form] = text[:1].upper() + text[1:] if not text.startswith("{S}") else text
        return Fact(kind, **made, item=item, by=phrase.get("by", "Patient"))

    def one(self, name: str) -> str:
        """A word of a list."""
        return self._draw.choice(listed(name))

    def may(self, share: float, *facts: Fact) -> list[Fact]:
        """The facts, in this share of the cases."""
        return list(facts) if self._draw.random() < share else []

    def span(self) -> str:
        """A length of time, in figures, in words, or as vague as people are."""
        if self._draw.random() < 0.35:
            return self.one("spans")
        count = self._draw.randint(2, 10)
        told = _SMALL[count - 1] if self._draw.random() < 0.6 else count
        return f"{told} {self._draw.choice(_UNITS)}"

    def fitting(self, table: str) -> dict[str, Any]:
        """A row of a table that is not for the other sex alone."""
        other = "men" if self._woman else "women"
        return self._draw.choice([row for row in words()[table] if not row.get(other)])

    # -- the parts of a visit ---------------------------------------------------------------------

    def complaint(self) -> list[Fact]:
        """Why the patient came, and what goes with it."""
        draw, row = self._draw, self.fitting("complaint")
        name, said = _sided(draw, row)
        first = self.fact("presents", name=name, said=said, span=self.span())
        roll = draw.random()
        if roll < 0.12:
            first = self.fact("follow", visit=self.one("visits"))
        elif roll < 0.5:
            first = self.fact("plainly", name=name, said=said)
        return [
            first,
            *self.may(0.3, self.fact("kind", x=draw.choice(row["kinds"]))),
            *self.may(0.25, self.fact("onset", cause=self.one("causes"))),
            *self.may(0.3, self.fact("worse", x=self.one("worse"))),
            *self.may(0.25, self.fact("better", x=self.one("better"))),
            *self.may(0.15, self.fact("score", x=draw.randint(2, 9))),
            *self.may(0.2, self.fact("course", x=self.one("courses"))),
            *self.symptoms(row),
        ]

    def symptoms(self, row: dict[str, Any]) -> list[Fact]:
        """What there is besides, and what there is not."""
        draw = self._draw
        found = joined(draw.sample(row["with"], draw.choice((1, 2))), "and")
        missing = draw.sample(row["not"], draw.choice((1, 2, 2, 3)))
        more = [self._no(x) for x in draw.sample(listed("negatives"), 2)]
        return [
            *self.may(0.45, self.fact("with", x=found, item=found)),
            *self.may(0.3, self._yes(draw.choice(row["with"]))),
            *self.may(0.75, self._no(joined(missing, "or"))),
            *more[: draw.choice((0, 0, 1, 2))],
        ]

    def _yes(self, what: str) -> Fact:
        return self.fact("yes", x=what, item=what)

    def _no(self, what: str) -> Fact:
        return self.fact("without", x=what, item=what)

    def background(self, conditions: list[dict[str, Any]]) -> list[Fact]:
        """Conditions, medicines, operations, family, allergies."""
        draw = self._draw
        made = [self._known(one) for one in conditions] or [self.fact("healthy")]
        made += self.may(0.2, self.fact("history", x=self.one("other")))
        for one in conditions:
            drug = draw.choice(one["drugs"])
            made += self.may(0.65, self.fact("takes", x=drug, item=drug))
        loose = self.one("drugs" if draw.random() < 0.6 else "spelled")
        made += self.may(0.35, self.fact("takes", x=loose, item=loose))
        if not conditions:
            made += self.may(0.5, self.fact("no_drugs"))
        made += self.may(0.1, self.fact("missed"))
        made += self.may(
            0.3, self.fact("surgery", x=self.one("surgeries"), year=draw.randint(1986, 2023))
        ) or self.may(0.3, self.fact("no_surgery"))
        who, what = self.one("relatives"), self.one("familial")
        made += self.may(0.3, self.fact("family", who=who, x=what))
        several = joined(draw.sample(listed("familial"), draw.choice((1, 2, 3))), "or")
        made += self.may(0.25, self.fact("no_family", x=several))
        return [*made, *self.may(0.7, self.allergy())]

    def _known(self, condition: dict[str, Any]) -> Fact:
        name = condition["name" if self._draw.random() < 0.6 else "said"]
        return self.fact("history", x=name, item=name)

    def allergy(self) -> Fact:
        """One, with its reaction or without, or none."""
        what, does = self.one("allergens"), self.one("reactions")
        roll = self._draw.random()
        if roll < 0.45:
            return self.fact("no_allergy")
        if roll < 0.65:
            return self.fact("bare_allergy", x=what, item=what)
        return self.fact("allergy", x=what, does=does, item=f"{what} ({does})")

    def living(self) -> list[Fact]:
        """Habits, work and home."""
        habit = self.one("habits")
        return [
            *self.may(0.75, *self._habits()),
            *self.may(0.3, self.fact("job", x=self.one("jobs"))),
            *self.may(0.25, self.fact("home", x=self.one("homes"))),
            *self.may(0.2, self.fact("habit", x=habit, mine=_mine(habit))),
            *self.may(0.06, self.fact("vaccines")),
            *self.may(
                0.05,
                self.fact("birth", weeks=self._draw.randint(34, 41), weight=self.one("weights")),
            ),
        ]

    def _habits(self) -> list[Fact]:
        """Tobacco and alcohol: told of each, of both at once, or given up."""
        smokes, drinks = self.one("smoking"), self.one("drinking")
        drinking = self.fact("drinks", x=drinks, mine=_mine(drinks))
        kind = self._draw.choice(("each", "each", "denied", "apart", "both", "quit"))
        if kind == "each":
            return [self.fact("smokes", x=smokes, mine=_mine(smokes)), *self.may(0.5, drinking)]
        if kind == "denied":
            return [self.fact("no_smoke"), *self.may(0.4, drinking)]
        if kind == "apart":
            drinks = self._draw.choice([one for one in listed("drinking") if " not " not in one])
            return [self.fact("no_smoke_drinks", x=drinks, mine=_mine(drinks))]
        if kind == "both":
            return [self.fact("no_habits")]
        ago = f"{self._draw.randint(2, 30)} years ago"
        return [self.fact("quit", when=self._draw.choice((ago, "years ago", "a while ago")))]

    def found(self) -> list[Fact]:
        """Vital signs, examination, pictures, laboratory."""
        draw = self._draw
        pressure = f"blood pressure is {draw.randint(104, 178)}/{draw.randint(60, 102)}"
        heat = round(draw.uniform(36.2, 38.9), 1)
        signs = f"{pressure}, pulse {draw.randint(56, 112)}, temperature {heat}"
        lab = draw.choice(words()["lab"])
        value = f"{value_of(draw, lab)} {lab['unit']}".replace(" %", "%")
        exams = draw.sample(listed("exam"), draw.choice((0, 1, 1, 2)))
        return [
            *self.may(0.35, self.fact("sign", x=draw.choice((signs, pressure)))),
            *[self.fact("exam", x=exam) for exam in exams],
            *self.may(0.3, self.fact("image", what=self.one("imaging"), x=self.one("clear"))),
            *self.may(0.3, self.fact("lab", what=lab["name"], x=value)),
        ]

    def planned(self, conditions: list[dict[str, Any]]) -> list[Fact]:
        """What was thought of it, and what is to be done."""
        draw = self._draw
        level = draw.choice(tuple(_RISKS))
        drug, when = self.one("acute"), f"{draw.randint(2, 10)} {draw.choice(_UNITS[:5])}"
        what = self.one("diagnoses")
        made = self.may(0.25, self.fact("assess", x=what)) or self.may(
            0.25, self.fact("suspect", x=what)
        )
        for one in conditions:
            made += self.may(0.25, self.fact("plan_for", said=one["said"], x=one["plan"]))
            made += self.may(0.1, self.fact("stable", x=one["name"]))
        return [
            *made,
            *self.may(0.45, self.fact("order", x=self.one("tests"))),
            *self.may(0.4, self.fact("start", x=drug, item=drug)),
            *self.may(0.02, self.fact("stop", x=self.one("drugs"))),
            *self.may(0.3, self.fact("refer", x=self.one("referrals"))),
            *self.may(0.3, self.fact("advise", x=self.one("advice"))),
            *self.may(0.45, self.fact("return", x=when)),
            *self.may(0.12, self.fact("net")),
            *self.may(0.25, self.fact("risk", x=f"{draw.choice(_RISKS[level])}", item=level)),
        ]


def patient(draw: Random) -> Patient:
    """A patient with a complaint, and with as much else as a visit may bring up."""
    woman = draw.random() < 0.5
    teller = Teller(draw, woman=woman)
    rows = [teller.fitting("condition") for _ in range(draw.choice((0, 1, 1, 2, 2, 3)))]
    conditions = list({row["name"]: row for row in rows}.values())
    facts = (
        *teller.complaint(),
        *teller.background(conditions),
        *teller.living(),
        *teller.found(),
        *teller.planned(conditions),
    )
    name = f"{teller.one('first')} {teller.one('last')}"
    return Patient(draw.randint(19, 91), woman, name, facts)


def review(draw: Random, *, woman: bool) -> list[Fact]:
    """Symptoms asked after one by one, as in a review of systems; most of them are not there."""
    teller = Teller(draw, woman=woman)
    asked = draw.sample(listed("negatives"), draw.randint(2, 5))
    kinds = draw.choices(("yes", "without"), (2, 3), k=len(asked))
    return [
        teller.fact(kind, x=what.replace(" or ", " and ") if kind == "yes" else what, item=what)
        for kind, what in zip(kinds, asked, strict=True)
    ]


def joined(items: list[str], word: str) -> str:
    """As a list in a sentence: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def _sided(draw: Random, row: dict[str, Any]) -> tuple[str, str]:
    """A complaint's name, and what a patient says, with a side where it has one."""
    if not row.get("sides") or draw.random() < 0.4:
        return row["name"], row["said"]
    side = draw.choice(("left", "right"))
    said = row["said"].replace(" my ", f" my {side} ", 1)
    said = said.replace("an earache", f"an earache on the {side}")
    return f"{side} {row['name']}", said.replace("vision", f"vision in the {side} eye")


def value_of(draw: Random, lab: dict[str, Any]) -> str:
    """A laboratory value, in half of the cases outside its reference range."""
    width = lab["high"] - lab["low"]
    number = draw.uniform(max(lab["low"] - width * 0.5, 0), lab["high"] + width * 0.7)
    return f"{number:.{lab['places']}f}"


def _mine(told: str) -> str:
    """What is told of somebody, as they say it themselves."""
    head, _, rest = told.partition(" ")
    return f"{_VERBS.get(head, head)} {rest}"
