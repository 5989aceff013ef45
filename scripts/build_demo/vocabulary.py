"""What invented patients have and say: `words.toml` and `phrases.toml`."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    """Complaints, conditions, laboratory tests, and lists by name."""
    return _read("words.toml")


@lru_cache(maxsize=1)
def phrases() -> dict[str, dict[str, Any]]:
    """For each kind of fact how it is asked, said, written and typed."""
    return _read("phrases.toml")


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / name).read_text("utf-8"))


def listed(name: str) -> list[str]:
    """One of the plain lists."""
    found: list[str] = words()["lists"][name]
    return found
