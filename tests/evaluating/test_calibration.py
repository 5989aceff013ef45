"""AUROC, sensitivity, specificity, Brier, ECE: cases worked out by hand, bounds, no order."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.evaluating import bootstrap, calibration
from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.calibration import Bin

Pairs = list[tuple[float, int]]
# Few different scores, so that ties are common.
SCORES = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 0.9, 1.0])
PAIRS = st.lists(st.tuples(SCORES, st.integers(0, 1)), min_size=1, max_size=25)
BOTH = PAIRS.filter(lambda pairs: {label for _, label in pairs} == {0, 1})


def values(pairs: Pairs, threshold: float = 0.5) -> dict[str, float | None]:
    """Every measure's value."""
    made = calibration.measures(calibration.screened(pairs), threshold)
    found = bootstrap.values(made, len(pairs))
    return dict(zip([m.name for m in made], found, strict=True))


def auroc(pairs: Pairs) -> float:
    """By its definition: all pairs of a true and a false item."""
    true = [score for score, label in pairs if label]
    false = [score for score, label in pairs if not label]
    won = sum(float(a > b) + (a == b) / 2 for a, b in product(true, false))
    return won / (len(true) * len(false))


def test_auroc_with_a_tie_by_hand() -> None:
    """Of 4 pairs 3 are won and one is a tie: 3.5 / 4."""
    assert values([(0.1, 0), (0.4, 0), (0.4, 1), (0.8, 1)])["auroc"] == 0.875


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0.1, 0), (0.9, 1)], 1.0),
        ([(0.9, 0), (0.1, 1)], 0.0),
        ([(0.5, 0), (0.5, 1), (0.5, 1)], 0.5),  # all alike: nothing is told apart
        ([(0.0, 1), (0.0, 0), (1.0, 1)], 0.75),
        ([(0.3, 1), (0.7, 1)], None),  # no false item
        ([(0.3, 0)], None),
    ],
)
def test_auroc_at_its_ends(pairs: Pairs, expected: float | None) -> None:
    """Right, wrong, chance, and not defined."""
    assert values(pairs)["auroc"] == expected


@given(BOTH)
@settings(max_examples=100, deadline=None)
def test_auroc_is_its_definition(pairs: Pairs) -> None:
    """The sums over ties come to the share of pairs that are won."""
    assert values(pairs)["auroc"] == pytest.approx(auroc(pairs), abs=1e-6)


@given(BOTH)
@settings(max_examples=50, deadline=None)
def test_auroc_turns_round(pairs: Pairs) -> None:
    """Labels exchanged: one less the other. A growing function of the scores: no change."""
    turned = [(score, 1 - label) for score, label in pairs]
    squared = [(score**2, label) for score, label in pairs]
    found = values(pairs)["auroc"]
    assert found is not None
    assert values(turned)["auroc"] == pytest.approx(1 - found, abs=2e-6)
    assert values(squared)["auroc"] == pytest.approx(found, abs=2e-6)


def test_a_resample_is_the_items_with_repeats() -> None:
    """Items that count twice are as good as items that stand there twice; all measures."""
    pairs: Pairs = [(0.1, 0), (0.4, 1), (0.4, 0), (0.8, 1), (0.9, 0)]
    counts = [2, 1, 0, 3, 1]
    repeated = [pair for pair, count in zip(pairs, counts, strict=True) for _ in range(count)]
    items = calibration.screened(pairs)
    for measure in calibration.measures(items, 0.4):
        # `screened` sorts (0.4, 0) before (0.4, 1).
        found = measure.of(np.array([[2.0, 0.0, 1.0, 3.0, 1.0]]))[0]
        assert found == pytest.approx(values(repeated, 0.4)[measure.name], abs=1e-6), measure.name


def test_sensitivity_and_specificity_by_hand() -> None:
    """Of 3 true 2 are at the threshold or above, of 2 false 1 is under it."""
    pairs: Pairs = [(0.3, 1), (0.5, 1), (0.9, 1), (0.2, 0), (0.6, 0)]
    found = values(pairs, 0.5)
    assert found["sensitivity"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["specificity"] == 0.5


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, (1, 0)), (1.0, (0.5, 1))])
def test_thresholds_at_the_ends(threshold: float, expected: tuple[float, float]) -> None:
    """From 0 on all is yes; from 1 on only what is certain."""
    found = values([(1.0, 1), (0.5, 1), (0.0, 0), (0.9, 0)], threshold)
    assert (found["sensitivity"], found["specificity"]) == expected


def test_brier_by_hand() -> None:
    """(3 · 0.1² + 0.9²) / 4."""
    assert values([(0.9, 1)] * 3 + [(0.9, 0)])["brier"] == pytest.approx(0.21)


def test_ece_by_hand() -> None:
    """0.9 is true in 3 of 4, 0.1 in 1 of 4: both are off by 0.15."""
    pairs: Pairs = [(0.9, 1)] * 3 + [(0.9, 0)] + [(0.1, 0)] * 3 + [(0.1, 1)]
    assert values(pairs)["ece"] == pytest.approx(0.15)


