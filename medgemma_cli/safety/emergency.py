"""Does a text tell of an emergency that is happening now? By rule; see `data/triage.toml`.

Covers, in British and American English: chest pain, stroke signs, anaphylaxis, breathing,
overdose and poisoning, suicidal intent, bleeding, unconsciousness, seizures, meningitis, obstetric
emergencies, sepsis and a few more. Not another's history, not denials, not advice for later. Does
not cover other languages, spelling errors beyond a missing apostrophe, numbers that are an
emergency in themselves (a potassium of 7), what needs two sentences to be understood, or what
stands behind the first 1,000 mentions of its kind, which no clinical document has.
"""

from collections.abc import Iterator
from itertools import islice

from medgemma_cli.safety.mentions import is_happening
from medgemma_cli.safety.triage_rules import Rule, rules_of

_NEAR = 200
_MOST = 1000
_WINDOW = 160
# İ would be two letters in lower case.
_SAME = str.maketrans("İ’‘ʼ´`“”„–—−\u00a0\u2009\u202f\t", "I'''''\"\"\"---    ")


def plain(text: str) -> str:
    """Apostrophes, quotes, dashes and spaces in their simple forms; the length stays."""
    return text.replace("\t", " ") if text.isascii() else text.translate(_SAME)


def find_emergency(text: str) -> tuple[Rule, tuple[int, int]] | None:
    """The first rule that finds one, and where in the text it stands."""
    shown = plain(text)
    low = shown.lower()
    for rule in rules_of("emergency."):
        spans = islice(_spans(rule, shown, low), _MOST)
        for span, weak in spans:
            if is_happening(shown, span, weak, rule.keeps) and _has_company(rule, shown, span):
                return rule, span
    return None


def _windows(text: str, words: tuple[str, ...]) -> list[tuple[int, int]]:
    """The surroundings of the words, at white space, joined where they meet."""
    places = sorted(at for word in words for at in _places(text, word))
    windows: list[tuple[int, int]] = []
    for at in places:
        if windows and at + _WINDOW <= windows[-1][1]:
            continue
        start = max(0, text.rfind(" ", 0, max(0, at - _WINDOW)))
        end = text.find(" ", at + _WINDOW)
        end = len(text) if end < 0 else end
        if windows and start <= windows[-1][1]:
            start = windows.pop()[0]
        windows.append((start, end))
    return windows


def _places(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


def _spans(rule: Rule, text: str, low: str) -> Iterator[tuple[tuple[int, int], bool]]:
    """Where the rule's patterns stand, and whether that is weak by itself."""
    for start, end in _windows(low, rule.words):
        for match in rule.trigger.finditer(rule.without_look_alikes(text[start:end])):
            yield (start + match.start(), start + match.end()), match.group("weak") is not None


def _has_company(rule: Rule, text: str, span: tuple[int, int]) -> bool:
    """Whether what the rule wants near is near, and stated too."""
    if rule.nearby is None:
        return True
    found = rule.nearby.finditer(text, max(0, span[0] - _NEAR), span[1] + _NEAR)
    return any(is_happening(text, match.span(), keeps=rule.keeps) for match in found)
