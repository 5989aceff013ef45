"""What in a source a reader must know before trusting a summary of it.

Covers text that looks like an instruction to the model (`prompt_injection`), also when spaced
out, written in look-alike forms that NFKC folds, in invisible tag characters, or broken up by
invisible ones. It does not cover instructions in other languages than English, encodings such as
base64, or text inside images.
"""

import re
import unicodedata
from functools import cache

from medgemma_cli.records import Flag

_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef]"
)
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
# Letters with one space between each, as in "i g n o r e".
_SPACED = re.compile(r"\b(?:[A-Za-z] ){2,}[A-Za-z]\b")
_SPACES = re.compile(r"\s+")

_VERB = r"\b(?:ignore|disregard|forget|override|bypass) "
_ALL = r"(?:(?:all|any|everything|every|each|the|your|of|these|those|my|and) )*"
_BEFORE = r"(?:previous|prior|above|preceding|earlier|foregoing|system|original|initial)"
_KIND = r"(?:(?:system|safety|user|developer|own) )?"
_WHAT = r"(?:instructions?|prompts?|rules?|directions|guidelines|messages?|commands?)\b"
_DO = r"(?:write|say|output|respond|reply|print|answer|instead)\b"
_MODEL = (
    r"(?:ai(?: assistant| model)?|(?:large )?language model|chatbot|(?:helpful|virtual) assistant)"
)


# For text in which every run of white space is one space.
@cache
def _injection() -> re.Pattern[str]:
    # Compiled at the first use: a run with nothing to do reads no text.
    return re.compile(
        "|".join(
            [
                r"<(?:start|end)_of_turn>|<start_of_image>|<unused9[45]>|<\|im_(?:start|end)\|>",
                r"\[/?INST\]",
                rf"{_VERB}{_ALL}{_BEFORE} {_KIND}{_WHAT}",
                rf"{_VERB}{_ALL}{_KIND}{_WHAT} (?:above|before|so far)\b",
                rf"{_VERB}{_ALL}(?:text |content )?above and {_DO}",
                rf"{_VERB}(?:all )?(?:of )?(?:your|the system) {_KIND}{_WHAT}",
                rf"\byou are (?:now )?(?:an? )?(?:{_MODEL}|dan)\b",
                rf"\b(?:as an? )?{_MODEL} ?[,:] ?(?:please|you (?:must|should|will)|{_DO}|ignore)",
                r"\b(?:as an |ai )(?:ai|assistant|model) ?[,:] ?(?:always|never)\b",
                r"\blanguage model ?[,:] ?(?:always|never)\b",
                r"\b(?:reveal|print|repeat|show) (?:your (?:system )?|the system )prompt\b",
                r"\bnew system instructions? ?:",
                r"\bnew instructions? for the (?:ai|model|assistant)\b",
            ]
        ),
        re.IGNORECASE,
    )


# A match holds one of these; most notes hold few, so most notes cost a few substring searches.
_WORDS = (
    "<start_of_", "<end_of_", "<unused9", "<|im_", "[inst]", "[/inst]", "you are", " ai",
    "ignore", "disregard", "forget", "override", "bypass", "assistant", "language model", "chatbot",
    "prompt", "instruction",
)  # fmt: skip


def triage(text: str) -> list[Flag]:
    """Flags about a source text. At most one of each rule; `span` is in code points of `text`.

    The span is given only where the plain text itself matches; a hidden instruction is flagged
    without one.
    """
    span = _search(text)
    if span is None and not any(_search(form) for form in _unmasked(text)):
        return []
    return [
        Flag(
            rule="prompt_injection",
            severity="review",
            where="source",
            why="The document has text that looks like an instruction to the model; read it.",
            span=span,
        )
    ]


def _search(text: str) -> tuple[int, int] | None:
    """Where an instruction stands in the text, whatever white space it is spread over."""
    flat = " ".join(text.split())
    low = f" {flat.lower()}"
    if not any(word in low for word in _WORDS):
        return None
    match = _injection().search(flat)
    if match is None:
        return None
    return _original(text, match.start()), _original(text, match.end() - 1) + 1


def _original(text: str, at: int) -> int:
    """The index in a text of the character at `at` once white space is folded and stripped."""
    removed = 0
    for run in _SPACES.finditer(text):
        if run.start() - removed >= at:
            break
        removed += len(run.group()) - (run.start() > 0)
    return at + removed


def _unmasked(text: str) -> list[str]:
    """What a text may say to a model that a reader does not see; empty when nothing is hidden."""
    if text.isascii():
        joined = _SPACED.sub(lambda match: match.group().replace(" ", ""), text)
        return [joined] if joined != text else []
    shown = text.translate(_TAGS)
    forms = [_INVISIBLE.sub("", shown), _INVISIBLE.sub(" ", shown), _INVISIBLE.sub("", text)]
    folded = {unicodedata.normalize("NFKC", form) for form in forms}
    folded |= {_SPACED.sub(lambda match: match.group().replace(" ", ""), f) for f in folded}
    return [form for form in folded if form != text]
