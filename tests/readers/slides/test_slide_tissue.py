"""Where tissue is, and which patches: against definitions computed the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from slide_kit import GLASS, STAIN

from medgemma_cli.readers.slides.tissue import SHARE, Plan, candidates, chosen, mask, otsu

BLACK, GREY, PALE = (5, 2, 3), (120, 120, 120), (236, 218, 230)


def picture(*bands: tuple[int, int, int]) -> Pillow.Image:
    """Bands of 20 columns, one of each colour."""
    rows = np.concatenate([np.full((60, 20, 3), band, np.uint8) for band in bands], axis=1)
    return Pillow.fromarray(rows)


def is_tissue(*bands: tuple[int, int, int]) -> list[bool]:
    """Whether the middle of each band is tissue."""
    found = mask(picture(*bands))
    return [bool(found[30, 20 * i + 10]) for i in range(len(bands))]


@pytest.mark.parametrize(
    ("bands", "wanted"),
    [
        ((GLASS, STAIN), [False, True]),
        ((GLASS, PALE), [False, True]),
        ((GLASS, BLACK, STAIN), [False, False, True]),
        ((GLASS, GREY, STAIN), [False, False, True]),
        ((GLASS, GLASS), [False, False]),
        ((BLACK, BLACK), [False, False]),
        ((GLASS, (244, 241, 243)), [False, False]),
    ],
    ids=["stain", "pale", "black edge", "pencil", "glass", "nothing scanned", "noise of glass"],
)
def test_colour_is_tissue(bands: tuple[tuple[int, int, int], ...], wanted: list[bool]) -> None:
    """Stain, pale stain too, and neither glass nor grey nor black; glass alone has none."""
    assert is_tissue(*bands) == wanted


def test_dust_is_smoothed_away() -> None:
    """A single coloured pixel is none."""
    low = np.full((40, 40, 3), GLASS, np.uint8)
    low[20, 20] = (255, 0, 0)
    assert not mask(Pillow.fromarray(low)).any()


def slowly(counts: list[int]) -> int:
    """Otsu's threshold by its definition, class by class."""
    best, at = -1.0, 0
    total = sum(counts)
    for cut in range(len(counts)):
        low, high = sum(counts[: cut + 1]), sum(counts[cut + 1 :])
        if not low or not high:
            continue
        first = sum(i * n for i, n in enumerate(counts[: cut + 1])) / low
        second = sum(i * n for i, n in enumerate(counts) if i > cut) / high
        between = low * high * (first - second) ** 2 / total**2
        if between > best * (1 + 1e-12):
            best, at = between, cut
    return at


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=24))
def test_otsu_is_as_defined(counts: list[int]) -> None:
    """The variance between the classes at the threshold is the greatest there is."""
    found = otsu(np.array(counts))

    def between(cut: int) -> float:
        low, high = counts[: cut + 1], counts[cut + 1 :]
        if not sum(low) or not sum(high):
            return 0.0
        first = sum(i * n for i, n in enumerate(low)) / sum(low)
        second = sum((i + cut + 1) * n for i, n in enumerate(high)) / sum(high)
        return sum(low) * sum(high) * (first - second) ** 2

    assert between(found) == pytest.approx(between(slowly(counts)))


def test_otsu_of_one_class() -> None:
    """Nothing, or one value alone, has no threshold."""
    assert otsu(np.zeros(256, int)) == 0
    assert otsu(np.bincount([7], minlength=256)) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_candidates_are_as_counted(width: int, height: int, side: int, seed: int) -> None:
    """With a mask as fine as the slide: the patches of which a tenth or more is tissue."""
    found = np.random.default_rng(seed).random((height, width)) < 0.2
    wanted = [
        (x, y)
        for y in range(0, height, side)
        for x in range(0, width, side)
        if (inside := found[y : y + side, x : x + side].sum()) and inside >= SHARE * side * side
    ]
    plan = Plan(width, height, side)
    assert candidates(found, plan) == wanted
    assert len(wanted) <= plan.cells


def test_a_coarse_mask() -> None:
    """Of a mask coarser than the patches the same places come out."""
    found = np.zeros((30, 40), bool)
    found[10:20, 20:40] = True
    assert candidates(found, Plan(4000, 3000, 1000)) == [(2000, 1000), (3000, 1000)]


SEVEN = [(50, 30), (40, 80), (50, 80)]
PLACES = [(x, y) for y in range(0, 100, 10) for x in range(0, 100, 10)]


def test_the_same_seed_chooses_the_same() -> None:
    """Again and again, in the order of the places; another seed chooses others."""
    first = chosen(PLACES, 20, 0)
    assert first == chosen(PLACES, 20, 0) and len(first) == 20
    assert first == [place for place in PLACES if place in first]
    assert set(chosen(PLACES, 20, 1)) != set(first)


def test_the_choice_is_written_down() -> None:
    """It is the same on every machine: these are the three of a hundred for seed 7."""
    assert chosen(PLACES, 3, 7) == SEVEN


def test_few_are_all_chosen() -> None:
    """As many as there may be, or fewer, are all of them."""
    assert chosen(PLACES, 100, 5) == PLACES
    assert chosen([], 5, 5) == []


def test_the_choice_is_spread() -> None:
    """Over many seeds each place comes up about as often as any other."""
    counts = dict.fromkeys(PLACES, 0)
    for seed in range(200):
        for place in chosen(PLACES, 25, seed):
            counts[place] += 1
    assert sum(counts.values()) == 200 * 25
    # 50 each; the standard deviation is about 6.
    assert min(counts.values()) > 20 and max(counts.values()) < 80
