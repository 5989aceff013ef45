"""Lines of JSON and the documents that they mean; nothing of a line reaches an error."""

from typing import Any

import pytest
from samples import failed, lines, record

from medgemma_cli.errors import UsageError
from medgemma_cli.evaluating import references
from medgemma_cli.evaluating.lines import Line, need_label, need_score, objects

CANARY = "CANARY7Q"
RECORDS = [record("ward/a.md"), record("ward/b.txt"), record("c.md", custom_id="visit-7")]


def match(*rows: dict[str, Any]) -> tuple[list[Any], int]:
    """What the rows say of the records."""
    found = references.match(RECORDS, lines(*rows), "reference")
    return found.values, found.unmatched


@pytest.mark.parametrize(
    ("row", "at"),
    [
        ({"source": "ward/a.md"}, 0),
        ({"sha256": "sha of ward/b.txt"}, 1),
        ({"id": "visit-7"}, 2),
        ({"id": "b"}, 1),  # the name without folder and ending
        ({"id": "nobody", "source": "c.md"}, 2),
        # A data set's own field called source (a transcript) does no harm.
        ({"id": "a", "source": "Doctor: hello."}, 0),
        ({"sha256": "sha of c.md", "id": "a"}, 2),  # bytes say most
        ({"id": 7, "source": "c.md"}, 2),
    ],
)
def test_a_line_means_a_record(row: dict[str, Any], at: int) -> None:
    """By hash, id or name, in this order."""
    values, unmatched = match({**row, "reference": "x"})
    assert values == ["x" if i == at else None for i in range(3)] and unmatched == 0


def test_a_custom_id_comes_before_a_file_name() -> None:
    """An id that somebody gave wins over one that a name happens to have."""
    both = [record("visit.md"), record("x.md", custom_id="visit")]
    found = references.match(both, lines({"id": "visit", "reference": "r"}), "reference")
    assert found.values == [None, "r"]


def test_a_line_of_no_document_is_counted() -> None:
    """A reference set may be larger than a folder."""
    assert match({"source": "gone.md", "reference": "x"}) == ([None, None, None], 1)


def test_the_same_bytes_twice() -> None:
    """A hash means every record of these bytes."""
    twins = [record("a.md", sha256="s"), record("b.md", sha256="s")]
    found = references.match(twins, lines({"sha256": "s", "reference": "r"}), "reference")
    assert found.values == ["r", "r"]


@pytest.mark.parametrize(
    ("rows", "number", "why"),
    [
        ([{"reference": "x"}], 1, "no source, id or sha256"),
        ([{"source": 5, "reference": "x"}], 1, "no source, id or sha256"),
        (
            [{"source": "c.md", "reference": "x"}, {"id": "c", "reference": "y"}],
            2,
            "line 1 already",
        ),
    ],
)
def test_lines_that_cannot_be_meant(rows: list[dict[str, Any]], number: int, why: str) -> None:
    """Refused with the line's number."""
    with pytest.raises(UsageError, match=f"Line {number}: .*{why}") as caught:
        match(*rows)
    assert caught.value.exit_code == 2


def test_an_id_of_several_documents_is_refused() -> None:
    """a.md and ward/a.txt are both called a; guessing would be worse than asking."""
    records = [record("a.md"), record("ward/a.txt")]
    with pytest.raises(UsageError, match=r"Line 1: .*several documents"):
        references.match(records, lines({"id": "a", "reference": "x"}), "reference")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Dry cough.", "Dry cough."),
        ("", ""),
        (["one", "two"], "one\ntwo"),
        ([{"quote": "q", "statement": "one"}, {"statement": "two"}], "one\ntwo"),
        ([], ""),
        ({"quote": "q", "statement": "one"}, "one"),
        ([{"analyte": "K"}], None),
        (5, None),
        (None, None),
        (["one", 2], None),
    ],
)
def test_text_of_a_field(value: Any, expected: str | None) -> None:
    """Texts as they are, lists as lines, findings as their statements, no other things."""
    assert references.text_of({"field": value}, "field") == expected
    assert references.text_of(None, "field") is None


def test_what_failed_is_compared_as_nothing() -> None:
    """Failing never raises a score; another template's output is left out."""
    records = [record("a"), failed("b"), record("c", output={"answer": "yes"}), record("d")]
    found = references.pairs(records, ["r1", "r2", "r3", None], "summary")
    assert found == [("Dry cough.", "r1"), ("", "r2")]


def test_a_field_that_nothing_has_is_refused() -> None:
    """With the fields that there are, since those are names and no text."""
    references.check_field(RECORDS, "summary")
    references.check_field([failed()], "anything")  # nothing has an output to say otherwise
    records = [record(output={"answer": "yes", "count": 5})]
    with pytest.raises(UsageError) as caught:
        references.check_field(records, "summary")
    assert caught.value.next_step == "There are: answer."


def test_objects_with_their_numbers() -> None:
    """Empty lines count and are passed over; a BOM is honoured on the first."""
    raw = [b"\xef\xbb\xbf" + b'{"a": 1}\n', b"\n", b"  \r\n", '{"a": "é"}\n'.encode()]
    assert list(objects(raw)) == [Line(1, {"a": 1}), Line(4, {"a": "é"})]


@pytest.mark.parametrize(
    "raw",
    [
        b"[1]",
        b'"text"',
        b"5",
        b"null",
        b"{",
        b'{"a": "\xff"}',
        b'{"a": "\xef\xbb\xbf',
        b"[" * 5000,
        f'{{"a": {CANARY}}}'.encode(),
    ],
)
def test_a_line_that_is_no_object(raw: bytes) -> None:
    """Named by its number; its text is not quoted."""
    with pytest.raises(UsageError, match="Line 2: it is no JSON object") as caught:
        list(objects([b"{}\n", raw]))
    assert CANARY not in caught.value.message + caught.value.next_step


@pytest.mark.parametrize("label", [2, -1, "1", None, 0.5, [], "yes"])
def test_labels_are_0_or_1(label: Any) -> None:
    """Anything else is refused."""
    need_label(Line(1, {"label": 0}))
    need_label(Line(1, {"label": True}))
    with pytest.raises(UsageError, match="Line 3"):
        need_label(Line(3, {"label": label}))


@pytest.mark.parametrize("score", [1.5, -0.1, "0.5", None, float("nan"), float("inf"), True])
def test_scores_are_probabilities(score: Any) -> None:
    """Logits, percentages and NaN are refused."""
    need_score(Line(1, {"score": 0}))
    need_score(Line(1, {"score": 1.0}))
    with pytest.raises(UsageError, match="Line 3"):
        need_score(Line(3, {"score": score}))


def test_a_reference_is_a_text() -> None:
    """A list of references is not meant: one a document."""
    references.need_reference(Line(1, {"reference": ""}))
    with pytest.raises(UsageError, match="Line 1: its reference"):
        references.need_reference(Line(1, {"reference": ["a", "b"]}))
