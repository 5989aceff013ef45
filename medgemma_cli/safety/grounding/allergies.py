"""Rule `omitted_allergy`: an allergy of the source that a summary leaves out or denies.

Covers "allergic to", "X allergy", an allergies section, anaphylaxis and reactions to a drug, NKDA
and its forms, on both sides. An omission is judged only of an output that sums the source up: a
record of fields, two sentences or more, or a quarter of the source's length; a single sentence
about a long note omits nothing. Seasonal and other allergies without a named substance count for
nothing. Does not judge cross-reactivity.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from medgemma_cli.safety.grounding import context, drugs
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.words import Sentence, listed

_RULE, _FLIP, _RAISED = "omitted_allergy", "negation_flip", "unsupported_diagnosis"
_SUBSTANCES = listed(
    "latex peanut nut shellfish shrimp egg bee wasp iodine contrast dye adhesive tape milk "
    "dairy soy wheat gluten fish "
    "strawberry walnut almond cashew sesame nickel chlorhexidine gadolinium sulfite kiwi "
    "banana lanolin wool"
)
_CUE = listed("allergy allergic anaphylaxis anaphylactic anaphylactoid angioedema")
_REACTION = listed("hive rash reaction reacted angioedema swelling urticaria anaphylaxi itching")
_NONE = re.compile(
    r"\b(?:nkda|nka|nkma|no (?:known )?(?:(?:drug|medication|medicine|food|environmental|"
    r"latex)(?: (?:or|and) |/| )?)*"
    r"(?:allergy|allergies)(?! to)|(?:denies|without|negative for) (?:any |having |known "
    r")*(?:(?:drug|medication|food) )*(?:allergy|allergies)(?! to)|"
    r"not allergic to (?:any|anything)|allergies\s*:?\s*(?:none|nil|no known|denied|denies|"
    r"negative|not known)|"
    r"(?:has|have) no (?:known )?(?:drug )?allerg\w+(?! to)|allergic to nothing|no allergies)\b"
)


class Allergy(NamedTuple):
    """A substance that a text calls an allergen, at tokens `first` up to `last`."""

    names: frozenset[str]
    first: int
    last: int


class Said(NamedTuple):
    """A text's allergies, and the span in which it says that there are none."""

    found: tuple[Allergy, ...]
    none: tuple[int, int] | None


def read(text: Analysis) -> Said:
    """What a text says of allergies."""
    found: list[Allergy] = []
    substances = _substances(text)
    for sentence in text.sentences:
        found += _of_sentence(text, sentence, substances)
    folded = " ".join(text.text.lower().split("\n")).replace("\r", " ")
    match = next((m for m in _NONE.finditer(folded) if not _is_asked(text, m.start())), None)
    return Said(tuple(found), match.span() if match else None)


def _is_asked(text: Analysis, start: int) -> bool:
    sentence = next((s for s in text.sentences if s.start <= start < s.end), None)
    return sentence is not None and (
        sentence.asks or bool(text.bits[sentence.first] & context.FAMILY)
    )


def _substances(text: Analysis) -> list[Allergy]:
    named = [Allergy(drugs.parts(t.id), t.first, t.last) for t in drugs.mentions(text)]
    named += [Allergy(frozenset({t.id}), t.first, t.last) for t in text.terms_of("class")]
    taken = {at for a in named for at in range(a.first, a.last)}
    for at, base in enumerate(text.bases):
        if base in _SUBSTANCES and at not in taken:
            name = "contrast" if base in ("iodine", "contrast", "dye", "gadolinium") else base
            named.append(Allergy(frozenset({name}), at, at + 1))
    return sorted(named, key=lambda a: a.first)


def _of_sentence(
    text: Analysis, sentence: Sentence, substances: list[Allergy]
) -> Iterator[Allergy]:
    own = [a for a in substances if sentence.first <= a.first < sentence.last]
    if not own:
        return
    bases = text.bases[sentence.first : sentence.last]
    cues = [
        sentence.first + i
        for i, base in enumerate(bases)
        if base in _CUE or base.startswith("allerg")
    ]
    section = "allerg" in sentence.section or sentence.section in (
        "intolerances",
        "adverse reactions",
    )
    for allergy in own:
        state = text.bits[allergy.first]
        if state & (context.NEGATED | context.FAMILY | context.ASKED | context.HYPOTHETICAL):
            continue
        if (
            section
            or any(_reaches(text, cue, allergy) for cue in cues)
            or _reacted(text, sentence, allergy)
        ):
            yield allergy