def test_ece_weights_bins_by_their_items() -> None:
    """9 items off by 0.05 and one off by 0.5: 0.095."""
    pairs: Pairs = [(0.95, 1)] * 9 + [(0.5, 0)]
    assert values(pairs)["ece"] == pytest.approx(0.095)


def test_errors_in_one_bin_cancel_and_in_two_do_not() -> None:
    """0.42 and 0.44 lie in one of 15 bins, 0.42 and 0.5 in two."""
    assert values([(0.42, 0), (0.44, 1)])["ece"] == pytest.approx(abs(0.86 - 1) / 2)
    assert values([(0.42, 0), (0.5, 1)])["ece"] == pytest.approx((0.42 + 0.5) / 2)


def test_bounds_of_bins() -> None:
    """A score on a bound belongs to the bin above it, 1 to the last."""
    pairs: Pairs = [(0.0, 0), (0.2, 0), (1.0, 1), (14 / 15, 1)]
    bins = calibration.reliability(calibration.screened(pairs))
    assert [one.n for one in bins] == [1, 1, 2]
    assert bins[0] == Bin(1, 0.0, 0.0)
    assert bins[2].score == pytest.approx((1 + 14 / 15) / 2) and bins[2].share == 1


def test_adaptive_ece_of_few_items_is_by_item() -> None:
    """Two items in 15 equal masses: each alone."""
    assert values([(0.2, 0), (0.6, 1)])["ece_adaptive"] == pytest.approx(0.3)


def test_adaptive_ece_shares_ties() -> None:
    """Items of one score are one crowd, whatever bins they fall into."""
    assert values([(0.5, 0), (0.5, 1)] * 20)["ece_adaptive"] == 0
    assert values([(0.5, 1)] * 30 + [(0.5, 0)] * 10)["ece_adaptive"] == pytest.approx(0.25)


def test_adaptive_ece_has_bins_where_the_items_are() -> None:
    """30 items from 0.9 to 0.9999: equal widths see one bin or two, equal masses 15 pairs."""
    scores = np.linspace(0.94, 0.999, 30)
    pairs: Pairs = [(float(score), int(i < 15)) for i, score in enumerate(scores)]
    found = values(pairs)
    assert found["ece"] == pytest.approx(abs(float(scores.mean()) - 0.5), abs=1e-4)
    by_hand = (abs((scores[:14] - 1).sum()) + scores[16:].sum() + abs(scores[14:16].sum() - 1)) / 30
    assert found["ece_adaptive"] == pytest.approx(by_hand, abs=1e-6)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_bounds(pairs: Pairs) -> None:
    """Everything is a probability, or not defined; a score that is always right has no error."""
    for name, found in values(pairs).items():
        assert found is None or 0 <= found <= 1, name
    sure: Pairs = [(float(label), label) for _, label in pairs]
    found = values(sure)
    assert found["ece"] == found["ece_adaptive"] == found["brier"] == 0


@given(PAIRS, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_does_not_matter(pairs: Pairs, random: object) -> None:
    """Not to the values, and not to the intervals either, since items are sorted."""
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert values(pairs) == values(shuffled)
    one, other = (calibration.screened(p) for p in (pairs, shuffled))
    assert (one.scores == other.scores).all() and (one.labels == other.labels).all()


@given(PAIRS)
@settings(max_examples=40, deadline=None)
def test_finer_bins_find_no_less(pairs: Pairs) -> None:
    """No binning finds more than the distance score by score."""
    found = values(pairs)
    groups: dict[float, list[int]] = {}
    for score, label in pairs:
        groups.setdefault(score, []).append(label)
    most = sum(abs(score * len(group) - sum(group)) for score, group in groups.items())
    assert found["ece"] is not None and found["ece"] <= most / len(pairs) + 1e-6
    assert found["ece_adaptive"] is not None and found["ece_adaptive"] <= most / len(pairs) + 1e-6


@given(PAIRS)
@settings(max_examples=40, deadline=None)
def test_the_plot_is_the_figure(pairs: Pairs) -> None:
    """The bins that are drawn hold every item once, and their distances are the ECE."""
    bins = calibration.reliability(calibration.screened(pairs))
    assert sum(one.n for one in bins) == len(pairs)
    distance = sum(one.n * abs(one.score - one.share) for one in bins) / len(pairs)
    assert values(pairs)["ece"] == pytest.approx(distance, abs=1e-5)


def test_intervals_with_rare_positives() -> None:
    """One true item of 30: resamples without it are left out and the rest is told."""
    pairs: Pairs = [(0.9, 1)] + [(i / 100, 0) for i in range(29)]
    items = calibration.screened(pairs)
    figures = {f.name: f for f in bootstrap.figures(calibration.measures(items, 0.5), 30, 0)}
    assert figures["auroc"].value == 1 and figures["auroc"].low == 1
    assert figures["sensitivity"].n == 1 and figures["specificity"].n == 29


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.6, 0.9, "better than chance"),
        (0.1, 0.4, "wrong way round"),
        (0.4, 0.7, "do not show"),
        (None, None, "nothing can be told"),
    ],
)
def test_verdict_goes_by_the_interval(low: float | None, high: float | None, words: str) -> None:
    """A value above chance is none if its interval reaches down to it."""
    assert words in calibration.verdict(Figure("auroc", "AUROC", 100, 0.65, low, high))
