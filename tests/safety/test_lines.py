"""Where the lines of a text are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli.safety.grounding import allergies
from medgemma_cli.safety.grounding.analysis import Analysis
from medgemma_cli.safety.grounding.lines import Lines

TEXTS = st.text(st.sampled_from("ab \t\r\n\x0b\u2028"), max_size=40)


@given(TEXTS)
def test_each_line_begins_and_ends_where_it_does(text: str) -> None:
    """Cut at line feeds and at nothing else; what is cut makes up the text again."""
    lines = Lines(text)
    cut = [text[start : lines.end(i)] for i, start in enumerate(lines.starts)]
    assert cut == text.split("\n")


@given(TEXTS, st.data())
def test_a_place_is_in_its_line(text: str, data: st.DataObject) -> None:
    """As many line feeds stand before a place as its line's number says."""
    place = data.draw(st.integers(0, len(text)))
    assert Lines(text).at(place) == text.count("\n", 0, place)


@given(TEXTS, st.integers(0, 8), st.integers(0, 8))
def test_empty_lines(text: str, first: int, last: int) -> None:
    """White space is nothing; the bounds are those of a slice."""
    lines, cut = Lines(text), text.split("\n")
    assert lines.has_empty(first, last) == any(not line.strip() for line in cut[first:last])
    filled = [i for i, line in enumerate(cut) if line.strip() and i >= first]
    assert lines.next_filled(first) == (filled[0] if filled else len(cut))


def test_a_long_list_of_allergies_is_read_to_its_end() -> None:
    """However long a list is, its last line is an allergy; an empty line ends it."""
    rows = "".join(f"- allergen number {i}\n" for i in range(2_000))
    text = Analysis(f"Allergies:\n{rows}- latex\n\nnickel\n")
    said = frozenset().union(*(allergy.names for allergy in allergies.read(text).found))
    assert "latex" in said and "nickel" not in said


@pytest.mark.parametrize("mark", ["- ", "* ", "• ", "1. ", ""])
def test_every_line_of_a_list_is_an_allergy(mark: str) -> None:
    """Two substances with nothing but a line's end between them are two."""
    names = ["latex", "penicillin", "codeine", "aspirin"]
    text = Analysis("Allergies:\n" + "".join(f"{mark}{name}\n" for name in names))
    found = allergies.read(text).found
    assert [next(name for name in names if name in a.names) for a in found] == names


def test_two_words_for_one_substance_are_one() -> None:
    """ "sulfonamide antibiotics" on a line is one allergy."""
    assert len(allergies.read(Analysis("Allergic to sulfonamide antibiotics.")).found) == 1
