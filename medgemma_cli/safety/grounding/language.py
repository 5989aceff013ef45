"""Is a sentence in a language that the rules know? They know English.

Covers other scripts, and by their small words the Latin-script languages of `words.toml`. A short
sentence without any small word is taken for English.
"""

from functools import cache

from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.lexicon import toml, words
from medgemma_cli.safety.grounding.words import Sentence, listed

_OTHERS = ("french", "spanish", "german", "italian", "portuguese", "dutch", "polish", "turkish")
_ENGLISH = listed(
    "the of and with for has have had is was were are no not he she his her to from "
    "on at by been will year"
)

# Words of other languages that are English words or abbreviations of English notes, too.
_SHARED = listed("am pm od ha con pas met ma hat die da des te te an al del les par vor")


@cache
def _lists() -> dict[str, frozenset[str]]:
    shared = words("stop") | _SHARED
    lists = {name: words(name) - shared for name in _OTHERS if name in toml("words")}
    return {name: frozenset(w for w in own if len(w) > 1) for name, own in lists.items()}


@cache
def _foreign() -> frozenset[str]:
    return frozenset().union(*_lists().values())


def is_known(text: Analysis, sentence: Sentence) -> bool:
    """Whether the rules can be applied to a sentence."""
    found = [text.tokens[at].text for at in range(sentence.first, sentence.last)]
    raw = text.text[sentence.start : sentence.end]
    if not raw.isascii():
        letters = [c for c in raw if c.isalpha()]
        strange = sum(1 for c in letters if c > "\u024f" and not "\u0370" <= c <= "\u03ff")
        if strange * 3 > len(letters):
            return False
    said = set(found)
    if len(said & _foreign()) < 2:
        return True
    english = len(said & _ENGLISH)
    foreign = max(len(said & own) for own in _lists().values())
    return foreign < 2 or foreign <= english + (english > 0)


def mostly_known(text: Analysis) -> bool:
    """Whether most of a text's sentences are in a language that the rules know."""
    if text.readable is None and text.text.isascii():
        said = {token.text for token in text.tokens}
        text.readable = True if len(said & _foreign()) < 2 else None
    if text.readable is None:
        sentences = [s for s in text.sentences if s.last - s.first > 2]
        unknown = sum(1 for s in sentences if not is_known(text, s))
        text.readable = unknown * 2 <= len(sentences)
    return text.readable
