"""`medgemma serve` as a process: it listens to this machine, stops when told, and keeps quiet."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serving import NOTE

KEY = "k" * 32
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


def test_it_serves_and_stops(start: Start, tmp_path: Path) -> None:
    """An answer; SIGTERM ends it with 0; no file but the log, and the log has one line."""
    server = start()
    made = httpx2.post(server.url + "/v1/run", json={"text": NOTE}, timeout=300)
    assert made.status_code == 200
    assert server.end() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert server.said.count("\n") == 1


def test_sigint_says_so(start: Start) -> None:
    """130, as everywhere."""
    assert start().end(signal.SIGINT) == 130


def test_sigterm_finishes_what_is_inside(start: Start) -> None:
    """A request under way is answered; the next one is not let in."""
    from concurrent.futures import ThreadPoolExecutor

    server = start("--echo-delay", "1")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(
            httpx2.post, server.url + "/v1/run", json={"text": NOTE}, timeout=300
        )
        time.sleep(0.4)
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status_code == 200
    assert server.process.wait(300) == 0


def test_the_second_signal_leaves_at_once(start: Start) -> None:
    """Whatever is under way."""
    from concurrent.futures import ThreadPoolExecutor

    server = start("--echo-delay", "3")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(
            httpx2.post, server.url + "/v1/run", json={"text": NOTE}, timeout=300
        )
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 75
        assert isinstance(asked.exception(), httpx2.HTTPError)


def test_a_key_is_asked_for(start: Start, tmp_path: Path) -> None:
    """401 without; the key is in no message."""
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    server = start("--api-key-file", str(path))
    url = server.url + "/v1/models"
    assert httpx2.get(url).status_code == 401
    assert httpx2.get(url, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    server.end()
    assert KEY not in server.said


def test_the_log_has_nothing_of_a_request(start: Start) -> None:
    """Good, bad and broken ones, with a canary in each."""
    server = start()
    canary = "CANARYPATIENT"
    for settings in (
        {"json": {"text": f"{canary} coughs."}},
        {"json": {"text": 5, canary: canary}},
        {"content": b"{" + canary.encode()},
        {"json": {"text": "a", "mode": canary}},
        {"json": {"image": canary}},
    ):
        httpx2.post(f"{server.url}/v1/run?{canary}={canary}", timeout=300, **settings)  # type: ignore[arg-type]
    httpx2.get(f"{server.url}/{canary}")
    server.end()
    assert canary not in server.said


def test_a_taken_port_is_told_before_the_model(start: Start, cli: Callable[..., Any]) -> None:
    """73, though the model named does not exist."""
    port = start().url.rpartition(":")[2]
    done = cli("serve", "--port", port, "--model", "/nowhere/at/all")
    assert done.returncode == 73 and "--port" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_others_need_a_key(cli: Callable[..., Any], host: str) -> None:
    """An address that others reach is refused without one: 2."""
    done = cli("serve", "--engine", "echo", "--host", host)
    assert done.returncode == 2 and "--api-key-file" in done.stderr


def test_a_key_that_others_can_read(cli: Callable[..., Any], tmp_path: Path) -> None:
    """78, and how to mend it."""
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    done = cli("serve", "--engine", "echo", "--api-key-file", path)
    assert done.returncode == 78 and "chmod 600" in done.stderr and KEY not in done.stderr


def test_a_model_that_is_not_there(cli: Callable[..., Any]) -> None:
    """69 or 78, as `run` says it, and nothing listens."""
    done = cli("serve", "--port", "0", "--model", "/nowhere/at/all")
    expected = cli("ask", "Anything there?", "--model", "/nowhere/at/all")
    assert done.returncode == expected.returncode != 0


def test_without_the_extra(cli: Callable[..., Any], tmp_path: Path) -> None:
    """69, with what to install."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "fastapi.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    done = cli("serve", "--engine", "echo", "--port", "0", env={"PYTHONPATH": path})
    assert done.returncode == 69 and "medgemma-cli[serve]" in done.stderr
