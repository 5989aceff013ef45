"""Sources read again as they were read then: rows by id or number, limits and columns on record."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pdfs
import pytest
from batch_kit import answered, png, request, write

from medgemma_cli import readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.readers import ReadLimits
from medgemma_cli.readers.pool import InProcess
from medgemma_cli.readers.tables import Columns
from medgemma_cli.records import Limits
from medgemma_cli.rereading import Rereading

ROWS = "id,note\nA,Left knee swollen after a fall.\nB,No fever since Monday at all.\n"
COLUMNS = Columns("note", None, "id")


def summarised(folder: Path, out: Path, columns: Columns = COLUMNS, **limits: Any) -> None:
    """A run over a folder."""
    read = ReadLimits(**limits)
    job = Job(templates.load("summarize"), Limits(max_new_tokens=700), read, fsync=False)
    asked = columns._replace(encoding=read.encoding, max_bytes=read.max_bytes)
    with Ledger(out, fsync=False) as ledger:
        run = Run(job, ledger, EchoEngine(), SilentReporter())
        run.execute(Discovery([str(folder)], readers.SUFFIXES, columns=asked))


def differences(out: Path) -> tuple[list[tuple[str, str]], Counter[str]]:
    """What differs, and what was looked at; with the limits of a command that says nothing."""
    counts: Counter[str] = Counter()
    with Ledger(out, read_only=True) as ledger:
        found = list(Rereading(ledger, InProcess(), ReadLimits(), counts).differences())
    return found, counts


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table in a folder of its own."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "t.csv"
    path.write_text(ROWS)
    return path


def test_rows_are_read_again(table: Path, tmp_path: Path) -> None:
    """Each row is found, its quotes too, wherever it stands now: it has an id."""
    summarised(table.parent, tmp_path / "out")
    assert differences(tmp_path / "out") == ([], Counter(sources=2))
    head, first, second = ROWS.splitlines(keepends=True)
    table.write_text(head + second + "Z,Another.\n" + first)
    assert differences(tmp_path / "out") == ([], Counter(sources=2))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace("knee", "hip"), [("source_changed", "t.csv#1")]),
        (lambda text: text.replace("A,", "C,"), [("source_gone", "t.csv#1")]),
        (lambda text: text.replace("fall.", "fall, yes."), [("source_gone", "t.csv#1")]),
        (
            lambda text: text.replace("note", "words"),
            [("source_changed", f"t.csv#{n}") for n in (1, 2)],
        ),
        (
            lambda text: text.replace("Left knee swollen after a fall.", ""),
            [("source_changed", "t.csv#1")],
        ),
        (lambda text: "", [("source_changed", f"t.csv#{n}") for n in (1, 2)]),
    ],
    ids=["other text", "other id", "broken", "column gone", "emptied", "file emptied"],
)
def test_rows_that_changed(
    table: Path, tmp_path: Path, change: Callable[[str], str], expected: list[tuple[str, str]]
) -> None:
    """Fault 129: each is named with what became of it."""
    summarised(table.parent, tmp_path / "out")
    table.write_text(change(ROWS))
    assert sorted(differences(tmp_path / "out")[0]) == expected


def test_a_table_that_went_away(table: Path, tmp_path: Path) -> None:
    """All its rows did."""
    summarised(table.parent, tmp_path / "out")
    table.unlink()
    assert [kind for kind, _ in differences(tmp_path / "out")[0]] == ["source_gone"] * 2


def test_rows_without_ids(table: Path, tmp_path: Path) -> None:
    """They are found by their numbers: one put in front changes them all."""
    summarised(table.parent, tmp_path / "out", COLUMNS._replace(id=None))
    assert differences(tmp_path / "out") == ([], Counter(sources=2))
    table.write_text(ROWS.replace("note\n", "note\nZ,Another.\n"))
    assert [kind for kind, _ in differences(tmp_path / "out")[0]] == ["source_changed"] * 2


def test_rows_with_images(tmp_path: Path) -> None:
    """An image that changed or went away is one, too."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(9))
    (folder / "t.csv").write_text("note,film\nA film.,a.png\n")
    (folder / "a.png").rename(folder / "film-a")  # it would be a document of its own
    (folder / "pictures").mkdir()
    (folder / "film-a").rename(folder / "pictures" / ".a.png")
    (folder / "t.csv").write_text("note,film\nA film.,pictures/.a.png\n")
    job = Job(templates.load("general"), Limits(max_new_tokens=700), fsync=False)
    out = tmp_path / "out"
    with Ledger(out, fsync=False) as ledger:
        run = Run(job, ledger, EchoEngine(), SilentReporter())
        run.execute(Discovery([str(folder)], readers.SUFFIXES, columns=Columns("note", "film")))
    assert differences(out) == ([], Counter(sources=1))
    (folder / "pictures" / ".a.png").write_bytes(png(10))
    assert differences(out)[0] == [("source_changed", "t.csv#1")]
    (folder / "pictures" / ".a.png").unlink()
    assert differences(out)[0] == [("source_gone", "t.csv#1")]


def test_requests_are_read_again(tmp_path: Path) -> None:
    """Lines of a file of chat requests are found by their ids."""
    path = write(tmp_path / "b.jsonl", [request("a", "One."), request("b", "Two.")])
    answered(path, tmp_path / "out")
    write(path, [request("b", "Two."), request("a", "One, changed.")])
    assert differences(tmp_path / "out") == ([("source_changed", "b.jsonl#1")], Counter(sources=2))


def test_limits_are_those_of_the_run(tmp_path: Path) -> None:
    """A PDF over the default limit, and a text in another encoding, are read as they were."""
    folder = tmp_path / "in"
    folder.mkdir()
    pages = [pdfs.text("Dry cough since Monday, no fever."), *[pdfs.Page()] * 1001]
    (folder / "a.pdf").write_bytes(pdfs.pdf(pages))
    (folder / "b.txt").write_bytes("Señora Pérez has a cough today.".encode("latin-1"))
    summarised(folder, tmp_path / "out", max_pages=2000, encoding="iso8859-1")
    assert differences(tmp_path / "out") == ([], Counter(sources=2))


def test_records_that_do_not_say_how(table: Path, tmp_path: Path) -> None:
    """Those of earlier versions: files with the limits given, rows not at all; counted."""
    (table.parent / "a.md").write_text("Dry cough since Monday.\n")
    summarised(table.parent, tmp_path / "out")
    path = tmp_path / "out" / "records.jsonl"
    path.write_text(path.read_text().replace('"reading":{', '"unread":{'))
    expected = Counter({"sources": 1, "sources not checked": 2})
    assert differences(tmp_path / "out") == ([], expected)
