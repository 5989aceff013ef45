"""A long text is cut where it parts by itself; nothing of it is lost, and every part fits."""

from itertools import pairwise

import pytest

from medgemma_cli.errors import DocumentError
from medgemma_cli.longdocs import splitting
from medgemma_cli.longdocs.splitting import Span, cut, spans


def words(text: str, start: int = 0) -> int:
    """Tokens of a prompt of ten words around a text."""
    return 10 + len(text.split())


def covered(text: str, parts: list[Span]) -> bool:
    """Whether every character that is no white space stands in a part."""
    at = 0
    for part in parts:
        if text[at : part.start].strip():
            return False
        at = max(at, part.end)
    return not text[at:].strip()


@pytest.mark.parametrize(
    "text",
    [
        "The patient slept well. " * 400,
        "# Visit\n\nPain 2 of 10.\nNo fever.\n\n" * 200,
        "word " * 2000,
        "\n" * 3000 + "Slept well." + "\n" * 3000 + "Ate well. " * 300,
        "患者今日退院。体温正常。 " * 500,
    ],
)
def test_nothing_is_lost_and_all_fit(text: str) -> None:
    """Each part is within the room, begins behind the one before, and together they are all."""
    parts = list(spans(text, 110, words))
    assert len(parts) > 1 and covered(text, parts)
    assert all(part.tokens <= 110 for part in parts)
    assert all(a.start < b.start for a, b in pairwise(parts))


def test_a_run_without_spaces_is_cut_where_it_must() -> None:
    """A blob has no place to cut at; it is cut all the same, and whole in its parts."""
    text = "A" * 10_000
    parts = list(spans(text, 100, lambda piece, start: 5 + len(piece) // 3))
    assert covered(text, parts) and all(part.tokens <= 100 for part in parts)


def test_headings_before_paragraphs_before_sentences() -> None:
    """The last heading of the second half; without one the last blank line; then a sentence."""
    text = "a b. " * 12 + "\n# Plan\n" + "C d. " * 3 + "\n\n" + "E f. " * 30
    assert text[cut(text, 0, 100) :].startswith("# Plan")
    assert text[cut(text.replace("# Plan", "plan"), 0, 100) - 2 :][:2] != "# "
    plain = "Dr. Smith came in. He left again soon. " * 20
    assert plain[cut(plain, 0, 100) :].startswith(("Dr. Smith came", "He left"))


def test_neighbours_overlap_a_little() -> None:
    """By whole sentences, and by no more than is promised."""
    text = "The patient slept well tonight. " * 400
    parts = list(spans(text, 300, words))
    for one, other in pairwise(parts[:-1]):
        assert 0 < one.end - other.start <= splitting.OVERLAP
        assert text[other.start :].startswith("The patient")


def test_no_room_is_too_long() -> None:
    """A prompt whose own words fill the room cannot be split into anything."""
    with pytest.raises(DocumentError, match="too_long"):
        list(spans("a b c " * 100, 12, words))


def test_each_part_is_measured_a_few_times() -> None:
    """Counting is linear: a text ten times as long takes about ten times as many characters."""
    seen = 0

    def measure(text: str, start: int) -> int:
        nonlocal seen
        seen += len(text)
        return words(text)

    text = "The patient slept well tonight. " * 20_000
    list(spans(text, 2000, measure))
    assert seen < 4 * len(text)
