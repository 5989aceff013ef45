"""Is what a text mentions happening now, to somebody at hand? After ConText, with its own lists.

Covers negation before and after, history, relatives, conditions and advice, section headings of
notes, and questions for knowledge. Works within one sentence and the heading above it; an answer
in a word ("Any chest pain?" "Yes.") and languages other than English are not covered.
"""

import re
from functools import cache, lru_cache
from typing import NamedTuple

from medgemma_cli.safety.triage_rules import cue

_AUXILIARY = re.compile(r"\W*(?:is|are|was|were|has|had|does|did|can|could)\b", re.IGNORECASE)
_BEFORE, _AFTER, _SECTION = 400, 240, 3000


class Mention(NamedTuple):
    """What was found, with the rest of its sentence."""

    before: str
    found: str
    after: str
    weak: bool = False
    keeps: tuple[str, ...] = ()


@cache
def _ends() -> re.Pattern[str]:
    # A line that goes on in small letters goes on; so does what follows "e.g." and "Dr.".
    return re.compile(
        r"(?<!\be\.g)(?<!\bi\.e)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bvs)[.!?][\"')\]]*(?=\s)"
        r"|\n\s*\n|\n(?=[ \t]*[A-Z#*\-•\d(>])"
    )


@cache
def _headings() -> re.Pattern[str]:
    return re.compile(
        r"^[ \t]*(?:#+[ \t]*|\*\*)?(?:([A-Z][A-Za-z /&()'-]{1,48}?)(?:\*\*)?[ \t]*:"
        r"|([A-Z][A-Z /&()'-]{2,48})[ \t]*$|(?<=#)[ \t]*(\S.{0,60})$"
        r"|((?i:(?:past|family|previous)[ \t](?:medical |surgical )?history|allergies))[ \t]*$)",
        re.MULTILINE,
    )


def is_happening(
    text: str, span: tuple[int, int], weak: bool = False, keeps: tuple[str, ...] = ()
) -> bool:
    """Whether the text states what stands there as happening now.

    `weak` asks for a sign of that; `keeps` names contexts that do not take it back: ``kin``, a
    relative; ``condition``, an if or a question about one's own intent.
    """
    it = Mention(*_sentence(text, *span), weak=weak, keeps=keeps)
    return is_asserted(it) and _suits_section(it, _heading(text, span[0]))


def _sentence(text: str, start: int, end: int) -> tuple[str, str, str]:
    """Before, found and after, within bounds: the cost does not grow with the text."""
    before = text[max(0, start - _BEFORE) : start]
    before = before[max((m.end() for m in _ends().finditer(before)), default=0) :]
    after = text[end : end + _AFTER]
    stop = _ends().search(after)
    # An end mark stays: a question mark says something, and so may the word behind it.
    after = after[: stop.start() + 1] + _answer(after[stop.end() :]) if stop else after
    return before, text[start:end], after


def _answer(rest: str) -> str:
    """A no that answers a question mark."""
    match = re.match(r"\s*(?:no|nil|none|denies|denied)\b[.,;]?", rest, re.IGNORECASE)
    return match.group() if match else ""


def _heading(text: str, at: int) -> str:
    found = ""
    for match in _headings().finditer(text, max(0, at - _SECTION), at):
        found = next(group for group in match.groups() if group)
    return found.strip(" *#")


def _suits_section(it: Mention, heading: str) -> bool:
    """Whether the heading above leaves it a statement about the patient and now."""
    if not heading:
        return True
    clause = it.before[_last(it.before, "break") :]
    scope = f"{clause}{it.found}{it.after}"
    if _has("heading_kin", heading) or _has("heading_not_now", heading):
        return _has("urgent", scope)
    return not _has("heading_history", heading) or _has("urgent", scope) or _has("acute", scope)


@lru_cache(maxsize=4096)
def is_asserted(it: Mention) -> bool:
    """Whether it is stated as happening now. Cached: long lists repeat their lines."""
    whole = cue("not_negation").sub(_blank, f"{it.before}{it.found}{it.after}")
    before = whole[: len(it.before)]
    clause = before[_last(before, "break") :]
    after = it.after[: _first(it.after, "break")]
    scope = f"{clause} {it.found} {after}"
    if _negated(it, before, clause):
        return False
    urgent = _has("urgent", scope)
    acute = urgent or _has("acute", scope)
    dated = not acute and cue("past").match(before.lstrip()) is not None
    if dated or _is_past(it, clause, after, urgent, acute) or _is_kin(it, clause, after, urgent):
        return False
    if _is_hypothetical(it, before) or _is_question(it):
        return False
    return acute or not it.weak


def _negated(it: Mention, before: str, clause: str) -> bool:
    if _has("negated", clause) or _has("negated_after", it.after):
        return True
    # "Denies: a; b; c" denies all of them.
    return bool(re.search(r"\b(?:denies|negatives?(?: for)?|absent|no)\s*:", before, re.IGNORECASE))


def _is_past(it: Mention, clause: str, after: str, urgent: bool, acute: bool) -> bool:
    if urgent:
        return False
    if _has("past", clause) or _has("past", f"{it.found[-1:]}{after}"):
        return True
    if acute and not it.weak:
        return False
    return _has("history", clause)


def _is_kin(it: Mention, clause: str, after: str, urgent: bool) -> bool:
    if urgent or ("kin" in it.keeps and not it.weak):
        return bool(re.search(r"\bfamily h", clause, re.IGNORECASE))
    who = list(cue("kin").finditer(clause))
    if who:
        return not _has("kin_present", f"{clause[who[-1].end() :]} {it.found}")
    return bool(re.match(rf"\W+(?:in |by )?(?:\w+ ){{0,2}}{cue('kin').pattern}", after, re.I))


def _is_hypothetical(it: Mention, before: str) -> bool:
    if _has("advice_after", it.after):
        return True
    if "condition" in it.keeps and _has("intent", f"{before[-60:]}{it.found}"):
        return _has("document", before)
    before = cue("not_hypothetical").sub(_blank, before)
    # What is said to be happening behind a condition is no part of it: "what if …, he is …".
    before = before[_last(before, "subject") :]
    return _has("hypothetical", before)


def _is_question(it: Mention) -> bool:
    """Whether it is asked about and not told, for knowledge or of a document."""
    before = it.before
    if re.fullmatch(r"\W*", before) and re.match(r"\s*\?", it.after):
        return True
    about = _has("document", f"{before} {it.after}")
    if not about:
        if "condition" in it.keeps and _has("own_end", it.found):
            return False
        before = before[_last(before, "subject") :].lstrip(" ,;:-")
    asks = cue("asks").match(before)
    if asks is None:
        return "?" in it.after and bool(_AUXILIARY.match(before)) and not _has("self", before)
    told = f"{before[asks.end() :]}{it.found}"
    if asks.group().lower().endswith((" do", "why", "how", "what", "is", "are")):
        told = f"{asks.group()}{told}"
    return about or not _has("self", told)


def _last(text: str, name: str) -> int:
    """Where the last match of a cue begins; what it says of the new subject counts."""
    at = 0
    for match in cue(name).finditer(text):
        at = match.start()
    return at


def _first(text: str, name: str) -> int:
    match = cue(name).search(text)
    return match.start() if match else len(text)


def _has(name: str, text: str) -> bool:
    return cue(name).search(text) is not None


def _blank(match: re.Match[str]) -> str:
    return "_" * len(match.group())
