"""docs/export.md is true: its commands run, its options and numbers are the command's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import lessons_kit as kit
import typer

from medgemma_cli.engines.exporting import comparing

PAGE = (Path(__file__).parent.parent.parent / "docs" / "export.md").read_text("utf-8")
(BLOCK,) = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_commands_run(checkpoint: Path, tmp_path: Path) -> None:
    """One after the other: the tiny checkpoint is tuned and merged, the echo engine answers."""
    kit.write(tmp_path / "train.jsonl", [kit.chat("Say amber.", "AMBER.")])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("Bisoprolol was stopped.")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(tmp_path),
        "MEDGEMMA_MODEL": str(checkpoint),
        "MEDGEMMA_DEVICE": "cpu",
        "MEDGEMMA_ENGINE": "echo",
        "OMP_NUM_THREADS": "1",
    }
    for line in BLOCK.splitlines():
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "merged" / "NOTICE").is_file()


def test_options_are_there() -> None:
    """Every option that the page names is one of `export`, `run` or llama.cpp; with its default."""
    from medgemma_cli.cli import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: (option.default, option.secondary_opts)
        for command in ("run", "export")
        for option in commands[command].params
        for name in (*option.opts, *option.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert named - set(options) == {"--mmproj"}
    assert f"`--tolerance` ({options['--tolerance'][0]})" in PAGE
    assert options["--dtype"][0] == "bf16" and options["--private"][0] is True


def test_numbers_are_as_told() -> None:
    """Prompts and tokens of the comparison."""
    assert len(comparing._TEXTS) == 3 and "three short invented notes" in PAGE
    assert comparing._LIKELIEST == 10 and "likeliest ten tokens" in PAGE
