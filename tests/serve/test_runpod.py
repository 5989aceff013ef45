"""RunPod's jobs: the handler by itself, and behind the SDK's own local server where that is."""

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from outcomes import lines
from serving import NOTE, Serving

from medgemma_cli.serve.runpod_handler import ROUTE, make_handler

SDK = importlib.util.find_spec("runpod") is not None


def answer(echo: Serving, asked: Any) -> dict[str, Any]:
    """The output of one job."""
    handler = make_handler(echo.service, "served")
    return asyncio.run(handler({"id": "1", "input": asked}))  # type: ignore[arg-type]


def test_a_jobs_input_is_the_body_of_run(echo: Serving) -> None:
    """The same record as over HTTP, times aside."""
    made = answer(echo, {"text": NOTE})["record"]
    expected = echo.post("/v1/run", json={"text": NOTE}).json()
    for record in (made, expected):
        del record["created"], record["seconds"]
    assert made == expected


def test_a_rejected_document_has_its_record(echo: Serving) -> None:
    """With the code; nothing is raised."""
    assert answer(echo, {"text": " "})["record"]["error"]["code"] == "no_text"


def test_a_conversation(echo: Serving) -> None:
    """By RunPod's convention for OpenAI's routes."""
    asked = {"messages": [{"role": "user", "content": NOTE}]}
    made = answer(echo, {"openai_route": ROUTE, "openai_input": asked})["completion"]
    assert made["choices"][0]["message"]["content"] == NOTE


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (None, "invalid_request"),
        ("CANARY", "invalid_request"),
        ({}, "invalid_request"),
        ({"text": 5}, "invalid_request"),
        ({"text": "a", "CANARY": 1}, "invalid_request"),
        ({"text": "a", "mode": "CANARY"}, "template"),
        ({"openai_route": "/v1/CANARY"}, "route"),
        ({"openai_route": ROUTE}, "invalid_request"),
        ({"openai_route": ROUTE, "openai_input": {"messages": []}}, "invalid_request"),
        (
            {
                "openai_route": ROUTE,
                "openai_input": {"stream": True, "messages": [{"role": "user", "content": "a"}]},
            },
            "stream",
        ),
        (
            {
                "openai_route": ROUTE,
                "openai_input": {"messages": [{"role": "assistant", "content": "a"}]},
            },
            "invalid_request",
        ),
    ],
)
def test_what_is_refused(echo: Serving, asked: Any, code: str) -> None:
    """A code in the output, no exception (the SDK would keep its text), and no words of the job."""
    made = answer(echo, asked)
    assert made["refused"]["code"] == code and "CANARY" not in str(made)


def test_jobs_at_once(echo: Serving) -> None:
    """Thirty in one loop: everybody gets their own."""
    handler = make_handler(echo.service, "served")

    async def all_of_them() -> list[dict[str, Any]]:
        jobs = [
            {"id": str(i), "input": {"text": f"Case {i} coughs.", "mode": "general"}}
            for i in range(30)
        ]
        return await asyncio.gather(*map(handler, jobs))

    made = asyncio.run(all_of_them())
    assert [one["record"]["raw_text"] for one in made] == [f"Case {i} coughs." for i in range(30)]


def test_without_the_sdk(forked: Callable[..., Any], tmp_path: Path) -> None:
    """69 before a model is loaded, with what to install."""
    if SDK:
        pytest.skip("it is here")
    done = forked("serve", "--runpod", "--engine", "echo")
    assert done.returncode == 69 and "medgemma-cli[runpod]" in done.stderr


class Sdk(NamedTuple):
    """The SDK's own server, and what it has said so far."""

    url: str
    log: Path


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    """One for all, since it takes long to start."""
    if not SDK:
        pytest.skip("the extra runpod is not installed")
    folder = tmp_path_factory.mktemp("sdk")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["serve", "--runpod", "--runpod-port", str(port), "--engine", "echo"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "medgemma_cli", *command],
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    made = Sdk(f"http://localhost:{port}", folder / "log")
    ends = time.monotonic() + 300
    while time.monotonic() < ends:
        try:
            httpx2.get(made.url + "/openapi.json", timeout=5)
            break
        except httpx2.HTTPError:
            assert process.poll() is None, made.log.read_text()
            time.sleep(0.2)
    yield made
    process.terminate()
    process.wait(300)


def test_the_sdks_own_server(sdk: Sdk) -> None:
    """A job at once, a job to be asked for later, one that is rejected, and one that makes no
    sense; its log has nothing of them."""
    asked = {"input": {"text": f"CANARY {NOTE}"}}
    made = httpx2.post(sdk.url + "/runsync", json=asked, timeout=300).json()
    assert made["status"] == "COMPLETED" and made["output"]["record"]["output"]["summary"]
    begun = httpx2.post(sdk.url + "/run", json=asked, timeout=300).json()
    done = httpx2.post(f"{sdk.url}/status/{begun['id']}", timeout=300).json()
    assert done["output"]["record"]["key"] == made["output"]["record"]["key"]
    for wrong in ({"text": " "}, {"CANARY": "CANARY"}):
        made = httpx2.post(sdk.url + "/runsync", json={"input": wrong}, timeout=300).json()
        assert made["status"] == "COMPLETED"
    assert "CANARY" not in sdk.log.read_text()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_the_client_at_the_sdks_own_server(
    sdk: Sdk, forked: Callable[..., Any], notes: Path, tmp_path: Path, how: str
) -> None:
    """`run --engine runpod` writes what `run --engine echo` writes, once each, and is idle then."""
    there = ("--engine", "runpod", "--base-url", sdk.url, "--jobs", how)
    done = forked("run", notes, "-o", "far", *there)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in forked("run", notes, "-o", "far", *there).stderr
    forked("run", notes, "-o", "near", "--engine", "echo")
    far, near = (
        {line["source"]: line["output"] for line in lines(tmp_path / out)}
        for out in ("far", "near")
    )
    assert far == near and len(lines(tmp_path / "far")) == len(near) == 4
