"""Faults are shown through the command, with the engine that needs no model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import ECHO, Outcome, Run, lines


@pytest.fixture
def run(cli: Callable[..., Any], tmp_path: Path) -> Run:
    """`medgemma run … -o out --engine echo`: what it came to."""

    def summarise(*args: object, **settings: Any) -> Outcome:
        done = cli("run", *args, "-o", "out", *ECHO, **settings)
        return Outcome(done.returncode, done.stdout, done.stderr, lines(tmp_path / "out"))

    return summarise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty input folder."""
    path = tmp_path / "in"
    path.mkdir()
    return path
