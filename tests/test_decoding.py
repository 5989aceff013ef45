"""Contracts: the small notation, the schema, and what an answer must be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli import decoding

BLOCK: dict[str, Any] = {
    "summary": "text",
    "key_findings": ["finding"],
    "risk_level": "low | high",
    "recommendations": ["text"],
}


def answer(**changes: Any) -> str:
    """A valid answer, with changes."""
    value = {
        "summary": "Stable angina.",
        "key_findings": [{"statement": "BP was raised", "quote": "BP 160/95 mmHg"}],
        "risk_level": "low",
        "recommendations": ["Repeat in 2/52"],
    }
    return json.dumps({**value, **changes})


def test_schema_keeps_the_order_and_is_closed() -> None:
    """Fields in the template's order, all required, no others."""
    schema = json.loads(decoding.contract(BLOCK).json_schema)
    assert list(schema["properties"]) == list(BLOCK) == schema["required"]
    assert schema["additionalProperties"] is False


def test_parse() -> None:
    """A valid answer comes back as written."""
    output = decoding.parse(json.dumps(BLOCK), answer())
    assert output.fields["risk_level"] == "low"
    assert output.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure! Here is the JSON",
        answer()[:-1],
        answer(risk_level="severe"),
        answer(extra=1),
        answer(summary=""),
        answer(key_findings=[]),
        answer(key_findings=[{"statement": "no quote here"}]),
        answer(summary="x" * 5000),
        answer(summary="line\nbreak in a text"),
        '{"summary": "\\ud800 lone surrogate"}',
    ],
)
def test_what_does_not_fit_is_an_error_without_text(text: str) -> None:
    """A ValueError that quotes nothing of the answer."""
    with pytest.raises(ValueError, match="does not fit") as caught:
        decoding.parse(json.dumps(BLOCK), text)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_repeats_are_dropped_and_noted() -> None:
    """The same item twice is one item."""
    finding = {"statement": "BP was raised", "quote": "BP 160/95 mmHg"}
    output = decoding.parse(json.dumps(BLOCK), answer(key_findings=[finding, finding]))
    assert output.fields["key_findings"] == [finding]
    assert output.notes == ("repeats_dropped:key_findings:1",)


def test_a_text_at_its_bound_is_noted() -> None:
    """Cut by the grammar is not silent."""
    output = decoding.parse(json.dumps(BLOCK), answer(recommendations=["x" * 200]))
    assert output.notes == ("at_bound:recommendations[0]",)


def test_without_text_there_is_no_quote() -> None:
    """Findings about an image are statements alone."""
    value = answer(key_findings=[{"statement": "Left basal opacity"}])
    assert decoding.parse(json.dumps(BLOCK), value, quotable=False).fields["key_findings"]
    with pytest.raises(ValueError, match="does not fit"):
        decoding.parse(json.dumps(BLOCK), answer(), quotable=False)


def test_free_text() -> None:
    """`output: text` is the answer, trimmed."""
    assert decoding.contract("text").kind == "text"
    assert decoding.parse('"text"', " yes \n").fields == {"answer": "yes"}


@pytest.mark.parametrize(
    "block",
    [
        {},
        [],
        "poem",
        {"a": "poem"},
        {"a": []},
        {"a": ["text", "text"]},
        {"a": "x | x"},
        {"_a": "text"},
    ],
)
def test_malformed_blocks(block: Any) -> None:
    """Said when the template loads."""
    with pytest.raises(ValueError, match=r"output|kind|list|choice|field name"):
        decoding.contract(block)


@given(summary=st.text(min_size=1, max_size=500))
def test_any_text_is_kept_or_refused(summary: str) -> None:
    """Never changed on the way through."""
    try:
        output = decoding.parse(json.dumps(BLOCK), answer(summary=summary))
    except ValueError:
        return
    assert output.fields["summary"] == summary
