"""Does somebody ask for advice of their own, or does an output give it? By rule.

Covers questions in the first person, or for a relative, about treatment, safety, diagnosis and
prognosis; and outputs that instruct their reader ("You should take …"). Asking what a document
says, asking about a patient, and letters between clinicians are none of it. Does not cover other
languages, or a patient who writes of themselves in the third person.
"""

import re
from collections.abc import Iterator

from medgemma_cli.safety.emergency import plain
from medgemma_cli.safety.triage_rules import Rule, cue, rules_of

_ASKING = ("advice.first_person", "advice.safety", "advice.diagnosis")
_QUESTION = 1000
_FIRST = re.compile(r"\b(?:i|i'm|i've|my|me|we|our|us)\b", re.IGNORECASE)


def find_request(text: str) -> tuple[Rule, tuple[int, int]] | None:
    """Where somebody asks for advice of their own."""
    shown = plain(text)
    for start, end in _pieces(shown):
        piece = shown[start:end]
        if _FIRST.search(piece) and (found := _request(piece)):
            rule, (begin, stop) = found
            return rule, (start + begin, start + stop)
    return None


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """A question as a whole, a document by its lines and questions: what is asked is near."""
    if len(text) <= _QUESTION:
        yield 0, len(text)
        return
    at = 0
    for match in re.finditer(r"[?!]\s|\n", text):
        yield at, match.end()
        at = match.end()
    yield at, len(text)


def _request(text: str) -> tuple[Rule, tuple[int, int]] | None:
    low = text.lower()
    # Most of a document asks for nothing: the long expressions see what is left.
    if not any(_found(rule, text, low) for rule in _asking()):
        return None
    text = cue("asks_of_document").sub(_blank, text)
    if cue("clinician").search(text) and not cue("own").search(text):
        return None
    return next(filter(None, (_found(rule, text, low) for rule in _asking())), None)


def find_instruction(text: str) -> tuple[Rule, tuple[int, int]] | None:
    """Where an output tells its reader what to do; not in a letter between clinicians."""
    shown = plain(text)
    (rule,) = rules_of("advice.instructs")
    if not rule.among(shown.lower()) or cue("letter").search(shown):
        return None
    shown = rule.without_look_alikes(shown)
    for match in rule.trigger.finditer(shown):
        if not cue("third_person").search(_sentence(shown, match)):
            return rule, match.span()
    return None


def _asking() -> tuple[Rule, ...]:
    return tuple(rule for rule in rules_of("advice.") if rule.id in _ASKING)


def _found(rule: Rule, text: str, low: str) -> tuple[Rule, tuple[int, int]] | None:
    if not rule.among(low):
        return None
    match = rule.trigger.search(rule.without_look_alikes(text))
    return (rule, match.span()) if match else None


def _sentence(text: str, match: re.Match[str]) -> str:
    start = max(text.rfind(mark, 0, match.start() + 1) for mark in (". ", "\n", "? ", "! "))
    ends = [at for mark in (". ", "\n", "? ", "! ") if (at := text.find(mark, match.end())) >= 0]
    return text[start + 1 : min(ends, default=len(text))]


def _blank(match: re.Match[str]) -> str:
    return "\x00" * len(match.group())