def _reaches(text: Analysis, cue: int, allergy: Allergy) -> bool:
    """Whether a cue such as "allergic to" or "allergy" speaks of this substance."""
    if cue >= allergy.last:
        return cue - allergy.last <= 3
    between = {text.tokens[at].text for at in range(cue + 1, allergy.first)}
    if between & {
        ";",
        "takes",
        "started",
        "taking",
        "on",
        "given",
        "prescribed",
        "but",
        "treated",
        "use",
        "was",
        "medications",
    }:
        return False
    return allergy.first - cue <= 25


def _reacted(text: Analysis, sentence: Sentence, allergy: Allergy) -> bool:
    """ "hives with penicillin", "penicillin causes a rash"."""
    for at in range(max(sentence.first, allergy.first - 3), allergy.first):
        if text.bases[at] in _REACTION and text.tokens[allergy.first - 1].text in (
            "taking",
            "receiving",
        ):
            return True
        if text.bases[at] in _REACTION and text.tokens[allergy.first - 1].text in (
            "to",
            "with",
            "from",
            "after",
        ):
            return True
    after = {text.bases[at] for at in range(allergy.last, min(sentence.last, allergy.last + 5))}
    return bool(after & {"cause", "caused", "gave", "give", "("} and after & _REACTION)


def check(source: Analysis, output: Analysis, *, whole: bool) -> Iterator[Fact]:
    """Facts for the allergies of the output, and one for each that is left out."""
    there, said = read(source), read(output)
    for allergy in said.found:
        yield _claimed(source, output, allergy, there)
    named = [allergy.names for allergy in said.found]
    if said.none:
        missing = [a for a in there.found if not any(_covers(names, a.names) for names in named)]
        if missing:
            evidence = source.span(missing[0].first, missing[0].last)
            why = "The source names an allergy; the output says there is none."
            yield Fact(
                "allergy",
                "contradicted",
                said.none,
                _value(output, said.none),
                evidence,
                why,
                _RULE,
            )
        else:
            verdict = "supported" if there.none else "not checked"
            why = "" if there.none else "The source does not say that there are none."
            yield Fact("allergy", verdict, said.none, _value(output, said.none), there.none, why)  # type: ignore[arg-type]
    elif whole or sums_up(source, output):
        yield from _omitted(source, output, there, said)


def _value(text: Analysis, span: tuple[int, int]) -> str:
    return text.text[span[0] : span[1]]


def _claimed(source: Analysis, output: Analysis, allergy: Allergy, there: Said) -> Fact:
    span, value = (
        output.span(allergy.first, allergy.last),
        output.value(allergy.first, allergy.last),
    )
    same = next((a for a in there.found if _covers(a.names, allergy.names)), None)
    if same:
        return Fact("allergy", "supported", span, value, source.span(same.first, same.last))
    if there.none:
        why = "The source says that there are no known allergies."
        return Fact("allergy", "contradicted", span, value, there.none, why, _FLIP)
    if there.found:
        where = source.span(there.found[0].first, there.found[0].last)
        why = "The source names another allergy, not this one."
        return Fact("allergy", "contradicted", span, value, where, why, _RAISED)
    return Fact(
        "allergy",
        "contradicted",
        span,
        value,
        None,
        "The source does not name this allergy.",
        _RAISED,
    )


def _covers(names: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two substances are the same, or one is the other's class."""
    if names & others:
        return True
    one, other = _widened(names), _widened(others)
    return bool(one & others or other & names)


_FAMILIES = {
    "penicillin": "penicillins",
    "sulfonamide": "sulfamethoxazole",
    "sulfamethoxazole": "sulfonamide",
}


def _widened(names: frozenset[str]) -> frozenset[str]:
    members = drugs.classes()
    wider = {name for name in members if names & members[name]}
    return names | {_FAMILIES.get(name, name) for name in names} | wider


def sums_up(source: Analysis, output: Analysis) -> bool:
    """Whether the output is a summary of the source, not one sentence about it."""
    own = [s for s in output.sentences if s.last - s.first > 2]
    return len(own) >= 2 or len(output.tokens) * 4 >= len(source.tokens)


def _omitted(source: Analysis, output: Analysis, there: Said, said: Said) -> Iterator[Fact]:
    named = [a.names for a in said.found]
    done: set[frozenset[str]] = set()
    for allergy in there.found:
        if allergy.names in done or any(_covers(names, allergy.names) for names in named):
            continue
        done.add(allergy.names)
        value = source.value(allergy.first, allergy.last)
        where = source.span(allergy.first, allergy.last)
        why = "The source names this allergy and the output leaves it out."
        yield Fact("allergy", "contradicted", (0, 0), value, where, why, _RULE)
