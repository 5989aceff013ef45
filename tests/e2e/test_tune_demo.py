"""The embedded model can be taught and exported, as `--model demo` is found by `run`."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROW = {"template": "general", "question": "Say amber.", "output": "AMBER."}


@pytest.mark.slow
@pytest.mark.usefixtures("demo_model")
def test_demo_is_tuned_and_exported(command: str, tmp_path: Path) -> None:
    """One step, a merge, and an answer of what came out; the model is named, no folder is."""
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    plain = ("-q", "--device", "cpu")
    base = ("--model", "demo", *plain)
    lines = (
        ("tune", "train.jsonl", "-o", "adapter", "--max-steps", "1", *base),
        ("export", "adapter", "--merge", "-o", "merged", *base),
        ("ask", "Say amber.", "--model", "merged", *plain, "--max-new-tokens", "4"),
    )
    for line in lines:
        done = subprocess.run(
            [command, *line],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
    told = json.loads((tmp_path / "merged" / "export.json").read_text())
    assert told["base"]["id"] == "demo" and told["compared"]["merged"]["greatest"] < 1
