"""Commands that are forked are what commands that are started are."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Forker

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        (("--version",), None),
        (("run", "--nothing"), None),
        (("ask", "What?", "--engine", "echo"), "Dry cough since Monday.\n"),
        (("status", "no"), None),
    ],
)
def test_the_same_either_way(
    cli: Cli, forked: Cli, arguments: tuple[str, ...], input: str | None
) -> None:
    """Exit code and both streams, with standard input and without."""
    near, far = cli(*arguments, input=input), forked(*arguments, input=input)
    assert (far.returncode, far.stdout) == (near.returncode, near.stdout)
    assert far.stderr == near.stderr


def test_one_leaves_nothing_for_the_next(forked: Cli, notes: Path, tmp_path: Path) -> None:
    """Environment, working folder and ledger lock of a run are gone with it."""
    done = forked("run", notes, "-o", "out", env={"MEDGEMMA_ENGINE": "echo"})
    assert done.returncode == 0 and (tmp_path / "out" / "records.jsonl").is_file()
    again = forked("run", notes, "-o", "out", "--engine", "echo")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert forked("ask", "What?", "--model", "/nowhere").returncode != 0


def test_too_slow(tmp_path: Path, clean_env: dict[str, str], forker: Forker) -> None:
    """It is killed, and the next one runs."""
    slow = ["ask", "What?", "--engine", "echo", "--echo-delay", "99"]
    with pytest.raises(subprocess.TimeoutExpired):
        forker.run(slow, tmp_path, clean_env, None, 1)
    assert forker.run(["--version"], tmp_path, clean_env, None, 60).returncode == 0
