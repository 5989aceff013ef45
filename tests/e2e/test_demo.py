"""The real 270M model through the installed command."""

import json
import subprocess
from pathlib import Path

import jsonlines
import pytest

from medgemma_cli import templates
from scripts.build_demo import judge

NOTE = """# Clinic note

72-year-old man with atrial fibrillation. Apixaban 5 mg BD, bisoprolol 2.5 mg OD.
No chest pain. BP 138/76 mmHg, pulse 68 irregular. Left ankle swelling for 3/52.
Plan: bloods in 2 weeks, echo, review in 6 weeks.
"""


def run(command: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command's result."""
    return subprocess.run(
        [command, *arguments], input=stdin, capture_output=True, text=True, timeout=900
    )


@pytest.mark.usefixtures("demo_model")
def test_run_summarises_and_resumes(command: str, tmp_path: Path) -> None:
    """Two notes and an image: filled fields that are no copy of the prompt; all done at once."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.md").write_text(NOTE)
    (notes / "b.txt").write_text(NOTE.replace("72-year-old man", "65-year-old woman"))
    (notes / "film.png").write_bytes(
        (Path(__file__).parents[2] / "raw" / "images" / "he-like-tile.png").read_bytes()
    )
    out = tmp_path / "out"
    arguments = ("run", str(notes), "-o", str(out), "--model", "demo", "--max-new-tokens", "200")
    first = run(command, *arguments)
    assert first.returncode == 0, first.stderr
    records = list(jsonlines.open(out / "records.jsonl"))
    by_source = {record["source"]: record for record in records}
    assert len(records) == len(by_source) == 3
    seen = by_source["film.png"]
    assert seen["status"] in ("ok", "flagged") and seen["usage"]["images"] == 1
    assert seen["output"]["summary"] and seen["output"]["key_findings"]
    asked = templates.load("summarize").body
    for name in ("a.md", "b.txt"):
        record = by_source[name]
        assert record["status"] in ("ok", "flagged"), record["error"]
        assert len(record["output"]["summary"]) >= 8
        assert record["output"]["key_findings"]
        assert record["output"]["summary"] not in asked
        assert (out / record["summary"]).is_file()
        assert record["model"]["id"] == "demo"
    second = run(command, *arguments)
    assert (second.returncode, len(list(jsonlines.open(out / "records.jsonl")))) == (0, 3)
    assert "nothing to do" in second.stderr


@pytest.mark.usefixtures("demo_model")
def test_ask_streams_the_answer_alone(command: str) -> None:
    """Standard output has the answer, standard error the notice; the piped note is the document."""
    asked = ("ask", "What is the pulse?", "--model", "demo", "--max-new-tokens", "24")
    result = run(command, *asked, stdin=NOTE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert "does not diagnose" in result.stderr
    assert "does not diagnose" not in result.stdout


@pytest.mark.usefixtures("demo_model")
def test_it_sees(command: str, tmp_path: Path) -> None:
    """Of twelve fresh drawings it calls ten rightly; made blank, hardly one stays yes.

    And of eight it says by `summarize` what they are.
    """
    made = judge.judge(tmp_path, "demo", 77, 12, ["-q"], described=8)
    with jsonlines.open(tmp_path / "scores.jsonl") as lines:
        right = sum((line["score"] >= 0.5) == line["label"] for line in lines)
    assert right >= 10
    assert made["answered_yes"] >= 4 and made["flipped"] >= made["answered_yes"] - 1
    assert made["described_rightly"]["kind"] >= 7 / 8
    assert made["described_rightly"]["label"] >= 5 / 8


@pytest.mark.slow
@pytest.mark.usefixtures("demo_model")
def test_twelve_real_notes(command: str, real_data: Path, tmp_path: Path) -> None:
    """Every one ends as a record that parses, quotes or flags, and none is lost."""
    notes = tmp_path / "notes"
    notes.mkdir()
    with jsonlines.open(real_data / "aci-bench" / "valid.jsonl") as visits:
        for i, visit in zip(range(12), visits, strict=False):
            (notes / f"{i:02}.md").write_text(visit["reference"], "utf-8")
    out = tmp_path / "out"
    result = run(command, "run", str(notes), "-o", str(out), "--model", "demo", "--json")
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 12
    assert {record["status"] for record in records} <= {"ok", "flagged"}
    for record in records:
        text = (notes / record["source"]).read_text("utf-8")
        for quote in record["quotes"]:
            assert text[quote["start"] : quote["end"]] == quote["text"]
