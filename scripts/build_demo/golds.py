"""What each shipped template should answer about a document, from the facts that are told in it."""

from random import Random
from typing import Any, NamedTuple

from scripts.build_demo.facts import value_of
from scripts.build_demo.telling import Document, Told
from scripts.build_demo.vocabulary import listed, words

_LONGEST = 470  # characters of a summary; the contract has 500
_SENTENCES = 5
# Facts of which only a word such as "no" tells whether they are so. A model of this size turns them
# round too often, into "reports fever" of somebody who was asked and said no: a summary leaves them
# out, and so it leaves out age and sex, which it would rather invent than miss.
_TURNED = ("without", "yes", "healthy", "no_drugs", "no_surgery", "no_family", "no_allergy",
           "no_smoke", "no_habits", "no_smoke_drinks")  # fmt: skip
NOTHING = "Little is told of the patient."
"""What a summary says of a document that tells nothing it may say."""
PLANS = ("plan_for", "order", "start", "stop", "refer", "advise")
ALLERGIES = ("allergy", "bare_allergy")
# What a finding is made of first.
_QUOTED = ("presents", "plainly", "follow", "risk", *ALLERGIES, "assess", "suspect", *PLANS,
           "with", "takes", "lab", "sign", "image", "history", "exam", "surgery")  # fmt: skip


class Asked(NamedTuple):
    """A template with a question, and the answer it should get."""

    template: str
    question: str | None
    output: Any


def summarize(draw: Random, document: Document) -> Asked:
    """The findings, lists and level of the `summarize` template."""
    told = document.told
    risk = _first(told, "risk")
    return Asked(
        "summarize",
        None,
        {
            "summary": summary(document),
            "key_findings": _chosen(told, draw.choice((2, 2, 3, 3, 4))),
            "medications": _drugs(told),
            "allergies": [one.fact.item for one in told if one.fact.kind in ALLERGIES],
            "risk_reason": _finding(risk) if risk else "not stated",
            "risk_level": risk.fact.item if risk else "unknown",
            "recommendations": [_sentence(one) for one in told if one.fact.kind in PLANS][:5],
            "follow_up": _follow_up(told),
        },
    )


def _first(told: tuple[Told, ...], kind: str) -> Told | None:
    return next((one for one in told if one.fact.kind == kind), None)


def _drugs(told: tuple[Told, ...]) -> list[str]:
    return [one.fact.item for one in told if one.fact.kind in ("takes", "start")]


def _follow_up(told: tuple[Told, ...]) -> str:
    found = _first(told, "return")
    return _sentence(found) if found else "not stated"


def _sentence(one: Told) -> str:
    return one.fact.written.replace("{S}", "The patient")


def _finding(one: Told) -> dict[str, str]:
    return {"quote": one.quote, "statement": _sentence(one)}


def _quotable(one: Told) -> bool:
    return len(one.quote.split()) >= 3


def _chosen(told: tuple[Told, ...], most: int) -> list[dict[str, str]]:
    """The weightiest, in the order of the document; there is always one."""
    sure = [one for one in _sure(told) if _quotable(one)]
    ranked = sorted(
        (one for one in sure if one.fact.kind in _QUOTED),
        key=lambda one: _QUOTED.index(one.fact.kind),
    )[:most]
    kept = [_finding(one) for one in sure if one in (ranked or sure[:1])]
    if kept:
        return kept
    quote = next((one.quote for one in told if _quotable(one)), told[0].quote)
    return [{"quote": quote, "statement": NOTHING}]


def _sure(told: tuple[Told, ...]) -> list[Told]:
    return [one for one in told if one.fact.kind not in _TURNED]


def summary(document: Document) -> str:
    """As many facts as have room, in order; of the patient's sex and age nothing."""
    made = ""
    for one in _summed(document.told):
        sentence = _sentence(one)
        if len(made) + len(sentence) <= _LONGEST:
            made = f"{made} {sentence}".strip()
    return made or NOTHING


def _summed(told: tuple[Told, ...]) -> list[Told]:
    """What a summary has room for: the weightiest, in the order of the document."""
    kept = _sure(told)
    while len(kept) > _SENTENCES:
        kept.remove(max(kept[1:], key=_lightness))
    return kept


def _lightness(one: Told) -> int:
    kind = one.fact.kind
    return _QUOTED.index(kind) if kind in _QUOTED else len(_QUOTED)


_SEVERITY = {"high": "unstable", "moderate": "watcher", "low": "stable"}


def handoff(draw: Random, document: Document) -> tuple[Document, Asked]:
    """The document with an illness severity and things to do, and its I-PASS."""
    told = document.told
    level = draw.choice(("stable", "watcher", "unstable", "not stated"))
    todo = draw.choice(listed("tests"))
    hour = f"{draw.randint(0, 23):02d}:00"
    lines, actions, aware = [document.text], [], []
    if level != "not stated":
        lines.append(f"Illness severity: {level}.")
    if draw.random() < 0.7:
        line = f"The night team is to check {todo} at {hour}."
        lines.append(line)
        actions.append({"quote": line, "statement": f"The night team checks {todo} at {hour}."})
    if draw.random() < 0.5:
        what = draw.choice(("the blood pressure drops", "the fever returns", "the pain gets worse"))
        line = f"If {what}, call the senior resident."
        lines.append(line)
        aware.append({"quote": line, "statement": f"The senior resident is called if {what}."})
    actions += [_finding(one) for one in told if one.fact.kind in PLANS and _quotable(one)][:2]
    short = document._replace(told=told[:4])
    output = {
        "illness_severity": level,
        "patient_summary": summary(short),
        "allergies": [one.fact.item for one in told if one.fact.kind in ALLERGIES],
        "action_list": actions,
        "situation_awareness": aware,
        "synthesis": "not stated",
    }
    return document._replace(text="\n".join(lines)), Asked("handoff", None, output)


