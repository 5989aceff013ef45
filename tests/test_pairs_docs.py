"""docs/pairs.md is true: its commands run, its codes, rules and names are the program's."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from test_readme import Shell, blocks

from medgemma_cli import errors
from medgemma_cli.pairing import moments
from medgemma_cli.safety import rulebook

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "pairs.md").read_text("utf-8")
COMMANDS = [line for block in blocks("", PAGE) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two films and two notes of one patient."""
    for name in ("films", "notes"):
        (tmp_path / name).mkdir()
    for i, image in enumerate(("phantom-chest.png", "he-like-tile.png"), 1):
        data = (ROOT / "raw" / "images" / image).read_bytes()
        (tmp_path / "films" / f"p1_2024010{i}.png").write_bytes(data)
        text = f"---\npatient: p1\ndate: 2024-01-0{i}\n---\nCough for {i} days.\n"
        (tmp_path / "notes" / f"{i}.md").write_text(text, "utf-8")
    return tmp_path


def test_commands_run(folder: Path) -> None:
    """One after the other, with the echo engine in place of the model."""
    shell = Shell(folder)
    shell.environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    assert len(COMMANDS) == 5
    for line in COMMANDS:
        done: subprocess.CompletedProcess[str] = shell(line)
        assert done.returncode == 0, (line, done.stderr)
    records = (folder / "compared" / "records.jsonl").read_text("utf-8").splitlines()
    assert len(records) == 2 and (folder / "compared" / "2.md.compared.md").is_file()


def test_codes_and_rules_are_the_programs() -> None:
    """Every code and rule that the page names is there, and the other way round."""
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    codes = {code for code in errors.FAULTS if code.startswith("pair_")}
    rules = {"quote_in_other_document", "quote_in_both", "pair_differs"}
    assert named == codes | rules and rules <= rulebook.names()


@pytest.mark.parametrize("text", ["2024-03-01", "20240301", "2024-03-01T10:30", "20240301_1030"])
def test_dates_of_the_page_are_read(text: str) -> None:
    """And those that it says are not, are not."""
    assert moments.moment(text) is not None
    for unclear in ("01/03/2024", "240301"):
        assert f"`{unclear}`" in PAGE and moments.moment(unclear) is None


def test_the_page_can_be_found() -> None:
    """From the README, and from the option's help."""
    assert "docs/pairs.md" in (ROOT / "README.md").read_text("utf-8")
    from medgemma_cli.commands import options

    assert "docs/pairs.md" in options.PairBy.__metadata__[0].help
