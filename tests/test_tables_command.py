"""`medgemma run` on tables, through the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from outcomes import ECHO, lines

ROWS = "id,text\nA,Left knee swollen.\nB,No fever.\nC,unquoted, comma\n"


def run(cli: Callable[..., Any], *args: object) -> Any:
    """Run on `in/`, into `out/`, with the engine that needs no model."""
    return cli("run", "in", "-o", "out", *ECHO, *args)


def test_rows_are_documents(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A record and a page a row, ids in both; a row put in front costs one inference."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "t.csv").write_text(ROWS)
    asked = ("--text-column", "text", "--id-column", "id")
    done = run(cli, *asked)
    assert done.returncode == 3, done.stderr  # a row is broken
    records = {r["source"]: r for r in lines(tmp_path / "out")}
    assert {s: r["custom_id"] for s, r in records.items()} == {
        "t.csv#1": "A",
        "t.csv#2": "B",
        "t.csv#3": None,
    }
    assert (tmp_path / "out" / "t.csv" / "A.md").is_file()
    assert records["t.csv#3"]["error"]["code"] == "row_broken"
    (folder / "t.csv").write_text(ROWS.replace("id,text\n", "id,text\nZ,First now.\n"))
    again = run(cli, *asked)
    assert "4 documents: 3 ok, 1 rejected; 1 generated, 2 unchanged" in again.stderr
    verified = cli("verify", "out")
    assert verified.returncode == 0, verified.stdout


def test_tables_and_archives_are_told_of(cli: Callable[..., Any], tmp_path: Path) -> None:
    """What was left out of a folder, and why; no name and no text of it."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.md").write_text("Slept well.\n")
    (folder / "t.csv").write_text(ROWS)
    (folder / "z.zip").write_bytes(b"PK")
    done = run(cli)
    assert done.returncode == 0
    hint = "(archives are not opened, tables need --text-column)"
    assert "skipped 2: 1 .csv, 1 .zip " + hint in done.stderr


def test_usage(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A table named outright needs a column, and one that is there; an id goes with a text."""
    (tmp_path / "t.csv").write_text(ROWS)
    for args in ([], ["--text-column", "note"], ["--id-column", "id"]):
        done = cli("run", "t.csv", "-o", "out", *ECHO, *args)
        assert done.returncode == 2 and "--text-column" in done.stderr
    assert not (tmp_path / "out").exists()
