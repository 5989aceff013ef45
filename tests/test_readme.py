"""The README and the docs are true: their commands run, their excerpts are the command's own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medgemma_cli import errors, readers, templates

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced code blocks of a language."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in fences if name == language]


COMMANDS = [line for block in blocks("") for line in block.splitlines() if "medgemma " in line]


@pytest.fixture
def shell(tmp_path: Path) -> "Shell":
    """A working folder with the files that the README's commands name."""
    for name in ("notes", "summaries"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes" / "a.md").write_text("BP 120/80 mmHg. No chest pain.")
    (tmp_path / "note.md").write_text("Bisoprolol was stopped.")
    (tmp_path / "summary.md").write_text("Bisoprolol was stopped.")
    pair = '{"id": "1", "source": "Bisoprolol was stopped.", "output": "Bisoprolol was stopped."}'
    (tmp_path / "pairs.jsonl").write_text(pair + "\n")
    reference = '{"source": "a.md", "reference": "No chest pain."}'
    (tmp_path / "references.jsonl").write_text(reference + "\n")
    shutil.copy(ROOT / "raw" / "images" / "he-like-tile.png", tmp_path / "film.png")
    shutil.copytree(ROOT / "raw", tmp_path / "raw")
    return Shell(tmp_path)


class Shell:
    """Runs lines as a user would, with the echo engine in place of the model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
            "HOME": str(folder),
            "MEDGEMMA_ENGINE": "echo",
        }

    def __call__(self, line: str) -> "subprocess.CompletedProcess[str]":
        """The result of one line."""
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_run(shell: Shell, line: str) -> None:
    """Every `medgemma` line of the README ends 0 (on an existing ledger where it reads one)."""
    shell("medgemma run notes -o summaries")
    line = line.replace("/data/raw", "notes").replace("/data/summaries", "nightly")
    result = shell(line)
    assert result.returncode == 0, result.stderr


def test_console_excerpts(shell: Shell) -> None:
    """What the README shows is what is printed, `…` aside."""
    for block in blocks("console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            result = shell(command)
            pattern = re.escape(shown.strip()).replace("…", ".*")
            assert re.fullmatch(pattern, (result.stdout + result.stderr).strip(), re.DOTALL)


def test_help_excerpt(shell: Shell) -> None:
    """The list of commands is that of `medgemma --help`, up to line breaks."""
    shell.environment["COLUMNS"] = "140"
    printed = shell("medgemma --help").stdout
    (excerpt,) = blocks("help")
    for line in excerpt.splitlines():
        name, told = line.split(maxsplit=1)
        assert re.search(rf"{name}\s+{re.escape(told)}", printed), name


def test_make_targets_exist() -> None:
    """Every `make` line names a target of the Makefile."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [line for block in blocks("") for line in block.splitlines()]
    named = [line.split()[1] for line in lines if line.startswith("make ")]
    assert {"demo", "test", "lint"} <= set(named) <= set(targets)


def test_ci_runs_the_readmes_commands() -> None:
    """CI is lint and test, nothing of its own."""
    script = (ROOT / ".ci" / "run").read_text()
    assert [line for line in script.splitlines() if line.startswith("make")] == [
        "make lint",
        "make test",
    ]


def test_exit_codes_are_documented() -> None:
    """Every exit code that errors.py names stands in the README's table."""
    table = README[README.index("## Exit codes") : README.index("## Settings")]
    codes = {value for value in vars(errors).values() if type(value) is int}
    for code in codes:
        assert re.search(rf"\b{code}\b", table), code


def test_input_kinds_are_documented() -> None:
    """Every suffix that is read is named."""
    for suffix in readers.SUFFIXES:
        assert suffix in README


def test_the_docs_template_loads(tmp_path: Path) -> None:
    """The example of docs/templates.md is a valid template."""
    text = (ROOT / "docs" / "templates.md").read_text("utf-8")
    (tmp_path / "followup.md").write_text(blocks("markdown", text)[0], "utf-8")
    assert templates.load(str(tmp_path / "followup.md")).name == "followup"


def test_relative_links_exist() -> None:
    """No link of README or docs leads nowhere."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_env_example_names_real_options(shell: Shell) -> None:
    """Every MEDGEMMA_ variable of .env.example is an option of `run`, or the cache."""
    shell.environment["COLUMNS"] = "200"
    printed = shell("medgemma run --help").stdout
    names = re.findall(r"MEDGEMMA_(\w+)", (ROOT / ".env.example").read_text())
    for name in {*names} - {"CACHE"}:
        assert f"--{name.lower().replace('_', '-')}" in printed, name
