"""What was answered about a part: its fields, its quotes' places, its words."""

import json

import pytest
from long_kit import answer, contract, finding

from medgemma_cli import contracts
from medgemma_cli.errors import DocumentError
from medgemma_cli.longdocs.answers import of_part, said, told, under
from medgemma_cli.records import Generation, Place

_CONTRACT = contract(summary="text", key_findings=["finding"])


def _generation(**fields: object) -> Generation:
    return Generation(id="a/1", text=json.dumps(fields))


def test_places_are_of_the_whole_document() -> None:
    """A quote found in a part stands by so much further back as the part begins."""
    text = "Slept well.  Blood pressure\nwas 120/80 today. No pain."
    made = _generation(
        summary="A quiet night.", key_findings=[finding("Blood pressure was 120/80")]
    )
    found = of_part(_CONTRACT, made, text, 1000)
    (place,) = found.places
    assert (place.where, place.start) == ("key_findings[0]", 1000 + text.index("Blood"))
    assert text[place.start - 1000 : place.end - 1000] == "Blood pressure\nwas 120/80"
    assert found.span == (1000, 1000 + len(text)) and found.quotable


def test_a_quote_that_is_not_there_has_no_place() -> None:
    """It stays in the answer, and the checks of the whole will say that it is not found."""
    made = _generation(summary="A quiet night.", key_findings=[finding("Fever of 39 degrees")])
    assert of_part(_CONTRACT, made, "Slept well tonight.", 0).places == ()


@pytest.mark.parametrize(
    ("generation", "code"),
    [
        (Generation(id="a", finish_reason="error", error="oom"), "oom"),
        (Generation(id="a", text="{"), "invalid_output"),
        (Generation(id="a", text='{"summary": 3}'), "invalid_output"),
    ],
)
def test_what_is_no_answer(generation: Generation, code: str) -> None:
    """The engine's own code, or that it does not fit its contract."""
    with pytest.raises(DocumentError, match=code):
        of_part(_CONTRACT, generation, "text", 0)


def test_nothing_said_is_no_answer() -> None:
    """Of free text, as everywhere."""
    with pytest.raises(DocumentError, match="empty_output"):
        of_part(contracts.contract("text"), Generation(id="a", text=" \n"), "text", 0)


def test_the_model_is_shown_no_quotes() -> None:
    """Numbered answers, statements without their evidence, nested ones too."""
    fields = {"a": [finding("Q1", "First thing."), {"quote": "Q2", "value": "7"}], "b": "Plain."}
    shown = told([answer(fields), answer({"a": [], "b": "Señora"})])
    assert "Q1" not in shown and "Q2" not in shown
    assert shown.startswith('Answer 1: {"a": [{"statement": "First thing."}, {"value": "7"}]')
    assert 'Answer 2: {"a": [], "b": "Señora"}' in shown


def test_a_shortened_answer_begins_as_it_does() -> None:
    """As many characters of each as there may be."""
    assert told([answer({"b": "x" * 50})], 10) == 'Answer 1: {"b": "xxxx'[: len("Answer 1: ") + 10]


def test_words_of_an_item() -> None:
    """Of a text, a finding and a row; quotes and what is not there apart."""
    assert said("Aspirin 81 mg") == "Aspirin 81 mg"
    assert said(finding("Q", "Slept well.")) == "Slept well."
    row = {"quote": "Q", "analyte": "K", "value": 4.1, "flag": None, "more": ["a", "b"]}
    assert said(row).split() == ["K", "4.1", "a", "b"]


def test_under_is_at_a_path_and_below() -> None:
    """And not at another that begins alike."""
    names = ["risk", "risk.why", "risk[0]", "risk_level", "other"]
    places = [Place(where=name, quote="q", start=0, end=1) for name in names]
    assert [place.where for place in under(places, "risk")] == names[:3]
