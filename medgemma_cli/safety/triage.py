"""What in a text needs a person first: an emergency, a wish for advice, words for the model.

On a document these are flags. Of a typed question (`ask`), an emergency or a wish for advice is
answered with fixed words and no model. By rules that are data (`data/triage.toml`), in English
only: a document or a question in another language is not triaged, and nothing is said of it.
What each part covers and does not stands in `emergency`, `advice` and `injection`.
"""

import unicodedata
from collections.abc import Container, Iterator
from typing import Any

from medgemma_cli.records import Flag, Severity
from medgemma_cli.safety.advice import find_instruction, find_request
from medgemma_cli.safety.emergency import find_emergency
from medgemma_cli.safety.injection import find_injection

_INJECTED = "The document has text that looks like an instruction to the model; read it."
_URGENT = "The document tells of what may be an emergency; it is not known whether it still is one."
_WANTED = "Somebody asks for advice in the document; a summary does not give it."
_URGENT_QUESTION = "The question tells of what may be an emergency; no model was asked."
_WANTED_QUESTION = "The question asks for personal medical advice; no model was asked."
_INSTRUCTS = "The output tells its reader what to do; it should report what is documented."


def triage(text: str) -> list[Flag]:
    """Flags about a source text. At most one of each rule; `span` is in code points of `text`.

    The span of an instruction is given only where the plain text itself matches; a hidden one is
    flagged without.
    """
    flags = []
    injected, span = find_injection(text)
    if injected:
        flags.append(_flag("prompt_injection", "review", _INJECTED, span))
    if urgent := find_emergency(text):
        flags.append(_flag("emergency", "note", _URGENT, urgent[1]))
    if wanted := find_request(text):
        flags.append(_flag("personal_advice", "note", _WANTED, wanted[1]))
    return flags


def triage_question(question: str) -> Flag | None:
    """Why a typed question must not go to a model; an emergency comes before advice.

    Documents that come with it are not looked at. An instruction to the model is no reason: the
    person who types it is the user.
    """
    typed = unicodedata.normalize("NFKC", question)
    if find_emergency(typed):
        return Flag(rule="emergency", severity="stop", where="question", why=_URGENT_QUESTION)
    if find_request(typed):
        return Flag(rule="personal_advice", severity="stop", where="question", why=_WANTED_QUESTION)
    return None


def triage_output(fields: dict[str, Any], quoted: Container[str] = ()) -> list[Flag]:
    """Flags about what an output tells its reader to do, one for each field that does.

    What it quotes of the document is not its own word.
    """
    return [
        Flag(rule="personal_advice", severity="review", where=where, why=_INSTRUCTS)
        for where, text in _texts(fields)
        if text not in quoted and find_instruction(text)
    ]


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text of an output, with its path, such as ``recommendations[0]``."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, f"{where}[{i}]")
    elif isinstance(value, str):
        yield where, value


def _flag(rule: str, severity: Severity, why: str, span: tuple[int, int] | None) -> Flag:
    return Flag(rule=rule, severity=severity, where="source", why=why, span=span)
