"""A run with its model here needs no network, and tries none."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
ECHO = ("--engine", "echo")
RAW = Path(__file__).parent.parent / "raw"

# Notes every attempt in a file, refuses it, and runs commands one after the other.
_GUARDED = """
import os, sys
attempts = os.open(os.environ["ATTEMPTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def guard(event, args):
    named = event.startswith(("urllib.", "http.client.", "ftplib.", "smtplib.", "poplib."))
    if event == "socket.__new__":
        forbidden = args[1] not in (1, -1)  # AF_UNIX; -1 is a socket from a descriptor
    elif event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        forbidden = args[0].family != 1
    else:
        forbidden = named or event.startswith(("socket.getaddrinfo", "socket.gethostby"))
    if forbidden:
        os.write(attempts, f"{event}\\n".encode())
        raise PermissionError(event)

sys.addaudithook(guard)
from medgemma_cli.cli import main

def run(line):
    sys.argv = ["medgemma", *line]
    try:
        main()
    except SystemExit as end:
        return end.code or 0

line, codes = [], []
for word in [*sys.argv[1:], "+"]:
    if word != "+":
        line.append(word)
    elif line:
        codes.append(run(line))
        line = []
print("codes:", codes)
"""


def guarded(cli: Cli, tmp_path: Path, *lines: tuple[object, ...], **settings: Any) -> list[int]:
    """The commands' exit codes; fails if any tried the network."""
    attempts = tmp_path / "attempts"
    words = [word for line in lines for word in (*line, "+")]
    done = cli(*words, python=("-c", _GUARDED), env={"ATTEMPTS": str(attempts)}, **settings)
    assert done.returncode == 0, done.stderr
    assert attempts.read_text() == "", done.stderr
    codes: list[int] = json.loads(done.stdout.rpartition("codes: ")[2])
    assert len(codes) == len(lines)
    return codes


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo"),
        ("socket.socket(socket.AF_INET6)", "socket.__new__"),
        ("socket.gethostbyname('localhost')", "socket.gethostbyname"),
        ("urllib.request.urlopen('http://localhost')", "urllib.Request"),
        ("huggingface_hub.HfApi().model_info('a/b')", "socket.getaddrinfo"),
    ],
)
def test_the_guard_sees(cli: Cli, tmp_path: Path, code: str, event: str) -> None:
    """A connection, a name looked up and a library's request are all noted and refused."""
    attempts = tmp_path / "attempts"
    script = _GUARDED.partition("from medgemma_cli")[0]
    script += f"import socket, urllib.request, huggingface_hub\n{code}\n"
    done = cli(python=("-c", script), env={"ATTEMPTS": str(attempts)})
    assert done.returncode == 1 and event in attempts.read_text(), done.stderr


def test_without_a_model(cli: Cli, notes: Path, tmp_path: Path) -> None:
    """Echo, the checks, the reports and the plan."""
    note = notes / "a.md"
    assert (
        guarded(
            cli,
            tmp_path,
            ("run", notes, "-o", "out", *ECHO),
            ("run", notes, "-o", "out", "--json", *ECHO),
            ("plan", notes, "-o", "out", "--force", *ECHO),
            ("ask", "What?", "-f", note, "-o", "out", *ECHO),
            ("check", note, note),
            ("status", "out"),
            ("status", "out", "--failed"),
            ("templates",),
            ("rules",),
            ("schema",),
        )
        == [0] * 10
    )


def test_with_a_local_checkpoint(cli: Cli, notes: Path, tmp_path: Path, checkpoint: Path) -> None:
    """Text and image through transformers, though HF_HUB_OFFLINE is not set."""
    shutil.copy(RAW / "images" / "phantom-hand.png", notes)
    model = ("--model", checkpoint, "--device", "cpu", "--precision", "fp32")
    short = (*model, "--max-new-tokens", 16, "-t", "general")
    codes = guarded(
        cli,
        tmp_path,
        ("run", notes, "-o", "out", "--question", "What is seen?", *short),
        ("ask", "What?", "-f", notes / "a.md", *short),
        ("ask", "What?", "-i", notes / "phantom-hand.png", *short),
        ("plan", notes, "-o", "out", "--force", *model),
        ("doctor", *model),
    )
    assert codes == [0] * 5
    assert len((tmp_path / "out" / "records.jsonl").read_bytes().splitlines()) == 5


def test_when_the_model_is_not_here(cli: Cli, notes: Path, tmp_path: Path) -> None:
    """`--offline`, and HF_HUB_OFFLINE, do not look for a model outside."""
    model = ("--model", "no-one/no-such-model", "--offline")
    codes = guarded(
        cli,
        tmp_path,
        ("run", notes, "-o", "out", *model),
        ("ask", "What?", *model),
        ("plan", notes, *model),
    )
    assert codes == [69] * 3


def _may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not _may_unshare(), reason="no network namespaces here")
def test_where_there_is_no_interface(
    clean_env: dict[str, str], notes: Path, tmp_path: Path
) -> None:
    """A run in a network namespace that has nothing, not even a loopback that is up."""
    command = ["unshare", "-rn", sys.executable, "-m", "medgemma_cli", "run", os.fspath(notes)]
    command += ["-o", "out", *ECHO]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_env, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "records.jsonl").exists()
