"""docs/tuning.md is true: its commands run, its examples are taken, its options are there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lessons_kit as kit
import pytest
from lessons_kit import run

from medgemma_cli.commands.lessons import read

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "tuning.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
EXAMPLES = [json.loads(line) for line in re.findall(r"^    (\{.*\})$", PAGE, re.MULTILINE)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the commands and the examples name."""
    kit.write(tmp_path / "train.jsonl", EXAMPLES)
    kit.draw(tmp_path / "film.png", 90)
    for name in ("notes", "held-out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text("Bisoprolol was stopped.")
    (tmp_path / "note.md").write_text("Bisoprolol was stopped.")
    kit.write(tmp_path / "references.jsonl", [{"source": "a.md", "reference": "Stopped."}])
    return tmp_path


def test_examples_are_examples(folder: Path) -> None:
    """Every line shown is taken, images and all."""
    found = read(folder / "train.jsonl", "The file").examples
    assert len(found) == len(EXAMPLES) == 5
    assert sum(len(example.pictures) for example in found) == 2


def test_commands_run(folder: Path, checkpoint: Path) -> None:
    """One after the other: the tiny checkpoint is tuned, the echo engine answers."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
        "HOME": str(folder),
        "MEDGEMMA_ENGINE": "echo",
        "MEDGEMMA_MODEL": str(checkpoint),
        "MEDGEMMA_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    for line in COMMANDS:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (line, done.stderr)
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()


def test_defaults_are_as_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of the table is an option, with that default."""
    import typer

    from medgemma_cli.cli import app

    (command,) = [
        made
        for name, made in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        if name == "tune"
    ]
    defaults = {name: option.default for option in command.params for name in option.opts}
    rows = re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
    told = {
        name: value
        for names, values in rows
        for name, value in zip(re.findall(r"`(--[\w-]+)`", names), values.split(", "), strict=False)
    }
    assert set(told) <= set(defaults) and len(told) > 10
    for name in ("--rank", "--alpha", "--dropout", "--learning-rate", "--epochs", "--batch-size"):
        assert float(told[name]) == float(defaults[name]), name
    for name in ("--accumulate", "--patience", "--seed"):
        assert float(told[name]) == float(defaults[name]), name
    assert told["--target-modules"] == defaults["--target-modules"]


def test_refusals_name_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who wrote a bad line is sent here."""
    kit.write(folder / "bad.jsonl", [{"text": "x"}])
    assert run("tune", folder / "bad.jsonl", "-o", folder / "out") == 2
    assert "docs/tuning.md" in capsys.readouterr().err
