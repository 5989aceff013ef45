"""One answer of several, in the contract's order, each quote under its finding."""

from long_kit import answer, contract, finding

from medgemma_cli import contracts
from medgemma_cli.longdocs.answers import Answer
from medgemma_cli.longdocs.settling import settle
from medgemma_cli.longdocs.whole import lists_of, whole, with_lists

_FORM = contract(
    summary="text",
    key_findings=["finding", "1..2"],
    why="finding | not stated",
    drugs=["text", "0..3"],
)


def _given() -> list[Answer]:
    first = {
        "summary": "One thing.",
        "key_findings": [finding("A b c"), finding("D e f")],
        "why": "not stated",
        "drugs": ["Aspirin"],
    }
    second = {
        "summary": "Another.",
        "key_findings": [finding("G h i", "Seen late.")],
        "why": finding("J k l"),
        "drugs": ["Aspirin", "Heparin"],
    }
    return [
        answer(first, key_findings_0=(0, 5), key_findings_1=(6, 9)),
        answer(second, key_findings_0=(50, 55), why=(60, 65)),
    ]


def test_the_whole_of_two() -> None:
    """Written fields, lists one after the other, the one finding, all in order."""
    given = _given()
    settled = settle(_FORM, given)
    made = whole(_FORM, settled, {"summary": "Both things."}, given)
    assert list(made.fields) == ["summary", "key_findings", "why", "drugs"]
    assert made.fields["summary"] == "Both things."
    assert [f["quote"] for f in made.fields["key_findings"]] == ["A b c", "G h i"]
    assert made.fields["why"]["quote"] == "J k l" and made.fields["drugs"] == ["Aspirin", "Heparin"]
    places = {(place.where, place.start) for place in made.places}
    assert places == {("key_findings[0]", 0), ("key_findings[1]", 50), ("why", 60)}


def test_what_has_no_room_is_told() -> None:
    """By its field and its words."""
    (left,) = lists_of(_FORM, _given()).left
    assert (left.where, left.said) == ("key_findings", ("It is documented.",))


def test_without_evidence_nothing_goes_where_it_is_wanted() -> None:
    """Of a part that could not be quoted, plain lists are used alone."""
    bare = {"summary": "x" * 9, "key_findings": [], "why": "not stated", "drugs": ["Morphine"]}
    made = lists_of(_FORM, [*_given(), answer(bare, quotable=False)])
    assert made.fields["drugs"] == ["Aspirin", "Heparin", "Morphine"]
    assert len(made.fields["key_findings"]) == 2


def test_a_picked_finding_comes_as_it_is() -> None:
    """With its place, by the number that the model wrote."""
    form = contract(why="finding | not stated")
    given = [
        answer({"why": finding("A b c")}, why=(1, 5)),
        answer({"why": finding("D e f")}, why=(7, 9)),
    ]
    made = whole(form, settle(form, given), {"why": "answer 2"}, given)
    assert made.fields == {"why": finding("D e f")} and made.places[0].start == 7


def test_lists_in_place_of_others() -> None:
    """Their places with them; all other fields as they were."""
    given = _given()
    made = whole(_FORM, settle(_FORM, given), {"summary": "Both things."}, given)
    fresh = with_lists(_FORM, made, lists_of(_FORM, given[1:]))
    assert fresh.fields["summary"] == "Both things." and fresh.fields["why"] == made.fields["why"]
    assert [f["statement"] for f in fresh.fields["key_findings"]] == ["Seen late."]
    assert {(p.where, p.start) for p in fresh.places} == {("key_findings[0]", 50), ("why", 60)}


def test_free_text_is_what_was_written() -> None:
    """There is nothing to add."""
    form = contracts.contract("text")
    given = [answer({"answer": "One."}), answer({"answer": "Two."})]
    assert whole(form, settle(form, given), {"answer": "Both."}, given).fields == {
        "answer": "Both."
    }
