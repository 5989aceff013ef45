"""A house for each test, and documents that say and are named what must not get out."""

from pathlib import Path

import pytest
from house import House
from papers import write_papers


@pytest.fixture
def house(tmp_path: Path, clean_env: dict[str, str]) -> House:
    """Folders of this test alone, in place of the user's."""
    return House(tmp_path, clean_env)


@pytest.fixture
def papers(house: House) -> Path:
    """Documents of every kind, good and bad: folder `in`, below it names that are canaries."""
    return write_papers(house)
