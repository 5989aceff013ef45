"""docs/evaluation.md is true: its commands run, its lines of JSON are taken, its names exist."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from samples import failed, jsonl, ledger, lines, record, screened

from medgemma_cli.evaluating import bootstrap, calibration, caveats, checked, overlap, quiz
from medgemma_cli.evaluating.answers import _ASKED
from medgemma_cli.evaluating.questions import questions

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
(BLOCK,) = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
NAMES = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the commands name."""
    records = [record("ward/a.md"), failed("b.md")]
    for name in ("summaries", "before"):
        ledger(tmp_path / name, records)
    ledger(tmp_path / "screened", [screened(f"{i}.md", i / 10) for i in range(10)])
    reference = {"source": "ward/a.md", "reference": "Dry cough."}
    jsonl(tmp_path / "references.jsonl", reference)
    jsonl(tmp_path / "labels.jsonl", *({"source": f"{i}.md", "label": i % 2} for i in range(10)))
    jsonl(tmp_path / "scores.jsonl", {"score": 0.83, "label": 1}, {"score": 0.2, "label": 0})
    question = {"id": "1", "question": "?", "options": {"A": "x", "B": "y"}, "answer": "A"}
    jsonl(tmp_path / "questions.jsonl", question)
    return tmp_path


@pytest.mark.parametrize("line", BLOCK.splitlines())
def test_commands_run(folder: Path, line: str) -> None:
    """Each as it stands, with the echo engine in place of the model."""
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
            "HOME": str(folder),
            "MEDGEMMA_ENGINE": "echo",
        },
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr


def _examples(part: str) -> list[dict[str, object]]:
    indented = re.findall(r"^    (\{.*\})$", PAGE[PAGE.index(f"## {part}") :], re.MULTILINE)
    return [json.loads(line) for line in indented]


def test_examples_of_questions_are_questions() -> None:
    """Every line shown is taken, as what the text says it is."""
    found = questions(lines(*_examples("Questions")))
    kinds = ["canonical", "medqa", "medmcqa", "pubmedqa", "mmlu", "mmlu"]
    assert [question.data for question in found] == kinds


def test_examples_of_references_are_objects() -> None:
    """A name of some kind and a reference, each."""
    for row in _examples("Summaries")[:3]:
        assert {"source", "id", "sha256"} & set(row) and row["reference"]


def test_every_measure_is_explained() -> None:
    """And nothing is explained that is not there."""
    named = {"flagged" if n == "flag_RULE" else n for n in NAMES}
    screening = calibration.measures(calibration.screened([(0.5, 1), (0.4, 0)]), 0.5)
    there = {*overlap.NAMES, *checked.NAMES, *(m.name for m in screening)}
    there |= {m.name for m in quiz.measures([])}
    assert named == there


def test_prompts_are_as_told() -> None:
    """The sentence that ends each prompt stands in the text."""
    flat = " ".join(PAGE.split())
    assert _ASKED["letters"] in flat and _ASKED["generated"] in flat
    assert _ASKED["texts"].removeprefix("Answer as JSON with the field answer, the ") in flat


def test_numbers_are_as_told() -> None:
    """Resamples, bins, the least number of items, and the weakness of ROUGE."""
    assert f"{bootstrap.RESAMPLES:,} times" in PAGE
    assert f"{calibration.BINS} bins" in PAGE and f"Under {calibration.FEWEST} items" in PAGE
    assert "ICC 0.36" in PAGE and any("ICC 0.36" in words for words in caveats.OVERLAP)
    assert f"{bootstrap.RESAMPLES:,} resamples" in caveats.INTERVALS


def test_real_references_can_be_compared(tmp_path: Path) -> None:
    """ACI-Bench's visits as they are: matched by id though `source` is a transcript there."""
    data = Path(os.environ.get("MEDGEMMA_TEST_DATA", ROOT.parent / "shared" / "data"))
    visits = data / "aci-bench" / "valid.jsonl"
    if not visits.is_file():
        pytest.skip("no real documents here")
    from medgemma_cli.evaluating import references

    rows = [json.loads(line) for line in visits.read_text("utf-8").splitlines()][:4]
    records = [
        record(f"{row['id']}.txt", output={"summary": row["reference"].upper()}) for row in rows
    ]
    matched = references.match(records, lines(*rows), "reference")
    pairs = references.pairs(records, matched.values, "summary")
    assert matched.unmatched == 0 and len(pairs) == 4
    scores = overlap.rouge(pairs)
    assert all(value == pytest.approx(1) for values in scores.values() for value in values)
