"""Rule `negation_flip` for whole sentences: the same words, one of them denied.

Covers findings outside the list and actions ("does not use a cane", "did not hold methotrexate"):
a sentence of the output whose words nearly all stand in one source sentence must not deny what
that affirms, nor say the contrary word (stable and unstable, start and stop). Only sentences with
a near twin are compared; others are left to the other rules.
"""

from collections.abc import Iterator
from functools import cache

from medgemma_cli.safety.grounding import context
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.facts import Fact
from medgemma_cli.safety.grounding.lexicon import regions, split, terms, toml
from medgemma_cli.safety.grounding.words import listed, stem, tokens

_RULE = "negation_flip"
_CONTAINED = 0.75
_CLOSE = 0.15

_GENERIC = listed(
    "test result study culture ct mri ray ultrasound scan screen biopsy imag xray reveal find "
    "known likely"
)
_BADLY = listed("poorly suboptimally inadequately incompletely badly insufficiently")

Said = dict[str, tuple[bool | None, int]]
"""Each word of a sentence, whether it is denied (None: once and once not), and its token."""


@cache
def _axes() -> dict[str, tuple[tuple[str, bool], ...]]:
    """A word's axes and whether it denies each: "unstable" denies "stable"."""
    data = toml("words")
    found: dict[str, dict[str, bool]] = {}
    for axis, words in data["same"].items():
        for word in split(words):
            found.setdefault(stem(word), {})[axis] = False
    for axis, words in data["contrary"].items():
        found.setdefault(stem(axis), {}).setdefault(axis, False)
        for word in split(words):
            found.setdefault(stem(word), {}).setdefault(axis, True)
    for word, base in data["without"].items():
        bases = [token.base for token in tokens(base)]
        term = next((t for t in terms().find(bases) if t.category == "finding"), None)
        found[stem(word)] = {term.id if term else stem(base): True}
    return {word: tuple(own.items()) for word, own in found.items()}


@cache
def _badly() -> frozenset[str]:
    return frozenset(map(stem, _BADLY))


def _said(text: Analysis, index: int) -> Said:
    """The words of a sentence, each with whether it is denied."""
    sentence = text.sentences[index]
    axes = _axes()
    said: Said = {}
    for at in range(sentence.first, sentence.last):
        key = text.keys[at]
        if not key or (key in _badly() and text.tokens[at].text in _BADLY):
            continue
        now = bool(text.bits[at] & context.NEGATED)
        own = axes.get(key)
        if own is None:
            said[key] = (now if said.get(key, (now, at))[0] is now else None, at)
            continue
        now ^= at > sentence.first and text.tokens[at - 1].text in _BADLY
        for axis, contrary in own:
            so = now != contrary
            said[axis] = (so if said.get(axis, (so, at))[0] is so else None, at)
    return said


def _index(text: Analysis) -> tuple[list[Said], dict[str, list[int]]]:
    known: tuple[list[Said], dict[str, list[int]]] | None = getattr(text, "_statements", None)
    if known is None:
        said = [_said(text, i) for i in range(len(text.sentences))]
        places: dict[str, list[int]] = {}
        for i, words in enumerate(said):
            for word in words:
                places.setdefault(word, []).append(i)
        known = said, places
        text._statements = known  # type: ignore[attr-defined]
    return known


def check(source: Analysis, output: Analysis) -> Iterator[Fact]:
    """A fact for each sentence that has a near twin in the source with a word denied."""
    said, places = _index(source)
    for i in range(len(output.sentences)):
        words = _said(output, i)
        if not words or output.sentences[i].asks:
            continue
        if fact := _compare(source, output, words, said, places) or _paired(source, output, i):
            yield fact


_PAIRED = listed(
    "productive stable controlled symmetric displaced benign mild regular complete "
    "reactive high low patent normal soft elevated intact"
)


def _pairs(text: Analysis, index: int) -> Iterator[tuple[tuple[str, str], bool, int]]:
    """Each word of an axis with the word that it describes: "productive cough"."""
    sentence = text.sentences[index]
    axes = _axes()
    for at in range(sentence.first, sentence.last - 1):
        noun = text.keys[at + 1]
        for axis, contrary in axes.get(text.keys[at], ()) if noun else ():
            if axis in _PAIRED:
                denied = bool(text.bits[at] & context.NEGATED)
                yield (axis, noun), denied != contrary, at


def _all_pairs(text: Analysis) -> dict[tuple[str, str], dict[bool, int]]:
    known: dict[tuple[str, str], dict[bool, int]] | None = getattr(text, "_described", None)
    if known is None:
        known = {}
        for i in range(len(text.sentences)):
            for pair, value, at in _pairs(text, i):
                known.setdefault(pair, {}).setdefault(value, at)
        text._described = known  # type: ignore[attr-defined]
    return known


def _paired(source: Analysis, output: Analysis, index: int) -> Fact | None:
    """A word described by the contrary of what the source, wherever it is, describes it by."""
    own = list(_pairs(output, index))
    if not own:
        return None
    there = _all_pairs(source)
    for pair, value, at in own:
        found = there.get(pair, {})
        if set(found) == {not value}:
            return _made(source, output, at, found[not value])
    return None


def _made(source: Analysis, output: Analysis, at: int, place: int) -> Fact:
    why = "A sentence of the source says the same with the opposite sense."
    where, value = source.span(place, place + 1), output.value(at, at + 1)
    span = output.span(at, at + 1)
    return Fact("statement", "contradicted", span, value, where, why, _RULE)


def _flips(one: tuple[bool | None, int], other: tuple[bool | None, int]) -> bool:
    """Whether one is denied and the other is not; never where either is both."""
    return None not in (one[0], other[0]) and one[0] != other[0]


def _size(words: Said) -> int:
    """How many words there are; one may stand on several axes."""
    return len({at for _, at in words.values()})


def _compare(
    source: Analysis, output: Analysis, words: Said, said: list[Said], places: dict[str, list[int]]
) -> Fact | None:
    shared: dict[int, set[int]] = {}
    for word, (_, at) in words.items():
        for i in places.get(word, ()):
            shared.setdefault(i, set()).add(at)
    size = _size(words)
    scored = [
        (len(found) / size, len(found) / _size(said[i]), i)
        for i, found in shared.items()
        if len(found) / size >= _CONTAINED
        and (size > 1 or _size(said[i]) == 1)
        and not source.sentences[i].asks
    ]
    if not scored:
        return None
    best = max(contained for contained, _, _ in scored)
    twins = [i for contained, share, i in scored if contained >= best - _CLOSE and share >= 0.3]
    flips: set[str] | None = None
    for i in twins:
        flipped = {word for word in words if word in said[i] and _flips(words[word], said[i][word])}
        flipped -= regions().keys() | _GENERIC
        flips = flipped if flips is None else flips & flipped
    if not flips:
        return None
    word = min(flips, key=lambda w: words[w][1])
    return _made(source, output, words[word][1], said[twins[0]][word][1])
