"""Thoughts are taken out; an open one is noticed."""

import pytest

from medgemma_cli.engines.thoughts import strip_thoughts


@pytest.mark.parametrize(
    ("ids", "kept", "thinking"),
    [
        ([1, 2], [1, 2], False),
        ([94, 5, 95, 1], [1], False),
        ([1, 94, 5, 95, 2, 94, 6, 95], [1, 2], False),
        ([94, 5], [], True),
        ([95, 1], [1], False),
        ([], [], False),
    ],
)
def test_strip(ids: list[int], kept: list[int], thinking: bool) -> None:
    """Ids between the marks go, the marks too."""
    assert strip_thoughts(ids, 94, 95) == (kept, thinking)
