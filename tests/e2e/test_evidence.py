"""The promises of the contract on real documents: the benchmark's own checks, over ten of them."""

from pathlib import Path

import evidence
import pytest

FEW = 5


@pytest.mark.usefixtures("demo_model")
def test_ten_real_documents(real_data: Path, tmp_path: Path) -> None:
    """Every answer fits its schema and is whole, every quote stands where the record says."""
    wanted = {f"mts-dialog/{i:03}-{field}" for i in range(FEW) for field in ("source", "reference")}
    for name, text in evidence.texts(real_data):
        if name.removesuffix(".txt") in wanted:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(text.encode())
    code = evidence.run(tmp_path / "in", tmp_path / "out", "demo", ["--max-new-tokens", "320"])
    count = evidence.check(tmp_path / "in", tmp_path / "out")
    assert code == 0
    assert count["documents"] == count["answers"] == count["valid"] == 2 * FEW
    assert count["cut"] == 0
    assert count["quotes"] == count["verbatim"] >= 2 * FEW


def test_a_broken_record_is_seen(tmp_path: Path) -> None:
    """The check is no rubber stamp: a moved offset, a cut answer and a lost field are counted."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("BP 160/95 mmHg today, no chest pain at all.")
    assert evidence.run(tmp_path / "in", tmp_path / "out", "demo", ["--engine", "echo", "-q"]) == 0
    ledger = tmp_path / "out" / "records.jsonl"
    line = ledger.read_text()
    fine = evidence.check(tmp_path / "in", tmp_path / "out")
    assert (fine["valid"], fine["cut"]) == (1, 0)
    assert fine["quotes"] == fine["verbatim"] > 0
    for old, new in (('"start":0', '"start":1'), ('\\"}"', '\\""'), ("medications", "medicines")):
        assert old in line, old
        ledger.write_text(line.replace(old, new))
        count = evidence.check(tmp_path / "in", tmp_path / "out")
        wrong = (
            count["quotes"] - count["verbatim"],
            count["cut"],
            count["answers"] - count["valid"],
        )
        assert sum(wrong) > 0, old
