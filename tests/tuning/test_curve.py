"""Curves, their end, and their drawing; how long a training is."""

import xml.etree.ElementTree as ET

import pytest

from medgemma_cli.tuning.curve import Curve, of_log, svg
from medgemma_cli.tuning.settings import Course, Settings, course

LOG = [
    {"step": 1, "loss": 3.0, "epoch": 0.5},
    {"step": 2, "loss": 2.0},
    {"step": 2, "eval_loss": 2.5},
    {"step": 4, "loss": 1.0},
    {"step": 4, "eval_loss": 2.6},
    {"step": 4, "eval_loss": 2.4},
    {"step": 4, "train_runtime": 9.0},
]


def test_of_a_log() -> None:
    """Losses by step; what was measured twice counts as it was last."""
    curve = of_log(LOG)
    assert curve.train == ((1, 3.0), (2, 2.0), (4, 1.0))
    assert curve.validation == ((2, 2.5), (4, 2.4))
    assert curve.best == (4, 2.4)
    assert curve.plain() == {
        "train": [[1, 3.0], [2, 2.0], [4, 1.0]],
        "validation": [[2, 2.5], [4, 2.4]],
    }


@pytest.mark.parametrize(
    ("losses", "patience", "ended"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 3.0], 2, False),
        ([3.0, 3.1, 3.2], 2, True),
        ([3.0, 3.1, 2.9], 1, False),
        ([3.0, 3.1, 3.2], 0, False),
    ],
)
def test_patience(losses: list[float], patience: int, ended: bool) -> None:
    """So many evaluations after the best one; an equal loss is no better."""
    curve = Curve(validation=tuple((i, loss) for i, loss in enumerate(losses, 1)))
    assert curve.exhausted(patience) is ended


@pytest.mark.parametrize(
    "curve",
    [Curve(), Curve(((1, 0.5),)), of_log(LOG), Curve(((1, 0.0), (2, 1e-9)), ((2, 1e6),))],
    ids=["empty", "point", "lines", "extremes"],
)
def test_drawings_are_svg(curve: Curve) -> None:
    """Well formed, with a line for each loss that there is, inside the frame."""
    root = ET.fromstring(svg(curve))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == bool(curve.train) + bool(curve.validation)
    for line in lines:
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= 720 and 0 <= y <= 400


@pytest.mark.parametrize(
    ("settings", "examples", "expected"),
    [
        (Settings(), 800, Course(total=300, every=30, warm=9)),
        (Settings(), 8, Course(total=3, every=1, warm=1)),
        (Settings(batch=4, accumulate=2, epochs=20), 80, Course(total=200, every=10, warm=6)),
        (Settings(max_steps=5), 800, Course(total=5, every=1, warm=1)),
        (Settings(max_steps=500), 800, Course(total=300, every=30, warm=9)),
        (Settings(epochs=0.01, every=7), 3, Course(total=1, every=7, warm=1)),
    ],
)
def test_courses(settings: Settings, examples: int, expected: Course) -> None:
    """Ten points on a curve where it is long enough, an epoch apart at most."""
    assert course(settings, examples) == expected
