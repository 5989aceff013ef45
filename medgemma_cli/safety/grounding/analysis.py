"""One text, read once: tokens, sentences, terms, assertions, quantities, sides, and their keys."""

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property, lru_cache

from medgemma_cli.safety.grounding import context, lexicon, quantities, words
from medgemma_cli.safety.grounding.lexicon import Term
from medgemma_cli.safety.grounding.lines import Lines
from medgemma_cli.safety.grounding.readings import Quantity
from medgemma_cli.safety.grounding.words import Sentence, Token

_REACH = 14
_PARTS = words.listed(", ; and but while whereas with (")


class Analysis:
    """What the rules know of a text. Built once for a text and cached."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = words.tokens(words.fold(text))
        self.bases = lexicon.bases(self.tokens)
        self.sentences: list[Sentence] = words.sentences(text, self.tokens)
        self.sentence_of = [0] * len(self.tokens)
        for i, sentence in enumerate(self.sentences):
            for at in range(sentence.first, sentence.last):
                self.sentence_of[at] = i
        self.readable: bool | None = None
        self._around: dict[tuple[int, int], dict[str, float]] = {}
        self.terms: list[Term] = list(lexicon.terms().find(self.bases))

    @cached_property
    def bits(self) -> list[int]:
        """The cues that govern each token."""
        return context.assertions(self.tokens, self.sentences)

    @cached_property
    def lines(self) -> Lines:
        """Where its lines are."""
        return Lines(self.text)

    def terms_of(self, category: str) -> list[Term]:
        """The terms of one category, in order."""
        return [term for term in self.terms if term.category == category]

    @cached_property
    def quantities(self) -> list[list[Quantity]]:
        """The quantities of each sentence."""
        taken = frozenset(
            at
            for term in self.terms
            if term.category in ("analyte", "drug")
            for at in range(term.first, term.last)
            if term.last - term.first > 1 or not self.tokens[at].text[0].isdecimal()
        )
        return [list(quantities.read(self.tokens, s, taken)) for s in self.sentences]

    @cached_property
    def keys(self) -> list[str]:
        """What each token is about: a concept's name, a stem, or nothing for a stop word."""
        keys = [_key(token.text) for token in self.tokens]
        for term in sorted(self.terms, key=lambda term: term.last - term.first):
            if term.category == "class":
                continue
            ids = (
                lexicon.placed().get(term.id, (term.id,))
                if term.last - term.first > 1
                else (term.id,)
            )
            for at in range(term.first, term.last):
                keys[at] = ids[at - term.first] if at - term.first < len(ids) else ""
        return keys

    def sentence_at(self, at: int) -> int:
        """The sentence in which a code point lies."""
        return bisect_right(self._starts, at) - 1

    @cached_property
    def _starts(self) -> list[int]:
        return [sentence.start for sentence in self.sentences]

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The code points of tokens `first` up to `last`."""
        return self.tokens[first].start, self.tokens[last - 1].end

    def value(self, first: int, last: int) -> str:
        """The text of tokens `first` up to `last`, as it stands."""
        start, end = self.span(first, last)
        return re.sub(r"\s+", " ", self.text[start:end])

    def around(self, first: int, last: int) -> dict[str, float]:
        """The keys near tokens `first` up to `last`, in their sentence; nearer ones weigh more."""
        known = self._around.get((first, last))
        if known is not None:
            return known
        sentence = self.sentences[self.sentence_of[first]]
        found: dict[str, float] = {}
        self._weigh(found, range(first - 1, max(sentence.first, first - _REACH) - 1, -1))
        self._weigh(found, range(last, min(sentence.last, last + _REACH)))
        self._around[first, last] = found
        return found

    def _weigh(self, found: dict[str, float], places: range) -> None:
        """Add the keys of places, going away from a word; what is past a comma counts less."""
        keys, share = self.keys, 1.0
        for distance, at in enumerate(places, 1):
            if self.tokens[at].text in _PARTS:
                share *= 0.5
            weight = share / (2.0 + distance)
            if keys[at] and weight > found.get(keys[at], 0.0):
                found[keys[at]] = weight


@lru_cache(maxsize=50_000)
def _key(word: str) -> str:
    """A word's stem, or nothing for a stop word, a number or a sign."""
    if word in lexicon.words("stop") or not word[0].isalpha():
        return ""
    return words.stem(word)


def likeness(one: dict[str, float], other: dict[str, float]) -> float:
    """How much of one context the other has, from 0 to 1."""
    if not one:
        return 0.0
    shared = sum(min(weight, other[key]) for key, weight in one.items() if key in other)
    return shared / sum(one.values())


def of_category(found: Iterable[Term], category: str) -> list[Term]:
    """The terms of a category."""
    return [term for term in found if term.category == category]


@lru_cache(maxsize=16)
def analyse(text: str) -> Analysis:
    """The analysis of a text; the last few are kept."""
    return Analysis(text)