def labs(draw: Random) -> tuple[str, Asked]:
    """A laboratory report and its rows."""
    style = draw.choice(
        (
            "{n}: {v} {u} ({r}){f}",
            "{n}  {v} {u}  {r}{f}",
            "{n} | {v} | {u} | {r} |{f}",
            "{n} {v} {u}{f}",
        )
    )
    marks = draw.choice(
        ({"high": " H", "low": " L"}, {"high": " HIGH", "low": " LOW"}, {"high": "", "low": ""})
    )
    lines = [
        draw.choice(
            ("LABORATORY REPORT", "# Blood results", "Pathology report", "Chemistry panel")
        ),
        "",
    ]
    results = []
    for lab in draw.sample(words()["lab"], draw.randint(2, 5)):
        value, ranged = value_of(draw, lab), f"{lab['low']}-{lab['high']}"
        side = "high" if float(value) > lab["high"] else "low" if float(value) < lab["low"] else ""
        mark = marks.get(side, "")
        line = style.format(n=lab["name"], v=value, u=lab["unit"], r=ranged, f=mark).strip()
        lines.append(line)
        results.append(
            {
                "quote": " ".join(line.split()),
                "analyte": lab["name"],
                "value": value,
                "unit": lab["unit"],
                "reference_range": ranged if "{r}" in style else "not stated",
                "flag": side if mark else "not stated",
            }
        )
    comment = "not stated"
    if draw.random() < 0.3:
        comment = draw.choice(
            (
                "Sample slightly hemolyzed.",
                "Results phoned to the ward.",
                "Repeat in 2 weeks is suggested.",
            )
        )
        lines += ["", f"Comment: {comment}"]
    return "\n".join(lines), Asked("labs", None, {"results": results, "comment": comment})


_NOT_SAID = "The document does not say."


def general(draw: Random, document: Document) -> Asked:
    """A question of a kind that people type, answered or not by the document."""
    told = document.told
    kind = draw.choice(("takes", "allergy", "return", "presents", "all", "plan"))
    if kind == "all":
        return Asked(
            "general",
            draw.choice((None, "Summarize this document.", "What is this about?")),
            summary(document),
        )
    asked = {
        "takes": ("Which medications are documented?", "What drugs does the patient take?"),
        "allergy": ("Are any allergies documented?", "What is the patient allergic to?"),
        "return": ("When is the follow-up?", "What follow-up is documented?"),
        "presents": ("Why did the patient come?", "What is the main complaint?"),
        "plan": ("What is the plan?", "What is recommended?"),
    }
    kinds = {
        "presents": ("presents", "plainly"),
        "allergy": (*ALLERGIES, "no_allergy"),
        "plan": PLANS,
    }.get(kind, (kind,))
    found = [_sentence(one) for one in told if one.fact.kind in kinds]
    if kind == "takes":
        found = [f"{drug[0].upper()}{drug[1:]}." for drug in _drugs(told)]
    return Asked("general", draw.choice(asked[kind]), " ".join(found) or _NOT_SAID)


_SCREENED = (
    ("allergy", "Is an allergy documented?", "yes"),
    ("bare_allergy", "Is an allergy documented?", "yes"),
    ("no_allergy", "Is an allergy documented?", "no"),
    ("return", "Is a follow-up planned?", "yes"),
    ("smokes", "Is tobacco use mentioned?", "yes"),
    ("no_surgery", "Has the patient had surgery?", "no"),
    ("no_habits", "Does the patient drink alcohol?", "no"),
    ("surgery", "Has the patient had surgery?", "yes"),
)


def screen(draw: Random, document: Document) -> Asked:
    """A yes/no question about one thing that the document affirms, denies or does not mention."""
    told = {one.fact.kind: one for one in document.told}
    options = [
        (question, answer, told[kind]) for kind, question, answer in _SCREENED if kind in told
    ]
    options += [
        (f"Does the patient have {_what(told[kind])}?", answer, told[kind])
        for kind, answer in (("without", "no"), ("yes", "yes"), ("with", "yes"))
        if kind in told
    ]
    if options and draw.random() < 0.85:
        question, answer, one = draw.choice(options)
        return Asked("screen", question, {"answer": answer, "reason": _sentence(one)})
    absent = draw.choice(("a pacemaker", "recent travel abroad", "a blood transfusion"))
    reason = f"The document does not mention {absent}."
    return Asked(
        "screen", f"Does the document mention {absent}?", {"answer": "no", "reason": reason}
    )


def _what(one: Told) -> str:
    """The first symptom that a fact is about."""
    words = one.fact.item
    return words.split(",")[0].split(" or ")[0].split(" and ")[0]
