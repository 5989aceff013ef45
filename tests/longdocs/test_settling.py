"""What answers about parts agree on, what is asked anew, and what stands in for an answer."""

import json
from typing import Any

import pytest
from long_kit import answer, contract, finding

from medgemma_cli import contracts
from medgemma_cli.longdocs.settling import settle, side_by_side
from medgemma_cli.records import Contract


def _asked(made: Contract | None) -> dict[str, Any]:
    assert made is not None
    found: dict[str, Any] = json.loads(made.json_schema)["properties"]
    return found


def test_agreement_needs_no_model() -> None:
    """All say the same, or all but one "not stated"."""
    form = contract(level="low | high", follow_up="text | not stated")
    given = [
        answer({"level": "low", "follow_up": "not stated"}),
        answer({"level": "low", "follow_up": "In two weeks."}),
    ]
    assert settle(form, given).fields == {"level": "low", "follow_up": "In two weeks."}
    assert settle(form, given).asked is None


def test_nobody_states_it() -> None:
    """Then it is not stated."""
    form = contract(follow_up="text | not stated", why="finding | not stated")
    fields = {"follow_up": "not stated", "why": "not stated"}
    assert settle(form, [answer(fields), answer(dict(fields))]).fields == fields


def test_disagreement_is_asked_about() -> None:
    """Of those fields alone, in the same kinds."""
    form = contract(summary="text", level="low | high", other="low | high")
    given = [
        answer({"summary": "One thing.", "level": "low", "other": "low"}),
        answer({"summary": "Another.", "level": "high", "other": "low"}),
    ]
    made = settle(form, given)
    assert list(_asked(made.asked)) == ["summary", "level"]
    assert _asked(made.asked)["level"]["enum"] == ["low", "high"]
    assert made.fields == {"other": "low"}


def test_lists_are_never_asked_about() -> None:
    """They are put one after the other."""
    form = contract(drugs=["text", "0..5"], rows=[{"quote": "quote", "v": "text(9)"}, "0..9"])
    given = [answer({"drugs": [d], "rows": []}) for d in ("Aspirin", "Heparin")]
    assert settle(form, given) == ({}, None, {})


def test_one_of_several_findings_is_picked_by_number() -> None:
    """The model cannot write it, only choose it; the same quote is one option."""
    form = contract(why="finding | not stated")
    given = [
        answer({"why": finding("Fell twice at home")}),
        answer({"why": "not stated"}),
        answer({"why": finding("fell  twice at home")}),
        answer({"why": finding("Lives alone now")}),
        answer({"why": finding("Unquoted words here")}, quotable=False),
    ]
    made = settle(form, given)
    assert _asked(made.asked)["why"]["enum"] == ["answer 1", "answer 4"]
    assert made.picks["why"]["answer 4"] is given[3]


def test_a_decided_choice_is_always_asked() -> None:
    """For the probabilities of the whole; the rule goes along."""
    rule = {"positive": "yes", "negative": "no", "threshold": "0.4"}
    form = contracts.contract({"seen": "yes | no"}, decide={"seen": rule})
    made = settle(form, [answer({"seen": "yes"}), answer({"seen": "yes"})])
    assert _asked(made.asked)["seen"]["x-decide"]["threshold"] == 0.4


def test_a_json_schema_is_narrowed_too() -> None:
    """A contract that came as JSON Schema."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "grade": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 4},
        },
        "required": ["grade", "tags"],
        "additionalProperties": False,
    }
    form = contracts.contract(schema)
    given = [answer({"grade": g, "tags": []}) for g in "ab"]
    assert list(_asked(settle(form, given).asked)) == ["grade"]


# -- without the model --------------------------------------------------------------------------


def _stood_in(form: Contract, *fields: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    given = [answer(one) for one in fields]
    return side_by_side(form, settle(form, given), given)


def test_texts_follow_each_other() -> None:
    """Each once, in order; what has no room is told."""
    form = contract(note="text(30)")
    made, left = _stood_in(
        form, {"note": "Slept well."}, {"note": "Ate well."}, {"note": "Slept well."}
    )
    assert made == {"note": "Slept well. Ate well."} and left == ()
    made, (one,) = _stood_in(form, *({"note": f"{c} said ten."} for c in "ABCD"))
    assert made == {"note": "A said ten. B said ten."}
    assert (one.where, one.said) == ("note", ("C said ten.", "D said ten."))


def test_what_nobody_states_is_not_told_between() -> None:
    """ "not stated" is no text to put in a row."""
    form = contract(note="text(80) | not stated")
    given = ({"note": "not stated"}, {"note": "One."}, {"note": "Two."})
    assert _stood_in(form, *given)[0] == {"note": "One. Two."}


@pytest.mark.parametrize(
    ("kind", "given", "made"),
    [
        ("low | high | unknown", ["low", "high", "high"], "unknown"),
        ("low | high", ["low", "high", "high"], "high"),
        ("low | high", ["low", "high"], "low"),
        ("integer", [3, 4, 4], 4),
        ("boolean", [True, False], True),
    ],
)
def test_a_grade_is_not_made_up(kind: str, given: list[Any], made: Any) -> None:
    """Unknown, where that may be said; else what most parts say, or the earliest."""
    found, left = _stood_in(contract(x=kind), *({"x": value} for value in given))
    assert found == {"x": made} and left == ()


def test_the_first_finding_is_taken() -> None:
    """By its number, as the model would have picked it."""
    form = contract(why="finding | not stated")
    made, _ = _stood_in(form, {"why": finding("One two three")}, {"why": finding("Four five six")})
    assert made == {"why": "answer 1"}


def test_free_text_keeps_all() -> None:
    """Answers about the parts, a blank line between them."""
    form = contracts.contract("text")
    given = [answer({"answer": "One."}), answer({"answer": "Two."})]
    assert side_by_side(form, settle(form, given), given) == ({"answer": "One.\n\nTwo."}, ())
