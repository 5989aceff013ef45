"""Files of chat requests: which they are, and what each of their lines comes to."""

from pathlib import Path

import pytest
from batch_kit import Line, body, request, write

from medgemma_cli.batch import source_of
from medgemma_cli.discover import check_tables
from medgemma_cli.errors import UsageError
from medgemma_cli.readers import tables
from medgemma_cli.records import Source

BYTES = 50_000_000


def found(path: Path, models: set[str] | None = None, most: int = BYTES) -> list[Source]:
    """The sources of a file's lines."""
    return list(tables.request_sources(source_of(str(path)), most, models))


def told(lines: list[Line | str], folder: Path, models: set[str] | None = None) -> list[str]:
    """Of each line its error, or `ok`."""
    return [one.error or "ok" for one in found(write(folder / "b.jsonl", lines), models)]


def test_a_line_is_a_source(tmp_path: Path) -> None:
    """Named by its id, and by its number in the file, blank lines counted."""
    path = write(tmp_path / "b.jsonl", ["", request("A-1"), request("../B", "x")])
    first, second = found(path)
    assert (first.relative, first.name, first.custom_id) == ("b.jsonl#2", "b.jsonl/A-1", "A-1")
    assert second.custom_id == "../B" and second.name is not None
    assert second.name.startswith("b.jsonl/") and ".." not in second.name.split("/")
    assert first.row is not None and first.row.request
    assert tables.table_of(first.origin) == str(path) and tables.number_of(first.origin) == "2"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nonsense", "row_broken"),
        ("[1]", "row_broken"),
        ("[" * 100_000, "row_broken"),
        ({"method": "POST"}, "no_custom_id"),
        ({**request(7)}, "no_custom_id"),
        ({**request(" ")}, "no_custom_id"),
        ({**request("x" * 10_001)}, "no_custom_id"),
        ({**request("a"), "method": "GET"}, "request_url"),
        ({**request("a"), "url": "/v1/embeddings"}, "request_url"),
        ({**request("a"), "url": None}, "request_url"),
        ({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}, "request_body"),
        ({**request("a"), "body": [body()]}, "request_body"),
        (request("a", model="other"), "request_model"),
        (request("a", model=7), "request_model"),
        (request("a", model="mine"), "ok"),
        (request("a", model=None), "ok"),
        (request("a"), "ok"),
    ],
)
def test_lines_that_are_no_requests(tmp_path: Path, line: Line | str, code: str) -> None:
    """Fault 123: each costs itself, with its code."""
    assert told([request("first"), line, request("last")], tmp_path, {"mine"}) == ["ok", code, "ok"]


def test_an_id_that_comes_twice(tmp_path: Path) -> None:
    """The first has it; the other is refused, and keeps it for the results."""
    path = write(tmp_path / "b.jsonl", [request("A"), request("A", "other")])
    first, second = found(path)
    assert (first.error, second.error) == (None, "duplicate_id")
    assert second.custom_id == "A" and first.name != second.name


def test_a_line_over_the_limit(tmp_path: Path) -> None:
    """It is passed over; those around it are read."""
    path = write(tmp_path / "b.jsonl", [request("A"), request("B", "x" * 900), request("C")])
    assert [one.error for one in found(path, most=600)] == [None, "too_large", None]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """They cost their line."""
    path = tmp_path / "b.jsonl"
    write(path, [request("A")])
    path.write_bytes(path.read_bytes() + b'{"custom_id": "\xff"}\n')
    assert [one.error for one in found(path)] == [None, "encoding"]


def test_a_file_that_went_away(tmp_path: Path) -> None:
    """One source for the file, which says so."""
    (only,) = found(tmp_path / "b.jsonl")
    assert only.error == "vanished" and only.row is None


def test_which_files_have_requests(tmp_path: Path) -> None:
    """By content, a broken first line or not; other tables have none."""

    def has(lines: list[Line | str], name: str = "b.jsonl") -> bool:
        return tables.has_requests(str(write(tmp_path / name, lines)), BYTES)

    assert has([request("A")]) and has(["nonsense", {"custom_id": 7, "body": 7}])
    assert not has([{"text": "A note."}]) and not has([]) and not has(["nonsense"])
    assert not has([request("A")], "b.json") and not has([request("A")], "b.csv")
    assert not tables.has_requests(str(tmp_path / "none.jsonl"), BYTES)


def test_run_tells_of_requests(tmp_path: Path) -> None:
    """Named outright without a column, they are told from tables."""
    path = write(tmp_path / "b.jsonl", [request("A")])
    with pytest.raises(UsageError, match="chat requests"):
        check_tables([str(path)], None)
    check_tables([str(path)], tables.Columns("custom_id"))  # as a table, if that is wanted
