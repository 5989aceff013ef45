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
_DRUG = r"(?:drug|medication|medicine|food|environmental|latex)"
_NONE = re.compile(
    rf"\b(?:nkda|nka|nkma|nkfa|no (?:known )?(?:{_DRUG}(?: (?:or|and) |/| )?)*"
    r"(?:allergy|allergies)(?! to (?!med|any|drug|food))"
    r"|(?:denies|denied|without|negative for) (?:any |having |known )*"
    rf"(?:{_DRUG} )*(?:allergy|allergies)(?! to (?!med|any|drug|food))"
    r"|not (?:known to be )?allergic to (?:any|anything)"
    r"|allerg(?:y|ies)[\s:*|_-]{0,6}(?:none|nil|no known|denied|denies|negative|not known)"
    r"|(?:has|have) no (?:known )?(?:drug )?allerg\w+(?! to)|allergic to nothing"
    r"|no known (?:drug )?(?:sensitivities|adverse reactions))\b"
)


class Allergy(NamedTuple):
    """A substance that a text calls an allergen, at tokens `first` up to `last`."""

    names: frozenset[str]
    first: int
    last: int
    sure: bool = True


class Said(NamedTuple):
    """A text's allergies, and the span in which it says that there are none."""

    found: tuple[Allergy, ...]
    none: tuple[int, int] | None


def read(text: Analysis) -> Said:
    """What a text says of allergies. Cached on the analysis."""
    known: Said | None = getattr(text, "_allergies", None)
    if known is None:
        known = _read(text)
        text._allergies = known  # type: ignore[attr-defined]
    return known


def _read(text: Analysis) -> Said:
    found: list[Allergy] = []
    own: dict[int, list[Allergy]] = {}
    for allergy in _substances(text):
        own.setdefault(text.sentence_of[allergy.first], []).append(allergy)
    for i, substances in own.items():
        found += _of_sentence(text, text.sentences[i], substances)
    folded = " ".join(text.text.lower().split("\n")).replace("\r", " ")
    match = next((m for m in _NONE.finditer(folded) if not _is_asked(text, m.start())), None)
    return Said(tuple(found), match.span() if match else None)


def _is_asked(text: Analysis, start: int) -> bool:
    at = text.sentence_at(start)
    sentence = text.sentences[at] if at >= 0 else None
    return sentence is not None and (
        sentence.asks or bool(text.bits[sentence.first] & context.FAMILY)
    )


def _substances(text: Analysis) -> list[Allergy]:
    named = [Allergy(drugs.parts(t.id), t.first, t.last) for t in drugs.mentions(text)]
    places = {a.first: i for i, a in enumerate(named)}
    for term in text.terms_of("class"):
        at = places.get(term.first)
        if at is None:
            named.append(Allergy(frozenset({term.id}), term.first, term.last))
        else:
            named[at] = named[at]._replace(names=named[at].names | {term.id})
    taken = {at for a in named for at in range(a.first, a.last)}
    for at, base in enumerate(text.bases):
        if base in _SUBSTANCES and at not in taken:
            name = "contrast" if base in ("iodine", "contrast", "dye", "gadolinium") else base
            named.append(Allergy(frozenset({name}), at, at + 1))
    return sorted(named, key=lambda a: a.first)


def _of_sentence(text: Analysis, sentence: Sentence, own: list[Allergy]) -> Iterator[Allergy]:
    places = range(sentence.first, sentence.last)
    cues = [at for at in places if text.bases[at] in _CUE or text.bases[at].startswith("allerg")]
    listed = _is_listed(text, sentence)
    for i, allergy in enumerate(own):
        state = text.bits[allergy.first]
        if state & (context.NEGATED | context.FAMILY | context.ASKED | context.HYPOTHETICAL):
            continue
        if i and _is_one(text, own[i - 1], allergy):
            continue
        if (
            (listed and _leads(text, sentence.first, allergy))
            or any(_reaches(text, cue, allergy) for cue in cues)
            or _reacted(text, sentence, allergy)
        ):
            yield allergy._replace(sure=not state & context.POSSIBLE)


def _is_one(text: Analysis, before: Allergy, allergy: Allergy) -> bool:
    """Whether two names are one substance: "sulfonamide antibiotic", but not on two lines."""
    if allergy.first != before.last or before.first == allergy.first:
        return False
    return (
        "\n" not in text.text[text.tokens[before.last - 1].end : text.tokens[allergy.first].start]
    )


_ROWS = 12
_WORDS = re.compile(r"[^ \t*|:\r\n]")
_MARKS = re.compile(r"[*|:]")
_INDENT = re.compile(r"[^\r]")
_SECTIONS = ("intolerances", "adverse reactions", "adverse drug reactions", "sensitivities")


