"""The benchmark of first tokens itself, with the echo engine."""

from collections.abc import Callable

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

import warm


def test_it_measures_cold_and_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is there and positive, and a warm answer comes sooner than a cold one."""

    def once(measure: Callable[[], float], repeats: int) -> dict[str, float]:
        return {"median_s": measure()}  # each costs the start of a process

    monkeypatch.setattr(warm, "median", once)
    figures = warm.measure(["--engine", "echo"], 1)
    assert set(figures) == {"cold_ask", "server_start", "warm_request", "warm_ask"}
    assert all(value > 0 for values in figures.values() for value in values.values())
    assert figures["warm_request"]["median_s"] < figures["cold_ask"]["median_s"]


def test_the_first_fills_caches() -> None:
    """It is left out of the median, the least and the most."""
    taken = iter([9.0, 3.0, 1.0, 2.0])
    assert warm.median(lambda: next(taken), 3) == {"median_s": 2.0, "least_s": 1.0, "most_s": 3.0}


def test_a_command_that_fails_is_no_figure() -> None:
    """Its time would be one of nothing."""
    with pytest.raises(SystemExit, match="exit 2"):
        warm.first_byte("ask")
