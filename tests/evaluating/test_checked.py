"""What the checks found, counted from records."""

from typing import Any

import pytest
from samples import failed, flag, quote, record

from medgemma_cli.evaluating import bootstrap, checked
from medgemma_cli.records import Record


def values(records: list[Record], *more: str) -> dict[str, float | None]:
    """Every measure's value."""
    made = checked.measures(records, more)
    found = bootstrap.values(made, len(records))
    return dict(zip([m.name for m in made], found, strict=True))


def test_failed_counts_all_and_flagged_those_with_an_output() -> None:
    """Of 4 documents 2 failed or were rejected; of the other 2 one is flagged."""
    records = [
        record("a"),
        record("b", status="flagged", flags=(flag("number_mismatch"),)),
        failed("c"),
        failed("d", status="rejected"),
    ]
    found = values(records)
    assert (found["failed"], found["flagged"]) == (0.5, 0.5)
    assert found["flag_number_mismatch"] == 0.5


def test_a_note_is_a_flag_and_no_flagged_record() -> None:
    """A record that is ok may have notes: they count under their rule alone."""
    found = values([record("a", flags=(flag("uncertain"),))])
    assert (found["flagged"], found["flag_uncertain"]) == (0, 1)


def test_a_rule_counts_once_a_document() -> None:
    """Three flags of one rule are one document."""
    found = values([record("a", flags=(flag("x"), flag("x"), flag("x"))), record("b")])
    assert found["flag_x"] == 0.5


def test_flags_of_what_failed_are_left_out() -> None:
    """There is no output that they could be flags of."""
    found = values([record("a"), failed("b", flags=(flag("emergency"),))])
    assert "flag_emergency" not in found


def test_rules_asked_for_are_there() -> None:
    """A gate on a rule that nothing was flagged by reads 0, not nothing."""
    assert values([record()], "negation_flip")["flag_negation_flip"] == 0


def test_nothing_with_an_output() -> None:
    """All failed: that is told; rates of outputs are not defined."""
    found = values([failed("a"), failed("b")])
    assert found.pop("failed") == 1
    assert set(found.values()) == {None}


FINDING = {"quote": "dry cough", "statement": "A dry cough."}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Two findings, one of them found.
        ({"output": {"findings": [FINDING, FINDING]}, "quotes": (quote("findings[0]"),)}, (1, 2)),
        # One in a field of its own, with the word that may stand in its place elsewhere.
        ({"output": {"risk": FINDING, "plan": "not stated"}, "quotes": (quote("risk"),)}, (1, 1)),
        # A row of a table has a quote and no statement.
        (
            {
                "output": {"rows": [{"quote": "K 4.1", "value": "4.1"}]},
                "quotes": (quote("rows[0]"),),
            },
            (1, 1),
        ),
        # A statement without a quote, as of an image.
        ({"output": {"findings": [{"statement": "Opacity."}]}}, (0, 1)),
        # A quote that is not there, in a field of another name than the known ones.
        (
            {
                "output": {"evidence": "made up"},
                "flags": (flag("quote_not_in_source", "evidence"),),
            },
            (0, 1),
        ),
        # Found, but one of two quotes of the same row is not: the row does not stand.
        (
            {
                "output": {"rows": [{"quote": "a", "statement": "b"}]},
                "quotes": (quote("rows[0]"),),
                "flags": (flag("quote_not_in_source", "rows[0]"),),
            },
            (0, 1),
        ),
        # Nothing to quote.
        ({"output": {"answer": "yes", "reason": "It says so."}}, (0, 0)),
        ({"output": {"quote": "a", "statement": "b"}, "quotes": (quote("quote"),)}, (1, 1)),
        ({"output": None}, (0, 0)),
    ],
)
def test_findings_with_a_quote_that_stands(
    changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    """Of one record: whose quote stands, and all."""
    assert checked.quoted(record(**changes)) == expected


def test_quote_coverage_is_over_findings() -> None:
    """3 of 4 findings, not the mean of 1 and 1/2."""
    one = record("a", output={"f": [FINDING] * 2}, quotes=(quote("f[0]"), quote("f[1]")))
    other = record("b", output={"f": [FINDING] * 2}, quotes=(quote("f[0]"),))
    assert values([one, other])["quotes"] == 0.75


def test_omissions_are_counted_a_document() -> None:
    """Three omissions in two documents with an output."""
    records = [record("a", omissions=("penicillin", "latex", "nuts")), record("b"), failed("c")]
    assert values(records)["omissions"] == 1.5


def test_facts_are_shares_of_facts() -> None:
    """Sums over all outputs; a record without counts adds nothing."""
    counted = {"supported": 6, "contradicted": 1, "not_checked": 3}
    found = values([record("a", facts=counted), record("b", facts=None), failed("c")])
    assert (found["facts_contradicted"], found["facts_not_checked"]) == (0.1, 0.3)


def test_names_are_those_of_the_measures() -> None:
    """What --fail-if-worse lists is what there is."""
    assert set(values([record()])) == set(checked.NAMES)


def test_quotes_alone_are_better_higher() -> None:
    """Everything else counts what is wrong."""
    better = {m.name: m.better for m in checked.measures([record()])}
    assert {name for name, way in better.items() if way == "higher"} == {"quotes"}


def test_n_is_what_a_rate_is_taken_over() -> None:
    """Documents, those with an output, findings, facts."""
    one = record(
        "a",
        output={"f": [FINDING] * 3},
        facts={"supported": 7, "contradicted": 0, "not_checked": 1},
    )
    n = {m.name: m.n for m in checked.measures([one, failed("b")])}
    assert (n["failed"], n["flagged"], n["quotes"], n["facts_not_checked"]) == (2, 1, 3, 8)
