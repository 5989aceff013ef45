"""What the parts of a long document said, and the joined answer does not."""

import json
from typing import Any

from medgemma_cli import contracts
from medgemma_cli.records import Contract, Flag, Generation, LeftOut
from medgemma_cli.safety.joined import check_joined

_FORM = contracts.contract(
    {
        "summary": "text",
        "key_findings": ["finding"],
        "medications": ["text", "0..3"],
        "allergies": ["text"],
        "rows": [{"quote": "quote", "value": "text(9)"}, "0..2"],
    }
)
_COVERS = _FORM.model_copy(update={"covers": ("allergies",)})
_FIELDS = {
    "summary": "Slept well on heparin 5000 IU daily.",
    "key_findings": [{"quote": "Q", "statement": "No pain was reported."}],
    "medications": ["Aspirin 81 mg daily"],
    "allergies": [],
    "rows": [{"quote": "Q", "value": "4.1", "analyte": "Potassium"}],
}


def _flags(
    where: str, *said: str, form: Contract = _COVERS, fields: dict[str, Any] = _FIELDS
) -> list[Flag]:
    left = (LeftOut(where=where, said=said),)
    made = Generation(id="k", text=json.dumps(fields), left_out=left)
    return list(check_joined(form, made, fields))


def test_what_a_complete_list_misses_is_for_review() -> None:
    """A list with bounds of its own, a table, and what the template covers."""
    for where in ("medications", "rows", "allergies"):
        (flag,) = _flags(where, "Warfarin 5 mg")
        assert (flag.rule, flag.severity, flag.where, flag.value) == (
            "left_out",
            "review",
            where,
            "1",
        )


def test_what_a_selection_does_not_select_is_a_note() -> None:
    """Five findings are the five that matter: in a short document nobody counts the others."""
    (flag,) = _flags("key_findings", "Ate well.", "Walked alone.")
    assert (flag.rule, flag.severity, flag.value) == ("not_selected", "note", "2")
    (flag,) = _flags("allergies", "Penicillin", form=_FORM)
    assert flag.severity == "note"


def test_what_is_told_elsewhere_is_not_missing() -> None:
    """Every word of it in one text of the answer."""
    assert _flags("medications", "Heparin 5000 IU daily") == []
    assert _flags("rows", "Potassium 4.1") == []
    (flag,) = _flags("medications", "Heparin 5000 IU daily", "Heparin 2500 IU daily")
    assert flag.value == "1"


def test_a_negation_and_a_decimal_are_words() -> None:
    """What differs by one of them is another thing."""
    assert _flags("medications", "No pain was reported") == []
    assert len(_flags("medications", "No fever was reported")) == 1
    assert len(_flags("rows", "Potassium 4.10")) == 1
    assert len(_flags("rows", "Potassium 4")) == 1


def test_words_of_several_texts_do_not_add_up() -> None:
    """Aspirin of one line and 5000 of another tell of no aspirin 5000."""
    assert len(_flags("medications", "Aspirin 5000 IU")) == 1


def test_a_failed_merge_is_for_review() -> None:
    """Once, however often it failed."""
    notes = ("parts:3", "merge_failed:oom", "merge_failed:too_long")
    made = Generation(id="k", text="x", degraded=notes)
    (flag,) = check_joined(contracts.contract("text"), made, {"answer": "x"})
    assert (flag.rule, flag.severity) == ("merge_failed", "review")


def test_a_short_document_is_not_spoken_of() -> None:
    """Nothing was joined."""
    made = Generation(id="k", text=json.dumps(_FIELDS))
    assert list(check_joined(_COVERS, made, _FIELDS)) == []


def test_a_json_schema_has_no_selections() -> None:
    """Its lists say how much they may hold."""
    assert not contracts.selects('{"$schema": "x", "properties": {}}', "medications")
    assert contracts.selects(_FORM.block, "key_findings")
    assert not contracts.selects(_FORM.block, "medications")
    assert not contracts.selects(_FORM.block, "rows") and not contracts.selects("", "rows")
