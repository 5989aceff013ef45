"""How far a figure could be off because of which documents happened to be there.

The percentile bootstrap (Efron 1979): documents are drawn again with replacement, as many as
there are, and the middle 95 % of the figures that come of it are the interval. It knows nothing
of what all documents share, such as a hospital's way of writing.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from medgemma_cli.evaluating.measures import Measure

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

RESAMPLES = 1000
_TAILS = (2.5, 97.5)  # percentiles
_CELLS = 2_000_000  # resamples times documents that are held at once


class Figure(NamedTuple):
    """A measure's value and its interval; `n` counts what it is taken over.

    `value` is None where nothing defines it (no findings, no positives); the bounds also where
    fewer than two documents, or fewer than half of the resamples, do.
    """

    name: str
    label: str
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None


def counts(size: int, seed: int, resamples: int = RESAMPLES) -> Iterator["NDArray[float64]"]:
    """How often each document stands in each resample, in blocks of shape (resamples, size)."""
    import numpy as np

    random = np.random.default_rng(seed)
    rows = max(1, _CELLS // size)
    for start in range(0, resamples, rows):
        block = (min(rows, resamples - start), size)
        drawn = random.integers(size, size=block) + np.arange(block[0])[:, None] * size
        flat = np.bincount(drawn.ravel(), minlength=block[0] * size)
        yield flat.reshape(block).astype(float)


def values(measures: Sequence[Measure], size: int) -> list[float | None]:
    """Each measure's value over `size` documents, without an interval."""
    return [figure.value for figure in figures(measures, size, 0, 0)]


def figures(
    measures: Sequence[Measure], size: int, seed: int, resamples: int = RESAMPLES
) -> list[Figure]:
    """Value and interval of each measure over the same `size` documents and the same resamples."""
    import numpy as np

    if size == 0:
        return [Figure(m.name, m.label, 0, None) for m in measures]
    points = [float(measure.of(np.ones((1, size)))[0]) for measure in measures]
    drawn: list[list[NDArray[float64]]] = [[] for _ in measures]
    for block in counts(size, seed, resamples) if size > 1 else ():
        for draws, measure in zip(drawn, measures, strict=True):
            draws.append(measure.of(block))
    return [
        _figure(measure, value, np.concatenate(draws) if draws else np.empty(0))
        for measure, value, draws in zip(measures, points, drawn, strict=True)
    ]


def _figure(measure: Measure, value: float, draws: "NDArray[float64]") -> Figure:
    import numpy as np

    if np.isnan(value):
        return Figure(measure.name, measure.label, measure.n, None)
    known = draws[~np.isnan(draws)]
    # A resample without a positive, say, has no such figure; a few of these do no harm.
    if 2 * known.size < draws.size or not known.size:
        return Figure(measure.name, measure.label, measure.n, _plain(value))
    low, high = np.percentile(known, _TAILS)
    return Figure(measure.name, measure.label, measure.n, _plain(value), _plain(low), _plain(high))


def _plain(value: float) -> float:
    """Six digits behind the point: more would differ by the order of a sum. No negative zero."""
    return round(float(value), 6) + 0.0
