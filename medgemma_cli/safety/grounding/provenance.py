"""Rule `unsupported`: for each sentence of the output the source window most like it.

The score is the share of the sentence's words, by concept or stem, that two neighbouring source
sentences have, rarer words weighing more. Below the threshold the sentence is "not addressed" by
the source; above it is only similar, never verified: words in common are no entailment.
"""

import math
from collections.abc import Iterator

from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.facts import Provenance

THRESHOLD = 0.3
_TRIED = 6


def _index(text: Analysis) -> tuple[list[set[str]], dict[str, set[int]]]:
    known: tuple[list[set[str]], dict[str, set[int]]] | None = getattr(text, "_windows", None)
    if known is None:
        keys = [
            {text.keys[at] for at in range(s.first, s.last) if text.keys[at]}
            for s in text.sentences
        ]
        places: dict[str, set[int]] = {}
        for i, found in enumerate(keys):
            for key in found:
                places.setdefault(key, set()).add(i)
        known = keys, places
        text._windows = known  # type: ignore[attr-defined]
    return known


def check(source: Analysis, output: Analysis) -> Iterator[Provenance]:
    """Where each sentence of the output comes from, as far as words tell."""
    keys, places = _index(source)
    size = len(keys) + 1
    for sentence in output.sentences:
        wanted = {output.keys[at] for at in range(sentence.first, sentence.last) if output.keys[at]}
        if len(wanted) < 2:
            continue
        weights = {key: math.log(size / (1 + len(places.get(key, ())))) + 0.2 for key in wanted}
        at, score = _best(keys, places, weights)
        window = None
        if at is not None:
            last = min(at + 1, len(source.sentences) - 1)
            window = (source.sentences[at].start, source.sentences[last].end)
        span = (sentence.start, sentence.end)
        yield Provenance("output", span, window, round(score, 3), score >= THRESHOLD)


def _best(
    keys: list[set[str]], places: dict[str, set[int]], weights: dict[str, float]
) -> tuple[int | None, float]:
    scores: dict[int, float] = {}
    for key, weight in weights.items():
        for i in places.get(key, ()):
            scores[i] = scores.get(i, 0.0) + weight
    total = sum(weights.values())
    best: tuple[int | None, float] = (None, 0.0)
    for i in sorted(scores, key=lambda i: -scores[i])[:_TRIED]:
        for first in (i - 1, i):
            if first < 0:
                continue
            window = keys[first] | (keys[first + 1] if first + 1 < len(keys) else set())
            score = sum(weight for key, weight in weights.items() if key in window) / total
            if score > best[1]:
                best = first, score
    return best
