"""Whole runs of the installed command, on real weights and real documents."""

import os
import sys
from pathlib import Path

import pytest

SHARED = Path(
    os.environ.get("MEDGEMMA_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real documents, read in place; skip where it is not."""
    if not (SHARED / "INDEX.md").is_file():
        pytest.skip("no real documents here: set MEDGEMMA_TEST_DATA to their folder")
    return SHARED


@pytest.fixture(scope="session")
def command() -> str:
    """The installed console script of this environment."""
    return str(Path(sys.executable).parent / "medgemma")
