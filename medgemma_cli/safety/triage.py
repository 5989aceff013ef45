"""What in a source a reader must know before trusting a summary of it.

Covers text that looks like an instruction to the model (`prompt_injection`), also when spaced
out, written in look-alike forms that NFKC folds, or broken up by invisible characters. It does
not cover instructions in other languages than English, encodings, or text inside images.
"""

import re
import unicodedata

from medgemma_cli.records import Flag

_INVISIBLE = re.compile("[\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
# Letters with one space between each, as in "i g n o r e": at least five.
_SPACED = re.compile(r"\b(?:[A-Za-z] ){4,}[A-Za-z]\b")
_WHAT = r"(?:instructions?|prompts?|rules|directions|guidelines|system messages?)"
_WORDS = (
    "<",
    "[",
    "ignore",
    "disregard",
    "forget",
    "override",
    "bypass",
    "you are",
    "you\tare",
    "assistant",
    "model",
    "prompt",
    "instruction",
)
_INJECTION = re.compile(
    rf"""
    <(?:start|end)_of_turn> | <start_of_image> | <unused9[45]> | <\|im_(?:start|end)\|> | \[/?INST\]
    | \b(?:ignore|disregard|forget|override|bypass)\s+
        (?:(?:all|any|everything|every|the|your|of|these|those|my|and)\s+)*
        (?:previous|prior|above|preceding|earlier|foregoing|system|original)\s+(?:\w+\s+){{0,2}}{_WHAT}
    | \b(?:ignore|disregard|forget)\s+(?:all|everything|the)?\s*(?:of\s+the\s+)?(?:text\s+)?above
        \s+and\s+(?:write|say|output|respond|reply|print|instead)
    | \b(?:ignore|disregard|forget|override)\s+(?:all\s+)?(?:your|the\s+system)\s+(?:\w+\s+)?{_WHAT}
    | \byou\s+are\s+(?:now\s+)?(?:an?\s+)?(?:ai|language\s+model|assistant|chatbot|dan)\b
    | \b(?:as\s+an?\s+)?(?:ai|language)\s+(?:language\s+)?(?:model|assistant)\s*[,:]\s*
        (?:you\s+(?:must|should|will)|please|write|ignore|always|never)
    | \b(?:reveal|print|repeat|show)\s+(?:your|the)\s+(?:system\s+)?prompt\b
    | \bnew\s+(?:system\s+)?instructions?\s*(?:for\s+the\s+(?:ai|model|assistant))?\s*:
    """,
    re.IGNORECASE | re.VERBOSE,
)


def triage(text: str) -> list[Flag]:
    """Flags about a source text. At most one of each rule; `span` is in code points of `text`.

    The span is given only where the plain text itself matches; a hidden instruction is flagged
    without one.
    """
    plain = _search(text)
    if plain is None:
        unmasked = _unmask(text)
        if unmasked == text or not _search(unmasked):
            return []
    return [
        Flag(
            rule="prompt_injection",
            severity="review",
            where="source",
            why="The document has text that looks like an instruction to the model; read it.",
            span=plain.span() if plain else None,
        )
    ]


def _search(text: str) -> re.Match[str] | None:
    """The pattern, where a word that every match has is there at all: most notes have none."""
    low = text.lower()
    return _INJECTION.search(text) if any(word in low for word in _WORDS) else None


def _unmask(text: str) -> str:
    folded = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return _SPACED.sub(lambda match: match.group().replace(" ", ""), folded)
