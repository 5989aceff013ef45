"""Forty real documents through `run` with the tiny multimodal checkpoint."""

import shutil
import subprocess
from pathlib import Path

import jsonlines


def test_forty_real_documents(
    command: str, checkpoint: Path, real_data: Path, tmp_path: Path
) -> None:
    """Notes, transcripts, chest films, histology: every one ends as a record, none crashes."""
    inputs = tmp_path / "in"
    for name in ("notes", "transcripts", "images"):
        (inputs / name).mkdir(parents=True)
    with jsonlines.open(real_data / "aci-bench" / "valid.jsonl") as visits:
        for i, visit in zip(range(12), visits, strict=False):
            (inputs / "notes" / f"{i:02}.md").write_text(visit["reference"], "utf-8")
            (inputs / "transcripts" / f"{i:02}.txt").write_text(visit["source"], "utf-8")
    images = sorted((real_data / "images" / "cxr").iterdir())
    images += sorted((real_data / "images" / "histology").iterdir())
    for path in images[:16]:
        shutil.copy(path, inputs / "images")
    out = tmp_path / "out"
    result = subprocess.run(
        [
            command,
            *("run", str(inputs), "-o", str(out), "--model", str(checkpoint)),
            *("--precision", "fp32", "--device", "cpu", "--max-new-tokens", "300"),
            *("--on-long", "fail"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env={"PATH": "/usr/bin:/bin", "MEDGEMMA_CACHE": str(tmp_path / "cache"), "HOME": "/"},
    )
    # A long transcript may be over the tiny window: rejected, said, and exit 3.
    assert result.returncode in (0, 3), result.stderr
    assert "Traceback" not in result.stderr
    records = list(jsonlines.open(out / "records.jsonl"))
    assert len(records) == len({record["source"] for record in records}) == 40
    codes = {record["error"]["code"] for record in records if record["error"]}
    assert codes <= {"too_long"}
    for record in records:
        assert (out / record["summary"]).is_file()
        if record["media_type"].startswith("image/"):
            assert record["status"] in ("ok", "flagged")
            assert record["usage"]["images"] == 1
            assert "research use" in record["notice"]
