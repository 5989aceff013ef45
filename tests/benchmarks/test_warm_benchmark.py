"""The benchmark of first tokens itself, with the echo engine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "warm.py"


def test_it_measures_cold_and_warm(clean_env: dict[str, str]) -> None:
    """Every figure is there and positive, and a warm answer comes sooner than a cold one."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--engine", "echo", "--repeats", "1", "--json"],
        capture_output=True,
        text=True,
        env=clean_env,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert {"cold_ask", "server_start", "warm_request"} <= set(figures)
    assert all(value > 0 for values in figures.values() for value in values.values())
    assert figures["warm_request"]["median_s"] < figures["cold_ask"]["median_s"]
