"""Lists of several answers: repeats once, every part heard, each item with its quotes."""

from long_kit import answer, finding

from medgemma_cli.longdocs.answers import Answer
from medgemma_cli.longdocs.lists import joined, mark_of


def _texts(*lists: list[str]) -> list[Answer]:
    return [answer({"drugs": items}) for items in lists]


def _kept(most: int, *lists: list[str]) -> tuple[list[str], list[str]]:
    kept, left = joined("drugs", _texts(*lists), most)
    return [item.value for item in kept], [item.value for item in left]


def test_one_after_the_other() -> None:
    """In the order of the document, whoever fits first."""
    assert _kept(9, ["a", "b"], [], ["c"]) == (["a", "b", "c"], [])


def test_repeats_but_for_case_and_space() -> None:
    """The first is kept as it was written."""
    assert _kept(9, ["Aspirin  81 mg"], ["aspirin 81 mg", "Heparin"]) == (
        ["Aspirin  81 mg", "Heparin"],
        [],
    )


def test_every_part_is_heard_before_any_is_heard_twice() -> None:
    """With room for four: three firsts, one second, in the order of the document."""
    kept, left = _kept(4, ["a1", "a2", "a3"], ["b1", "b2"], ["c1"])
    assert kept == ["a1", "a2", "b1", "c1"] and left == ["a3", "b2"]


def test_too_many_firsts_are_spread() -> None:
    """Over the whole document, its beginning among them."""
    kept, left = _kept(3, *([str(i)] for i in range(9)))
    assert kept == ["0", "3", "6"] and len(left) == 6


def test_what_rests_on_the_same_words_is_one() -> None:
    """In the overlap of two parts both may quote the same; elsewhere the same place says two."""
    one = {"f": [finding("Q 1", "Slept well."), finding("Q 2", "Ate well.")]}
    other = {"f": [finding("Q one", "A good night."), finding("Q 3", "No pain.")]}
    first = answer(one, f_0=(90, 99), f_1=(10, 19))
    second = answer(other, f_0=(90, 99), f_1=(150, 160))
    kept, left = joined("f", [first, second], 9)
    assert [item.value["statement"] for item in kept] == ["Slept well.", "Ate well.", "No pain."]
    assert left == []


def test_two_rows_of_one_line_stay_in_their_part() -> None:
    """A line of a report may hold two results."""
    rows = {"f": [{"quote": "Q", "value": "1"}, {"quote": "Q", "value": "2"}]}
    kept, _ = joined("f", [answer(rows, f_0=(5, 9), f_1=(5, 9))], 9)
    assert [item.value["value"] for item in kept] == ["1", "2"]


def test_items_take_their_quotes_along() -> None:
    """To where they stand now."""
    first = answer({"f": [finding("Q 1")]}, f_0=(1, 3))
    second = answer({"f": [finding("Q 2"), finding("Q 3")]}, f_0=(5, 7), f_1=(8, 9))
    kept, _ = joined("f", [first, second], 9)
    (place,) = kept[2].moved("f[2]")
    assert (place.where, place.start) == ("f[2]", 8)


def test_very_many_items_are_soon_joined() -> None:
    """Linear: twenty thousand, of which a hundred are kept."""
    lists = [[f"{i} {k}" for k in range(20)] for i in range(1000)]
    kept, left = _kept(100, *lists)
    assert len(kept) == 100 and len(left) == 19_900
    assert kept[-1] > "9"


def test_marks() -> None:
    """Findings by their quotes; 1 is not true."""
    assert mark_of(finding("A  b", "x")) == mark_of(finding("a B", "y"))
    assert mark_of(1) != mark_of(True)
