"""The command, as forks of a process that has imported it already.

Each run is a process of its own with its own environment, folder and streams, as if it had been
started; what is saved is a second or two of importing. Modules that are read at import time with
the environment (those of Hugging Face, torch) are not imported before the fork.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_WARM = (
    "medgemma_cli.cli",
    "medgemma_cli.pipeline",
    "medgemma_cli.retrying",
    "medgemma_cli.readers.pool",
    "medgemma_cli.commands.inputs",
    "medgemma_cli.commands.plan_report",
    "medgemma_cli.engines.echo",
    "medgemma_cli.engines.runpod",
    "tenacity",
    "httpx2",
)


class Forker:
    """Runs commands, one at a time; started by the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: list[str],
        cwd: Path,
        env: dict[str, str],
        input: str | None,
        timeout: float,
    ) -> "subprocess.CompletedProcess[str]":
        """Run one to its end.

        Raises:
            subprocess.TimeoutExpired: it took too long, and was killed.
        """
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / "0").write_text(input or "", "utf-8")
            given = str(folder / "0") if input is not None else os.devnull
            streams = [given, str(folder / "1"), str(folder / "2")]
            asked = {"arguments": arguments, "cwd": str(cwd), "env": env, "streams": streams}
            code = self._ask(asked, timeout)
            out, err = (Path(path).read_text("utf-8") for path in streams[1:])
        return subprocess.CompletedProcess(arguments, code, out, err)

    def _ask(self, asked: dict[str, Any], timeout: float) -> int:
        if self._process is None:
            command = [sys.executable, __file__]
            pipe = subprocess.PIPE
            settings: Any = {"stdin": pipe, "stdout": pipe, "start_new_session": True}
            self._process = subprocess.Popen(command, text=True, **settings)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            self.close()
            raise subprocess.TimeoutExpired(asked["arguments"], timeout)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and what it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.communicate()
            self._process = None


def _serve() -> None:
    """In the process that forks: commands come in lines, exit codes go out."""
    for name in _WARM:
        with contextlib.suppress(ImportError):
            __import__(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(**json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def _become(arguments: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    """In the child: what a process that has just been started finds."""
    import atexit
    import threading

    code: Any = 1
    try:
        for number, path in enumerate(streams):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
            os.dup2(os.open(path, flags, 0o600), number)
        os.closerange(3, 64)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            for number, mode in enumerate("rww")
        )
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        import medgemma_cli.cli

        # As `python -m medgemma_cli`, which is how it calls itself then.
        sys.modules["__main__"].__package__ = "medgemma_cli"
        sys.argv = [str(Path(medgemma_cli.__file__).with_name("__main__.py")), *arguments]
        medgemma_cli.cli.main()
    except SystemExit as left:
        code = left.code or 0
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
