"""The words that invented patients are made of: `words.toml`."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    """Complaints, conditions, laboratory tests, and lists by name."""
    return tomllib.loads((Path(__file__).parent / "words.toml").read_text("utf-8"))


def listed(name: str) -> list[str]:
    """One of the plain lists."""
    found: list[str] = words()["lists"][name]
    return found
