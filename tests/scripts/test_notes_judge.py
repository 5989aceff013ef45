"""The comparison on real notes: what is written, what is read back, and how it is averaged."""

from pathlib import Path

import jsonlines
import pytest

from scripts.build_demo import notes_judge
from scripts.build_demo.golds import NOTHING


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two conversations in each set."""
    for name, path in notes_judge.SETS.items():
        (tmp_path / "data" / path).parent.mkdir(parents=True)
        with jsonlines.open(tmp_path / "data" / path, "w") as lines:
            for number in range(2):
                source = f"The cough is {number + 2} days old.\nDoctor: How long? {name}"
                lines.write({"source": source, "reference": "The cough is 2 days old."})
    return tmp_path / "data"


def test_conversations_and_references(data: Path, tmp_path: Path) -> None:
    """A file each, and a line each that names it."""
    notes_judge.write(data, tmp_path)
    for name in notes_judge.SETS:
        assert len(list((tmp_path / "in" / name).iterdir())) == 2
        lines = list(jsonlines.open(tmp_path / f"{name}.jsonl"))
        assert [line["id"] for line in lines] == ["000", "001"]


def test_runs_are_measured(data: Path, tmp_path: Path) -> None:
    """With the engine that has no model: figures of every set, the same for the same outputs."""
    notes_judge.write(data, tmp_path)
    for name in notes_judge.SETS:
        done = notes_judge.medgemma(
            "run", str(tmp_path / "in" / name), "-o", str(tmp_path / "bare" / name),
            "--engine", "echo",
        )  # fmt: skip
        assert done.returncode == 0
    found = notes_judge.figures(tmp_path, "bare")
    assert all(one["documents"] == 2 and 0 < one["rouge1"] <= 1 for one in found.values())
    assert notes_judge.table(found, found).count("\n") == 5
    read = notes_judge.records(tmp_path, "bare")
    assert len(read) == 6 and notes_judge.silence(read, read)["nothing_said"] == 0


def test_who_says_nothing_is_counted() -> None:
    """Flags are counted over the documents of which something is said."""
    little = {"output": {"summary": NOTHING}, "status": "ok"}
    more = {"output": {"summary": f"{NOTHING} He coughs."}, "status": "flagged"}
    failed = {"output": None, "status": "failed"}
    demo = {"a": little, "b": more, "c": failed}
    bare = {"a": more, "b": little, "c": more}
    assert notes_judge.silence(bare, demo) == {
        "documents": 3,
        "nothing_said": 1,
        "flagged_of_others_bare": 1,
        "flagged_of_others_demo": 1,
    }


def test_means_are_over_documents() -> None:
    """A set of 30 counts three times as much as one of 10."""
    found = {"a": {"documents": 10, "x": 1.0}, "b": {"documents": 30, "x": 0.0}}
    assert notes_judge.over_all(found, "x") == pytest.approx(0.25)


def test_a_run_that_fails_is_told(tmp_path: Path) -> None:
    """Its code, and no figures."""
    with pytest.raises(SystemExit, match="bare on aci-bench ended with"):
        notes_judge.run(tmp_path, "bare", "no such model")
