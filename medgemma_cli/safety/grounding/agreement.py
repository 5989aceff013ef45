"""Does a finding of the output agree with the source's mentions of it? Negation and certainty."""

from typing import NamedTuple

from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.lexicon import Term
from medgemma_cli.safety.grounding.words import listed

FLIP, RAISED = "negation_flip", "unsupported_diagnosis"
_NOW = listed("acute active current ongoing new recurrent currently now")
_STILL = listed(
    "has have persistent ongoing current still continued continues currently persists persist"
)
_HABITS = frozenset({"smoking", "alcohol use", "drug use", "fall", "pregnancy"})


# Signs that are seen or felt: "likely swelling from the cast" is still swelling.
_FELT = listed(
    "pain edema erythema tenderness stiffness spasm weakness bruising drainage bleeding "
    "dyspnea cough"
)


class Mention(NamedTuple):
    """A finding as a text has it: what, where, of whom, and how sure."""

    concept: str
    site: str
    kind: str
    family: bool
    state: str
    term: Term


Judgement = tuple[str, str, str, Mention | None]
"""Verdict, rule, reason and evidence."""

_AGREE = {
    "affirmed": {"affirmed"},
    "historical": {"affirmed", "historical", "resolved", "gone"},
    "resolved": {"resolved", "gone", "historical", "negated"},
    "gone": {"resolved", "gone", "historical", "negated"},
    "negated": {"negated", "unlikely", "gone", "resolved"},
    "possible": {"possible", "affirmed", "unlikely"},
    "unlikely": {"negated", "unlikely", "possible"},
}


def judge(output: Analysis, mention: Mention, found: list[Mention]) -> Judgement:
    """Verdict, rule, reason and evidence for a mention against its comparable ones."""
    if (
        not found
        and mention.kind == "diagnosis"
        and mention.state == "affirmed"
        and not mention.family
    ):
        return "contradicted", RAISED, "The source does not name this diagnosis.", None
    if not found:
        return (
            "not checked",
            "",
            "The source does not name this finding as the rules know it.",
            None,
        )
    states = {m.state: m for m in reversed(found)}
    if mention.family != found[0].family:
        if mention.state in ("affirmed", "historical"):
            return (
                "contradicted",
                RAISED,
                "The source says this of a relative, not of the patient.",
                found[0],
            )
        return "not checked", "", "The source says this of a relative.", found[0]
    for state in _AGREE[mention.state]:
        if state in states:
            return "supported", "", "", states[state]
    return _disagree(output, mention, states)


def _disagree(output: Analysis, mention: Mention, states: dict[str, Mention]) -> Judgement:
    """The judgement where the source never says the same."""
    any_one = next(iter(states.values()))
    if mention.state in ("affirmed", "historical"):
        return _overstated(output, mention, states)
    if "asked" in states:
        return _open("The source asks about this; the answer is not plain.", any_one)
    if mention.state == "possible" and "negated" in states:
        return "contradicted", FLIP, "The source denies this.", states["negated"]
    if mention.state in ("negated", "unlikely") and {"affirmed", "possible"} & set(states):
        evidence = states.get("affirmed") or states["possible"]
        return "contradicted", FLIP, "The source says that this is there or may be.", evidence
    return _open("The source speaks of this in another sense.", any_one)


def _open(why: str, evidence: Mention) -> Judgement:
    return "not checked", "", why, evidence


def _overstated(output: Analysis, mention: Mention, states: dict[str, Mention]) -> Judgement:
    """The judgement on a finding that the output has and the source does not plainly affirm."""
    first, last, words = mention.term.first, mention.term.last, output.tokens
    if historical := states.get("historical"):
        why = "The source has this in the past only."
        now = {token.text for token in words[max(0, first - 2) : first]} & _NOW
        return ("contradicted", RAISED, why, historical) if now else _open(why, historical)
    if asked := states.get("asked"):
        return _open("The source asks about this; the answer is not plain.", asked)
    if possible := states.get("possible"):
        if mention.concept in _FELT:
            return _open("The source has this as possible.", possible)
        return "contradicted", RAISED, "The source has this as possible only.", possible
    if gone := states.get("gone"):
        return "contradicted", FLIP, "The source says that this is over.", gone
    if resolved := states.get("resolved"):
        why = "The source has this as resolved."
        lead = [*words[max(0, first - 3) : first], *words[last : last + 2]]
        still = {token.text for token in lead} & _STILL
        return ("contradicted", FLIP, why, resolved) if still else _open(why, resolved)
    if denied := states.get("negated") or states.get("unlikely"):
        return "contradicted", FLIP, "The source denies this.", denied
    if "hypothetical" in states and mention.concept not in _HABITS:
        why = "The source names this only as something to look for or to prevent."
        return "contradicted", RAISED, why, states["hypothetical"]
    return _open("The source names this in another sense.", next(iter(states.values())))
