"""Fixtures that several test modules share."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forker


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Children can be signalled, even where this run was started in the background.

    A shell starts background jobs with SIGINT and SIGQUIT ignored, nohup with SIGHUP, and that is
    inherited.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def clean_env(tmp_path: Path) -> dict[str, str]:
    """The environment without MEDGEMMA_* and HF_*, and with a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MEDGEMMA_", "HF_"))}
    home = tmp_path / "home"
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}


@pytest.fixture
def started(tmp_path: Path, clean_env: dict[str, str]) -> Callable[..., Any]:
    """As `cli`, whatever a module makes of that."""

    def run(
        *args: object,
        env: dict[str, str] | None = None,
        input: str | None = None,
        python: tuple[str, ...] = ("-m", "medgemma_cli"),
        **settings: Any,
    ) -> "subprocess.CompletedProcess[str]":
        if input is None:
            settings.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            [sys.executable, *python, *map(str, args)],
            cwd=settings.pop("cwd", tmp_path),
            env={**clean_env, **(env or {})},
            input=input,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            **settings,
        )

    return run


@pytest.fixture
def cli(started: Callable[..., Any]) -> Callable[..., Any]:
    """Run the command in `tmp_path`: `cli("run", folder, "-o", out, input="…", env={…})`."""
    return started


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Runs the command without importing it every time."""
    made = Forker()
    yield made
    made.close()


@pytest.fixture
def forked(
    tmp_path: Path, clean_env: dict[str, str], forker: Forker, started: Callable[..., Any]
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """As `cli`, sooner; what is to start in another way is started like that."""

    def run(
        *args: object,
        env: dict[str, str] | None = None,
        input: str | None = None,
        **settings: Any,
    ) -> "subprocess.CompletedProcess[str]":
        if settings:
            made: subprocess.CompletedProcess[str] = started(
                *args, env=env, input=input, **settings
            )
            return made
        return forker.run(list(map(str, args)), tmp_path, {**clean_env, **(env or {})}, input, 60)

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny multimodal Gemma 3, real but for its size."""
    import tiny

    return tiny.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model, converted in the user's cache if it is not there yet (two minutes)."""
    from medgemma_cli import demo, models

    if not demo.installed():
        pytest.skip("the demo extra is not installed")
    # Of two test processes one converts and the other waits for it.
    lock = Path(tempfile.gettempdir()) / f"medgemma-demo-{os.getuid()}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = models.fetch(models.resolve("demo"), lambda text, done, total: None).path
    assert found is not None
    return found


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with four small documents, one of them deeper."""
    folder = tmp_path / "notes"
    (folder / "ward").mkdir(parents=True)
    (folder / "a.md").write_text("Dry cough since Monday.\nNo fever.\n", "utf-8")
    (folder / "b.txt").write_text("Señora Pérez takes 5 mg of ramipril.\n", "utf-8")
    (folder / "c.md").write_text("Left knee swollen after a fall.\n", "utf-8")
    (folder / "ward" / "d.md").write_text("Slept well. Pain 2 of 10.\n", "utf-8")
    return folder
