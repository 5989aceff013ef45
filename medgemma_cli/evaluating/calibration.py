"""Probabilities of yes against what was true: how well they separate, and how far they hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.measures import Measure, Of, ratio

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

BINS = 15
FEWEST = 100  # items under which nothing but the intervals is told


class Bin(NamedTuple):
    """Items of about the same score: how many, their mean score, and the share that is true."""

    n: int
    score: float
    share: float


class Screened(NamedTuple):
    """Scores in [0, 1] and whether each is true (0 or 1), sorted by both."""

    scores: "NDArray[float64]"
    labels: "NDArray[float64]"


def screened(pairs: Sequence[tuple[float, int]]) -> Screened:
    """Scores with their labels, in an order that does not depend on the file's."""
    import numpy as np

    ordered = sorted((float(score), int(label)) for score, label in pairs)
    made = np.array(ordered, float).reshape(-1, 2)
    return Screened(made[:, 0], made[:, 1])


def measures(items: Screened, threshold: float) -> list[Measure]:
    """AUROC, sensitivity and specificity at a threshold (score ≥ threshold is yes), Brier, ECE."""
    scores, labels = items
    yes = (scores >= threshold).astype(float)
    n = len(scores)
    return [
        Measure("auroc", "AUROC", "higher", _auroc(items), n),
        ratio("sensitivity", "sensitivity", "higher", (yes * labels).tolist(), labels.tolist()),
        ratio(
            "specificity",
            "specificity",
            "higher",
            ((1 - yes) * (1 - labels)).tolist(),
            (1 - labels).tolist(),
        ),
        ratio("brier", "Brier score", "lower", ((scores - labels) ** 2).tolist()),
        Measure("ece", f"ECE, {BINS} equal widths", "lower", _ece(items), n),
        Measure("ece_adaptive", f"ECE, {BINS} equal masses", "lower", _adaptive_ece(items), n),
    ]


def _auroc(items: Screened) -> Of:
    """The chance that a true item scores over a false one; half for a tie (Hanley 1982)."""
    import numpy as np

    scores, labels = items
    groups = np.flatnonzero(np.diff(scores, prepend=-1.0))  # where each tie begins

    def of(counts: "NDArray[float64]") -> "NDArray[float64]":
        true = np.add.reduceat(counts * labels, groups, axis=1)
        false = np.add.reduceat(counts * (1 - labels), groups, axis=1)
        below = np.cumsum(false, axis=1) - false / 2
        pairs = true.sum(axis=1) * false.sum(axis=1)
        won = (true * below).sum(axis=1)
        # Without a pair of a true and a false item there is nothing to win.
        return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)

    return of


def _places(scores: "NDArray[float64]") -> "NDArray[float64]":
    """Which of the equal widths each score lies in; a bound belongs above, 1 to the last."""
    import numpy as np

    return np.minimum(np.floor(scores * BINS), BINS - 1)


def _ece(items: Screened) -> Of:
    """Mean distance of score and share over the bins, weighted by their items (Guo 2017).

    Of the probability of yes, not of the likelier answer.
    """
    import numpy as np

    scores, labels = items
    inside = (_places(scores)[:, None] == np.arange(BINS)).astype(float)

    def of(counts: "NDArray[float64]") -> "NDArray[float64]":
        gaps = (counts * (scores - labels)) @ inside
        distance: NDArray[float64] = np.abs(gaps).sum(axis=1) / counts.sum(axis=1)
        return distance

    return of


def _adaptive_ece(items: Screened) -> Of:
    """The same over bins of equally many items (Nguyen 2015), found anew for each resample.

    Items of one score share their labels' mean: which of them lies in which bin is chance.
    """
    import numpy as np

    scores, labels = items
    _, tie = np.unique(scores, return_inverse=True)

    def one(counts: "NDArray[float64]") -> float:
        weight = np.bincount(tie, counts)
        shared = np.bincount(tie, counts * labels) / np.where(weight > 0, weight, 1)
        gaps = np.repeat(scores - shared[tie], counts.astype(int))
        return float(sum(abs(part.sum()) for part in np.array_split(gaps, BINS)) / len(gaps))

    return lambda counts: np.array([one(row) for row in counts])


def verdict(auroc: Figure) -> str:
    """Whether the scores tell true from false, by the interval of their AUROC."""
    if auroc.low is None or auroc.high is None:
        return "nothing can be told: there are not both true and false items"
    if auroc.low > 0.5:
        return "the scores separate true from false better than chance"
    if auroc.high < 0.5:
        return "the scores separate true from false the wrong way round"
    return "these items do not show that the scores are better than chance"


def reliability(items: Screened) -> list[Bin]:
    """The equal widths that hold anything, for a plot."""
    scores, labels = items
    places = _places(scores)
    inside = [places == place for place in range(BINS)]
    return [
        Bin(int(i.sum()), float(scores[i].mean()), float(labels[i].mean()))
        for i in inside
        if i.any()
    ]
