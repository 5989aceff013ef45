"""`medgemma serve` as a process: it listens to this machine, stops when told, and keeps quiet."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serving import NOTE

from medgemma_cli.errors import UsageError
from medgemma_cli.serve import running

KEY = "k" * 32
KNOWN = {"Authorization": f"Bearer {KEY}"}
CANARY = "CANARYPATIENT"
Start = Callable[..., "Process"]


class Process:
    """A server that was started, and what it said."""

    def __init__(self, folder: Path, env: dict[str, str], *args: str) -> None:
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "medgemma_cli", "serve", "--engine", "echo", *args],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ends = time.monotonic() + 240
        while "http://" not in self.said and self.process.poll() is None:
            assert time.monotonic() < ends, self.said
            time.sleep(0.05)
        self.url = "http://" + self.said.partition("http://")[2].partition("\n")[0].strip()

    @property
    def said(self) -> str:
        """All it said."""
        return self.log.read_text("utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(300)


@pytest.fixture
def start(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Start]:
    """Start servers; none outlives the test."""
    started: list[Process] = []

    def make(*args: str, **env: str) -> Process:
        made = Process(tmp_path, {**clean_env, **env}, "--port", "0", *args)
        started.append(made)
        return made

    yield make
    for one in started:
        one.process.kill()
        one.process.wait(10)


def canaries(url: str) -> None:
    """Good, bad and broken requests, with a canary in each."""
    for settings in (
        {"json": {"text": f"{CANARY} coughs."}},
        {"json": {"text": 5, CANARY: CANARY}},
        {"content": b"{" + CANARY.encode()},
        {"json": {"text": "a", "mode": CANARY}},
        {"json": {"image": CANARY}},
    ):
        asked: Any = {"headers": KNOWN, "timeout": 300, **settings}
        assert httpx2.post(f"{url}/v1/run?{CANARY}={CANARY}", **asked).status_code in (
            200,
            400,
            422,
        )
    httpx2.get(f"{url}/{CANARY}", headers=KNOWN)


def test_it_serves_and_stops(start: Start, forked: Callable[..., Any], tmp_path: Path) -> None:
    """With a key: 401 without it, answers with it. Its port is taken: 73, though the model named
    does not exist. SIGTERM finishes the request that is inside and ends it with 0. No file but
    the log is there then, and the log has one line, without the key or a word of any request."""
    path = tmp_path.parent / f"{tmp_path.name}.key"
    path.write_text(KEY)
    path.chmod(0o600)
    server = start("--api-key-file", str(path), "--echo-delay", "0.5")
    url = server.url + "/v1/models"
    assert httpx2.get(url, timeout=300).status_code == 401
    assert httpx2.get(url, headers=KNOWN, timeout=300).status_code == 200
    canaries(server.url)
    port = server.url.rpartition(":")[2]
    taken = forked("serve", "--port", port, "--model", "/nowhere/at/all")
    assert taken.returncode == 73 and "--port" in taken.stderr
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(run, server)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 200
    assert server.process.wait(300) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert server.said.count("\n") == 1 and KEY not in server.said and CANARY not in server.said


def run(server: Process) -> httpx2.Response:
    """One request, with the key."""
    asked = {"text": NOTE}
    return httpx2.post(server.url + "/v1/run", json=asked, headers=KNOWN, timeout=300)


def test_sigint_says_so(start: Start) -> None:
    """130, as everywhere."""
    assert start().end(signal.SIGINT) == 130


def test_the_second_signal_leaves_at_once(start: Start) -> None:
    """Whatever is under way."""
    server = start("--echo-delay", "3")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(run, server)
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 75
        assert isinstance(asked.exception(), httpx2.HTTPError)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_others_need_a_key(host: str) -> None:
    """An address that others reach is refused without one."""
    with pytest.raises(UsageError, match="there is no key"):
        running.bind(running.Address(host, 0))


def test_others_need_a_key_on_the_command_line(forked: Callable[..., Any]) -> None:
    """2, and nothing listens."""
    done = forked("serve", "--engine", "echo", "--host", "0.0.0.0")
    assert done.returncode == 2 and "--api-key-file" in done.stderr


def test_a_key_that_others_can_read(forked: Callable[..., Any], tmp_path: Path) -> None:
    """78, and how to mend it."""
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    done = forked("serve", "--engine", "echo", "--api-key-file", path)
    assert done.returncode == 78 and "chmod 600" in done.stderr and KEY not in done.stderr


def test_a_model_that_is_not_there(forked: Callable[..., Any]) -> None:
    """69 or 78, as `run` says it, and nothing listens."""
    done = forked("serve", "--port", "0", "--model", "/nowhere/at/all")
    expected = forked("ask", "Anything there?", "--model", "/nowhere/at/all")
    assert done.returncode == expected.returncode != 0


def test_without_the_extra(cli: Callable[..., Any], tmp_path: Path) -> None:
    """69, with what to install."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "fastapi.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    done = cli("serve", "--engine", "echo", "--port", "0", env={"PYTHONPATH": path})
    assert done.returncode == 69 and "medgemma-cli[serve]" in done.stderr
