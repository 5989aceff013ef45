"""A house of one test: where a command works, keeps and forgets; searched for a canary after it."""

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TEXT = "Quillfeather77319"  # a patient: in texts, metadata, settings, ledgers
NAME = "Nightingrove40417"  # another: in the names of files and folders
BOTH = (TEXT, NAME)
ECHO = "--engine echo"

# In OUT these hold text: that is what they are for.
_RESULTS = ("records.jsonl", "quarantine/")

# Forks for each command: one start pays for all, and none meets what another left in memory.
_SEVERAL = """
import gc, importlib, json, os, sys, tempfile
from medgemma_cli.cli import main

ours = ("asking", "engines.echo", "engines.local", "forecast", "pipeline", "safety.grounding")
for name in (*ours, "commands.report", "commands.wiring"):
    importlib.import_module(f"medgemma_cli.{name}")
for name in ("dotenv", "jinja2.sandbox", "typer.rich_utils", "yaml"):
    importlib.import_module(name)
script, cases = json.loads(sys.argv[1])
exec(script)
gc.freeze()
for args in cases:
    said = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if not child:
        for number, file in enumerate(said, 1):
            os.dup2(file.fileno(), number)
            file.close()
        while "=" in args[0].partition(" ")[0]:
            name, _, value = args.pop(0).partition("=")
            os.environ[name] = value
        sys.argv = ["medgemma", *args]
        if "prepare" in globals():
            prepare()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        # What an interpreter does at its end is tested elsewhere, and takes as long as the rest.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for file in said:
        file.seek(0)
    print(json.dumps([code, *(file.read().hex() for file in said)]), flush=True)
"""


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def told(self) -> str:
        """Standard error, to be shown by an assertion."""
        return self.stderr.decode("utf-8", "replace")


def forms(word: str) -> list[bytes]:
    """How a word may stand in a file: as itself (a part is enough), UTF-16, hex, base64."""
    found = []
    for part in (word[:8], word[-8:]):
        plain = part.lower()
        found += [plain.encode(), plain.encode("utf-16-le"), plain.encode("utf-16-be")]
        found.append(part.encode().hex().encode())
    # Of the three ways that bytes fall into base64's groups, what does not hang on neighbours.
    for shift in range(3):
        coded = base64.b64encode(b"." * shift + word.encode())
        found.append(coded[4:-4])
    return found


def hits(data: bytes, words: Iterable[str] = BOTH) -> list[bytes]:
    """The forms of the words that stand in some bytes, upper or lower case."""
    low = data.lower()
    return [form for word in words for form in forms(word) if form in low or form in data]


class House:
    """Folders for work, home, caches and temporary files, and a clean environment."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root = root
        self.work = self._made("work")
        self.out = self.work / "out"
        self.env = {
            **env,
            "HOME": str(self._made("home")),
            "XDG_CONFIG_HOME": str(self._made("config")),
            "XDG_CACHE_HOME": str(self._made("cache")),
            "XDG_STATE_HOME": str(self._made("state")),
            "TMPDIR": str(self._made("tmp")),
            "HF_HOME": str(self._made("hf")),
        }
        self._before: set[tuple[str, int]] = set()

    def _made(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(mode=0o700)
        return path

    def put(self, name: str, data: bytes | str) -> Path:
        """A file of the working folder."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    # -- running ------------------------------------------------------------------------------

    def start(
        self,
        args: str,
        *,
        env: dict[str, str] | None = None,
        python: tuple[str, ...] = ("-m", "medgemma_cli"),
        **settings: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start a command, given as for a shell, in the working folder."""
        self._before = set(self._seen())
        settings = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **settings,
        }
        command = [sys.executable, *python, *shlex.split(args)]
        return subprocess.Popen(command, cwd=self.work, env={**self.env, **(env or {})}, **settings)

    def run(self, args: str, *, input: bytes | None = None, **settings: Any) -> Done:
        """Run a command to its end."""
        if input is not None:
            settings["stdin"] = subprocess.PIPE
        with self.start(args, **settings) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=240)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Done(process.returncode, stdout or b"", stderr or b"")

    def several(self, *commands: str, script: str = "", **settings: Any) -> list[Done]:
        """Run commands one after another; they may begin with `NAME=value`.

        Args:
            script: Python to begin with; its `prepare`, if any, is called before each command.
        """
        told = json.dumps([script, [shlex.split(command) for command in commands]])
        done = self.run(shlex.quote(told), python=("-c", _SEVERAL), **settings)
        assert done.code == 0, done.told
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [Done(code, bytes.fromhex(out), bytes.fromhex(err)) for code, out, err in lines]

    # -- searching ----------------------------------------------------------------------------

    def _files(self) -> Iterator[Path]:
        return (path for path in self.root.rglob("*") if path.is_file() or path.is_symlink())

    def _seen(self) -> Iterator[tuple[str, int]]:
        return ((os.fspath(path), path.lstat().st_mtime_ns) for path in self._files())

    def traces(self, words: Iterable[str] = BOTH) -> list[str]:
        """New or changed files, but for results, that hold a word or are named by one."""
        found = []
        for path in self._files():
            if (os.fspath(path), path.lstat().st_mtime_ns) in self._before:
                continue
            inside = path.is_relative_to(self.out)
            name = str(path.relative_to(self.out if inside else self.root))
            if inside and (name.startswith(_RESULTS) or name.endswith(".md")):
                continue
            if hits(name.encode() + b"\n" + path.read_bytes(), words):
                found.append(name)
        return found

    def assert_clean(self, done: Done, stdout: Iterable[str] = BOTH) -> None:
        """No canary on standard error or in a file; on standard output none of these words."""
        check_streams(done, stdout)
        assert self.traces() == []


def check_streams(done: Done, stdout: Iterable[str] = BOTH) -> None:
    """No canary and no traceback on standard error; on standard output none of these words."""
    assert hits(done.stderr) == [], done.told
    assert b"Traceback" not in done.stderr, done.told
    assert hits(done.stdout, stdout) == []
