"""Shards run in the test's own process: a process a shard would cost seconds each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medgemma_cli import cli as command
from medgemma_cli.errors import MedgemmaError
from medgemma_cli.readers import pool

Medgemma = Callable[..., "Done"]


class Done:
    """What a command came to."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class Reading(pool.InProcess):
    """Reads here, where a pool would start its processes for every run."""

    def __init__(self, workers: int = 1) -> None:
        """As a pool is made."""

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def medgemma(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Medgemma:
    """Run a command in `tmp_path` with the echo engine; what it says and its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDGEMMA_ENGINE", "echo")
    monkeypatch.setenv("MEDGEMMA_FSYNC", "never")
    monkeypatch.setattr(pool, "ReaderPool", Reading)

    def run(*args: object) -> Done:
        made: Any = CliRunner().invoke(command.app, [str(arg) for arg in args])
        if isinstance(made.exception, MedgemmaError):
            error = made.exception
            return Done(error.exit_code, made.stdout, f"{made.stderr}{error.message}")
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        return Done(made.exit_code, made.stdout, made.stderr)

    return run


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """A folder with twelve notes, some of them deeper, and one that is rejected."""
    folder = tmp_path / "papers"
    (folder / "ward").mkdir(parents=True)
    for number in range(8):
        (folder / f"{number}.md").write_text(f"Note {number}. Dry cough for {number} days.\n")
    for number in range(4):
        (folder / "ward" / f"{number}.txt").write_text(f"Ward {number}. Slept well.\n")
    (folder / "empty.md").write_text("")
    return folder
