"""The command in this process: most tests of it need no interpreter of their own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medgemma_cli.errors import USAGE, MedgemmaError


class Result(NamedTuple):
    """What a command came to, as `subprocess` would tell it."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run the command in `tmp_path`; what `main` does around it is for the tests of `cli`."""
    from medgemma_cli.cli import _CannotParse, app

    for name in os.environ:
        if name.startswith(("MEDGEMMA_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MEDGEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        capsys.readouterr()
        try:
            code: Any = app([str(arg) for arg in args], standalone_mode=False) or 0
        except MedgemmaError as error:
            print(f"medgemma: {error.message}\n  {error.next_step}", file=sys.stderr)  # noqa: T201
            code = error.exit_code
        except _CannotParse as error:
            print(error, file=sys.stderr)  # noqa: T201
            code = USAGE
        return Result(code, *capsys.readouterr())

    return run
