"""A document against itself, and sources that try the checker's patience."""

import time
from pathlib import Path

import pytest

from medgemma_cli.safety.grounding import check

NOTES = Path(__file__).parents[3] / "raw" / "notes"
FILES = sorted(path for path in NOTES.rglob("*") if path.suffix in (".md", ".txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_document_stands_in_itself(path: Path) -> None:
    """Every fact of a note is supported or not checked against the note; its language is known."""
    text = path.read_text("utf-8")
    findings = check(text, text)
    assert [flag.rule for flag in findings.flags if flag.severity != "note"] == []
    assert "not_checked_language" not in {flag.rule for flag in findings.flags}
    assert findings.counts["supported"] > 5 * findings.counts["not_checked"]


@pytest.mark.parametrize(
    "piece", ["a", "no ", "drug ", "(", "x2 ", "1/", "left ", ". ", "\n", "5 mg "]
)
def test_a_long_odd_source_is_read_in_time(piece: str) -> None:
    """Repetitions that could make a search slow do not."""
    start = time.perf_counter()
    check(piece * 4000, "Lisinopril 5 mg for the left knee.")
    assert time.perf_counter() - start < 5
