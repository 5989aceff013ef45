"""Two runs over the same documents: pairs, differences, what changed, and the gate."""

import pytest
from samples import failed, flag, record

from medgemma_cli.errors import UsageError
from medgemma_cli.evaluating import checked, comparing
from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.comparing import Delta, Gate, Group, Paired
from medgemma_cli.records import Record


def compared(before: list[Record], after: list[Record]) -> tuple[Paired, Group]:
    """The pairs, and what the checks found on both sides."""
    paired = comparing.pair(before, after)
    rules = checked.rules(paired.before) | checked.rules(paired.after)
    sides = [checked.measures(side, rules) for side in (paired.before, paired.after)]
    return paired, Group(*sides, list(range(len(paired.before))))


def delta(change: float | None, better: str = "higher") -> Delta:
    """A difference, its interval of no matter."""
    return Delta(0.5, 0.5, Figure("m", "m", 9, change), better)


def test_pairs_are_by_place_whatever_the_order() -> None:
    """Sorted by name on both sides."""
    before, after = [record("b"), record("a")], [record("a"), record("b")]
    paired = comparing.pair(before, after)
    assert [r.source for r in paired.before] == [r.source for r in paired.after] == ["a", "b"]
    assert (paired.other, paired.alone) == (0, 0)


def test_what_cannot_be_paired_is_counted() -> None:
    """Other bytes under one name, and names in one folder only."""
    before = [record("a"), record("b", sha256="old"), record("c")]
    after = [record("a"), record("b", sha256="new"), record("d"), record("e")]
    paired = comparing.pair(before, after)
    assert len(paired.before) == 1 and (paired.other, paired.alone) == (1, 3)


def test_a_file_that_was_not_read_is_paired_by_name() -> None:
    """It has no hash; that it failed is what is to be compared."""
    paired = comparing.pair([record("a")], [failed("a", sha256=None)])
    assert len(paired.before) == 1 and paired.other == 0


def test_two_roots_with_one_name_are_two_documents() -> None:
    """The place in the folder tells them apart, where the name does not."""
    both = [record("a.md", summary="a.md"), record("a.md", summary="a-1234.md", sha256="other")]
    assert len(comparing.pair(both, both).before) == 2


def test_differences_are_after_less_before() -> None:
    """One more of four is flagged."""
    before = [record(name) for name in "abcd"]
    after = [*before[:3], record("d", status="flagged", flags=(flag("x"),))]
    _, group = compared(before, after)
    deltas = {one.change.name: one for one in comparing.deltas(group, 0)}
    one = deltas["flagged"]
    assert (one.before, one.after, one.change.value, one.change.n) == (0, 0.25, 0.25, 4)
    assert one.change.low == 0 and one.change.high is not None and one.change.high >= 0.5
    assert deltas["flag_x"].change.value == 0.25 and deltas["failed"].change.value == 0


def test_the_same_twice_is_no_difference() -> None:
    """Zero, with an interval of zero, and no document changed."""
    same = [record("a", flags=(flag("x"),)), failed("b")]
    paired, group = compared(same, same)
    for one in comparing.deltas(group, 0):
        assert one.change.value in (0, None)
    assert comparing.changes(paired, [group]) == []


def test_exchanged_sides_turn_the_sign() -> None:
    """B less A is minus A less B, bounds and all."""
    before = [record(name) for name in "abcde"]
    after = [
        record(n, status="flagged", flags=(flag("x"),)) if n in "ab" else record(n) for n in "abcde"
    ]
    there = {one.change.name: one.change for one in comparing.deltas(compared(before, after)[1], 0)}
    back = {one.change.name: one.change for one in comparing.deltas(compared(after, before)[1], 0)}
    one, other = there["flagged"], back["flagged"]
    assert one.value is not None and one.low is not None and one.high is not None
    assert (other.value, other.low, other.high) == (-one.value, -one.high, -one.low)


def test_what_changed_in_a_document() -> None:
    """Status, flags gained and lost, and what its own figures moved by."""
    before = [record("a", status="flagged", flags=(flag("x"), flag("y"))), record("b")]
    after = [record("a", flags=(flag("z"),), omissions=("latex",)), record("b")]
    (change,) = comparing.changes(*_with_list(compared(before, after)))
    assert (change.source, change.before, change.after) == ("a", "flagged", "ok")
    assert (change.gained, change.lost) == (("z",), ("x", "y"))
    assert change.deltas["omissions"] == 1 and change.deltas["flagged"] == -1
    assert "failed" not in change.deltas


def _with_list(both: tuple[Paired, Group]) -> tuple[Paired, list[Group]]:
    return both[0], [both[1]]


def test_a_group_may_be_of_some_documents() -> None:
    """Figures over fewer documents land at the right ones."""
    from medgemma_cli.evaluating.measures import ratio

    records = [record(name) for name in "abc"]
    paired = comparing.pair(records, records)
    old, new = ratio("f", "f", "higher", [0.5, 0.5]), ratio("f", "f", "higher", [0.5, 0.75])
    (change,) = comparing.changes(paired, [Group([old], [new], [0, 2])])
    assert change.source == "c" and change.deltas == {"f": 0.25}
    assert comparing.deltas(Group([old], [new], [0, 2]), 0)[0].change.n == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rougeL", Gate("rougeL", 0.0)),
        ("rougeL:0.02", Gate("rougeL", 0.02)),
        ("bleu:1", Gate("bleu", 1.0)),
        ("rougeL:", Gate("rougeL", 0.0)),
    ],
)
def test_a_gate_as_it_is_typed(text: str, expected: Gate) -> None:
    """A name, and maybe a margin."""
    assert comparing.gate(text, ["rougeL", "bleu"]) == expected


@pytest.mark.parametrize("text", ["rouge", "", ":0.1", "ROUGEL"])
def test_an_unknown_measure_is_2_with_the_list(text: str) -> None:
    """What there is, is said."""
    with pytest.raises(UsageError) as caught:
        comparing.gate(text, ["rougeL", "bleu"])
    assert caught.value.exit_code == 2 and "rougeL, bleu" in caught.value.next_step


@pytest.mark.parametrize("margin", ["x", "-0.1", "nan", "inf", "0.1:0.2"])
def test_a_margin_is_a_number_from_0(margin: str) -> None:
    """A margin below nothing would ask for an improvement."""
    with pytest.raises(UsageError, match="margin"):
        comparing.gate(f"bleu:{margin}", ["bleu"])


@pytest.mark.parametrize(
    ("change", "better", "margin", "worse"),
    [
        (-0.02, "higher", 0.0, True),
        (-0.02, "higher", 0.02, False),  # by more than the margin, not by as much
        (-0.021, "higher", 0.02, True),
        (0.5, "higher", 0.0, False),
        (0.0, "higher", 0.0, False),
        (0.05, "lower", 0.0, True),
        (0.05, "lower", 0.1, False),
        (-0.05, "lower", 0.0, False),
        (None, "higher", 5.0, True),
    ],
)
def test_the_gate(change: float | None, better: str, margin: float, worse: bool) -> None:
    """By the difference itself; what cannot be told is worse."""
    assert comparing.is_worse(Gate("m", margin), delta(change, better)) is worse


def test_a_measure_that_is_not_there_is_worse() -> None:
    """No document has a reference: a gate is not green for want of data."""
    assert comparing.is_worse(Gate("rougeL", 0.5), None)