def _is_listed(text: Analysis, sentence: Sentence) -> bool:
    """Whether a sentence stands in a list of allergies: on the heading's line, or below it.

    Below a heading with something behind it only indented lines and bullets go on; below a bare
    one all lines up to an empty one. On one line short sentences without a dose go on.
    """
    section = sentence.section
    if ("allerg" not in section and section not in _SECTIONS) or sentence.start < sentence.opened:
        return False
    lines = text.lines
    first, last = lines.at(sentence.opened), lines.at(sentence.start)
    end = min(lines.end(first), sentence.start)
    if _WORDS.search(text.text, sentence.opened, end):
        if lines.has_empty(first + 1, last) or last - first >= _ROWS:
            return False
        if last > first:
            return _goes_on(text, sentence, max(lines.starts[last - 1], sentence.opened), last)
        return (
            sentence.last - sentence.first <= 7
            and ":" not in text.bases[sentence.first : sentence.last]
        )
    marked = _MARKS.search(text.text, sentence.opened, end)
    return not lines.has_empty(first if marked else lines.next_filled(first + 1), last)


def _goes_on(text: Analysis, sentence: Sentence, above: int, line: int) -> bool:
    """Whether a line belongs to the one above it: it is indented, or that ends with a comma."""
    start = text.lines.starts[line]
    indented = _INDENT.search(text.text, start, sentence.start)
    return bool(indented) or text.text[above : start - 1].rstrip().endswith(",")


def _leads(text: Analysis, first: int, allergy: Allergy) -> bool:
    """Whether nothing between the list's beginning and a substance tells of treatment."""
    return not _treats(text, first, allergy)


_TREATED = listed(
    "takes started taking on given prescribed but treated use uses using used was medications "
    "medication has had have carries carry so therefore thus instead hence receives received "
    "requires rescue avoid switched tolerates tolerated tolerating start starting continue"
)
_LINKS = listed("to : include including includes are is | - of with after from * ( list listed")


def _treats(text: Analysis, first: int, allergy: Allergy) -> bool:
    """Whether a word before a substance, or a dose behind it, makes it a treatment."""
    between = [text.tokens[at].text for at in range(first, allergy.first)]
    if ";" in between or _TREATED & set(between):
        return True
    behind = [t.text for t in text.tokens[allergy.last : allergy.last + 2]]
    return len(behind) == 2 and behind[0][0].isdecimal() and behind[1] in ("mg", "mcg", "g")


_MILD = listed("seasonal environmental hay pollen perennial nasal")


def _reaches(text: Analysis, cue: int, allergy: Allergy) -> bool:
    """Whether a cue such as "allergic to" or "allergy" speaks of this substance."""
    if cue >= allergy.last:
        between = {text.tokens[at].text for at in range(allergy.last, cue)}
        return cue - allergy.last <= 3 and not between & {",", ";", ".", "for", "and"}
    if cue and text.tokens[cue - 1].text in _MILD:
        return False
    if text.bases[cue] != "allergic" and cue + 1 < allergy.first:
        links = {text.tokens[at].text for at in range(cue + 1, min(cue + 4, allergy.first))}
        if not links & _LINKS:
            return False
    return allergy.first - cue <= 25 and not _treats(text, cue + 1, allergy)


def _reacted(text: Analysis, sentence: Sentence, allergy: Allergy) -> bool:
    """ "hives with penicillin", "penicillin causes a rash"."""
    lead = ("taking", "receiving", "to", "with", "from", "after")
    for at in range(max(sentence.first, allergy.first - 3), allergy.first):
        if text.bases[at] in _REACTION and text.tokens[allergy.first - 1].text in lead:
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
    elif whole:
        yield from _omitted(source, output, there, said)


def _value(text: Analysis, span: tuple[int, int]) -> str:
    return text.text[span[0] : span[1]]


def _claimed(source: Analysis, output: Analysis, allergy: Allergy, there: Said) -> Fact:
    span, value = (
        output.span(allergy.first, allergy.last),
        output.value(allergy.first, allergy.last),
    )
    found = [a for a in there.found if _covers(a.names, allergy.names)]
    same = next((a for a in found if a.sure), found[0] if found else None)
    if same and allergy.sure and not same.sure:
        where, why = source.span(same.first, same.last), "The source has this as possible only."
        return Fact("allergy", "contradicted", span, value, where, why, _RAISED)
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


def sums_up(source: Analysis, output: Analysis, is_text: bool) -> bool:
    """Whether the output is a summary of the source, not one sentence about it."""
    if not is_text:
        return True
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
        yield Fact("omission", "contradicted", (0, 0), value, where, why, _RULE)
