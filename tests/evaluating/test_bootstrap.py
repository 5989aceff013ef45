"""Intervals: the same by seed, around the value, undefined where nothing defines them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.evaluating import bootstrap
from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.measures import Measure, difference, ratio

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def mean(values: list[float], seed: int = 0) -> Figure:
    """The figure of a mean."""
    measure = ratio("m", "mean", "higher", values)
    return bootstrap.figures([measure], len(values), seed)[0]


def test_counts_are_resamples() -> None:
    """Every resample has as many documents as there are, each counted whole."""
    blocks = list(bootstrap.counts(7, seed=0))
    drawn = np.concatenate(blocks)
    assert drawn.shape == (bootstrap.RESAMPLES, 7)
    assert (drawn.sum(axis=1) == 7).all() and (drawn == drawn.astype(int)).all()


def test_counts_are_drawn_evenly() -> None:
    """No document is preferred: each stands in a resample once on average."""
    drawn = np.concatenate(list(bootstrap.counts(5, seed=3, resamples=4000)))
    assert np.allclose(drawn.mean(axis=0), 1, atol=0.05)
    # The chance that a document is left out of a resample of five is (4/5)^5.
    assert (drawn == 0).mean() == pytest.approx(0.8**5, abs=0.02)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same resamples, whether they are made at once or in pieces."""
    whole = np.concatenate(list(bootstrap.counts(9, seed=1)))
    monkeypatch.setattr(bootstrap, "_CELLS", 100)
    pieces = list(bootstrap.counts(9, seed=1))
    assert len(pieces) > 50 and (np.concatenate(pieces) == whole).all()


def test_the_same_seed_the_same_interval() -> None:
    """Determinism by seed; another seed moves the bounds a little, the value not at all."""
    values = [0.1, 0.9, 0.4, 0.7, 0.2, 0.6, 0.3]
    first, again, other = mean(values), mean(values), mean(values, seed=1)
    assert first == again
    assert other.value == first.value and (other.low, other.high) != (first.low, first.high)


def test_a_known_interval() -> None:
    """A rate of one half of 100: the normal approximation's ±0.098."""
    figure = mean([0.0, 1.0] * 50)
    assert figure.value == 0.5 and figure.n == 100
    assert figure.low == pytest.approx(0.402, abs=0.02)
    assert figure.high == pytest.approx(0.598, abs=0.02)


@given(VALUES)
@settings(max_examples=25, deadline=None)
def test_bounds_stand_around_a_mean(values: list[float]) -> None:
    """The value of a mean is between the bounds, and these between the extremes."""
    figure = mean(values)
    assert figure.low is not None and figure.high is not None and figure.value is not None
    assert min(values) - 1e-6 <= figure.low <= figure.value + 1e-6
    assert figure.value - 1e-6 <= figure.high <= max(values) + 1e-6


@given(VALUES, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_value_knows_no_order(values: list[float], random: object) -> None:
    """Permuted documents have the same value."""
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert mean(shuffled).value == pytest.approx(mean(values).value, abs=2e-6)


def test_alike_documents_have_no_width() -> None:
    """Where every document is the same, so is every resample."""
    figure = mean([0.0] * 20)
    assert (figure.value, figure.low, figure.high) == (0, 0, 0)


def test_one_document_has_no_interval() -> None:
    """One document can only be drawn again and again: that is no interval."""
    assert mean([0.5]) == Figure("m", "mean", 1, 0.5)


def test_no_document_has_no_value() -> None:
    """No documents: n is 0 and nothing is told."""
    assert bootstrap.figures([ratio("m", "mean", "higher", [])], 0, 0) == [
        Figure("m", "mean", 0, None)
    ]


def test_undefined_is_none_and_not_nan() -> None:
    """A share of nothing has no value, and no NaN reaches a report."""
    nothing = ratio("q", "quotes", "higher", [0, 0], [0, 0])
    assert bootstrap.figures([nothing], 2, 0) == [Figure("q", "quotes", 0, None)]


def test_a_few_undefined_resamples_are_left_out() -> None:
    """One whole of 3: resamples without it have no ratio, the others have this one."""
    measure = ratio("q", "quotes", "higher", [1, 0, 0], [2, 0, 0])
    figure = bootstrap.figures([measure], 3, 0)[0]
    # Without it: (2/3)^3 = 30 %, under the half.
    assert (figure.value, figure.low, figure.high) == (0.5, 0.5, 0.5)


def test_many_undefined_resamples_give_no_interval() -> None:
    """Where most resamples have no figure, an interval of the rest would be invented."""

    def seldom(counts: "np.ndarray") -> "np.ndarray":  # type: ignore[type-arg]
        return np.where(counts[:, 0] == 1, 0.5, np.nan)

    figure = bootstrap.figures([Measure("s", "seldom", "higher", seldom, 10)], 10, 0)[0]
    assert figure.value == 0.5 and figure.low is None and figure.high is None


def test_no_negative_zero() -> None:
    """A difference of nothing is 0, not -0."""
    one = ratio("m", "mean", "higher", [0.25, 0.75])
    figure = bootstrap.figures([difference(one, one, 2)], 2, 0)[0]
    assert math.copysign(1, figure.value or 0) == 1 and figure.value == 0


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    """Documents differ much and the change is the same in all: its interval has no width."""
    values = [i / 20 for i in range(20)]
    before = ratio("m", "mean", "higher", values)
    after = ratio("m", "mean", "higher", [value + 0.01 for value in values])
    alone, change = bootstrap.figures([after, difference(before, after, 20)], 20, 0)
    assert alone.high is not None and alone.low is not None and alone.high - alone.low > 0.2
    assert (change.value, change.low, change.high) == (0.01, 0.01, 0.01)


def test_values_alone() -> None:
    """Values without intervals, None where there is none."""
    made = [ratio("m", "m", "higher", [1, 0]), ratio("q", "q", "higher", [0, 0], [0, 0])]
    assert bootstrap.values(made, 2) == [0.5, None]


def test_a_ratio_is_of_sums() -> None:
    """Two of two and none of eight are 0.2, not 0.5; each document has its own."""
    measure = ratio("q", "quotes", "higher", [2, 0], [2, 8])
    assert bootstrap.values([measure], 2) == [0.2]
    assert measure.n == 10 and measure.each == (1.0, 0.0)


def test_a_document_without_a_whole_has_no_value_of_its_own() -> None:
    """What has no findings has no coverage; it is not 0."""
    assert ratio("q", "quotes", "higher", [0, 1], [0, 1]).each == (None, 1.0)
