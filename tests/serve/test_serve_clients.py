"""This program as its own client: `--engine server` and `--engine runpod` at a warm engine."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from serving import NOTE, Serving

pytest.importorskip("tenacity")

from medgemma_cli import readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.base import Engine
from medgemma_cli.engines.calls.tries import Patience
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.engines.runpod import RunpodEngine, endpoint_url
from medgemma_cli.engines.server import ServerEngine, ServerOptions
from medgemma_cli.errors import UsageError
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pairing import Pairs, rule
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Limits, Record
from medgemma_cli.retrying import Retrying
from medgemma_cli.serve.runpod_handler import ROUTE, make_handler

QUICK = Patience(first=0.01, longest=0.05, seconds=5.0)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Three notes."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.md").write_text(f"Case {i}. {NOTE}", "utf-8")
    return folder


def run(
    engine: Engine, notes: Path, out: Path, name: str = "summarize", sources: Any = None
) -> list[Record]:
    """The records of the notes, by name."""
    template = templates.load(name)
    job = Job(template, Limits(max_new_tokens=template.max_new_tokens))
    kept: list[Record] = []
    with Ledger(out) as ledger:
        process = Run(job, ledger, engine, SilentReporter(), on_record=kept.append)
        process.execute(sources or Discovery([str(notes)], readers.SUFFIXES))
    return sorted(kept, key=lambda record: record.source)


@pytest.mark.parametrize("name", ["summarize", "general", "screen"])
def test_the_same_answers_over_http(echo: Serving, notes: Path, tmp_path: Path, name: str) -> None:
    """Outputs, quotes and flags of `run` with the engine here, and at the server: the fence went
    over as text and came out as a fence."""
    there = Retrying(ServerEngine(ServerOptions((f"{echo.url}/v1",), patience=QUICK)), 2)
    near = run(EchoEngine(), notes, tmp_path / "near", name)
    far = run(there, notes, tmp_path / "far", name)
    for one, other in zip(near, far, strict=True):
        assert (other.output, other.quotes, other.flags) == (one.output, one.quotes, one.flags)
        assert other.key != one.key and other.model.id == "served"


def test_the_server_says_which_weights_it_has(echo: Serving) -> None:
    """By a hash of its engine's identity, which goes into the keys of its clients."""
    made = ServerEngine(ServerOptions((f"{echo.url}/v1",), patience=QUICK))
    says = echo.get("/v1/models").json()["data"][0]
    assert made.identity["says"]["root"] == says["root"] and len(says["root"]) == 64
    assert made.window == EchoEngine.window


def test_a_pair_over_http(echo: Serving, tmp_path: Path) -> None:
    """Quotes of the earlier document and of the current one come from where they should."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "p_20240101.md").write_text(f"{NOTE}\nCough with sputum.\n")
    (folder / "p_20240201.md").write_text(f"{NOTE}\nLeft knee swollen.\n")
    sources = Pairs(
        Discovery([str(folder)], readers.SUFFIXES), rule(r"name:(?P<patient>.+)_(?P<date>\d{8})")
    )
    there = Retrying(ServerEngine(ServerOptions((f"{echo.url}/v1",), patience=QUICK)), 2)
    (near,) = run(EchoEngine(), folder, tmp_path / "near", "compare", sources)
    (far,) = run(there, folder, tmp_path / "far", "compare", sources)
    assert (far.output, far.quotes, far.flags) == (near.output, near.quotes, near.flags)
    assert {quote.document for quote in far.quotes} == {"prior", "current"}


class Jobs(ThreadingHTTPServer):
    """RunPod's API in small, in front of the handler.

    Args:
        fails: how many jobs fail before any is done.
        looks: how often a job is looked at before it is done.
    """

    def __init__(self, echo: Serving, *, fails: int = 0, looks: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Job)
        self.handler = make_handler(echo.service, "served")
        self.fails = fails
        self.looks = looks
        self.seen: list[str] = []
        self.keys: set[str | None] = set()
        self.jobs: dict[str, Any] = {}
        self.left: dict[str, int] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v2/abc123"


class _Job(BaseHTTPRequestHandler):
    server: Jobs

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def _reply(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """`/run`, `/runsync` and `/cancel`."""
        jobs, (_, _, name, verb, *_) = self.server, [*self.path.split("/"), ""]
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        jobs.seen.append(verb)
        jobs.keys.add(self.headers.get("Authorization"))
        if verb not in ("run", "runsync") or name != "abc123":
            self._reply({}, 200 if verb == "cancel" else 404)
            return
        if jobs.fails and asked["input"]["openai_route"] == ROUTE:
            jobs.fails -= 1
            self._reply({"id": "job-0", "status": "FAILED", "error": "worker died"})
            return
        output = asyncio.run(jobs.handler(asked))
        made = f"job-{len(jobs.jobs)}"
        jobs.jobs[made] = {"id": made, "status": "COMPLETED", "output": output}
        jobs.left[made] = jobs.looks
        waiting = {"id": made, "status": "IN_QUEUE"}
        self._reply(jobs.jobs[made] if verb == "runsync" and not jobs.looks else waiting)

    def do_GET(self) -> None:
        """`/status/JOB`."""
        name = self.path.rpartition("/")[2]
        self.server.seen.append("status")
        self.server.left[name] -= 1
        waiting = {"id": name, "status": "IN_PROGRESS"}
        self._reply(self.server.jobs[name] if self.server.left[name] < 0 else waiting)


@pytest.fixture
def jobs(echo: Serving) -> Iterator[Any]:
    """Make endpoints; they end with the test."""
    made: list[Jobs] = []

    def make(**settings: Any) -> Jobs:
        server = Jobs(echo, **settings)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
        return server

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("how", "looks"), [("sync", 0), ("sync", 2), ("async", 1)])
def test_jobs_give_the_same_answers(
    jobs: Any, notes: Path, tmp_path: Path, how: Any, looks: int
) -> None:
    """Put synchronously and done at once, put so and looked at later, put asynchronously; the key
    is shown, and is in no record."""
    server = jobs(looks=looks)
    options = ServerOptions((server.url,), key="secret-of-mine", patience=QUICK)
    far = run(Retrying(RunpodEngine(options, how), 2), notes, tmp_path / "far")
    near = run(EchoEngine(), notes, tmp_path / "near")
    assert [record.output for record in far] == [record.output for record in near]
    assert {record.model.engine for record in far} == {"runpod"}
    assert server.keys == {"Bearer secret-of-mine"}
    assert ("runsync" in server.seen) is (how == "sync")
    assert "secret-of-mine" not in (tmp_path / "far" / "records.jsonl").read_text()


def test_a_job_that_fails_is_put_again(jobs: Any, notes: Path, tmp_path: Path) -> None:
    """Nothing is lost, nothing is answered twice."""
    server = jobs(fails=3)
    engine = Retrying(RunpodEngine(ServerOptions((server.url,), patience=QUICK)), 2)
    assert [record.status for record in run(engine, notes, tmp_path / "out")] == ["ok"] * 3


def test_documents_do_not_leave_unasked() -> None:
    """RunPod's address is public: without --allow-remote nothing is sent."""
    options = ServerOptions((endpoint_url("abc123"),), patience=QUICK)
    engine = RunpodEngine(options, look=lambda host, port: ["104.18.1.1"])
    with pytest.raises(UsageError, match="public address"):
        engine.served()


@pytest.mark.parametrize("name", [None, "", "a", "a/b", "../x", "abc?x", "ab c"])
def test_what_is_no_endpoint(name: str | None) -> None:
    """A name that would lead elsewhere is refused."""
    with pytest.raises(UsageError):
        endpoint_url(name)


def test_the_command_line_asks_a_server(echo: Serving, forked: Any) -> None:
    """`medgemma ask --engine server` at the warm engine: the answer alone on standard output."""
    made = forked("ask", "Which drug?", "--engine", "server", "--base-url", echo.url, input=NOTE)
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == NOTE


def test_the_command_line_asks_an_endpoint(jobs: Any, forked: Any, notes: Path) -> None:
    """`ask`, `plan` and `doctor` with `--engine runpod` and the key from the environment, where
    nothing is counted or checked of a model here; without an endpoint, 2, and 69 of `doctor`."""
    server = jobs()
    there = ("--engine", "runpod", "--base-url", server.url)
    env = {"RUNPOD_API_KEY": "secret-of-mine"}
    made = forked("ask", "Which drug?", *there, "--jobs", "async", input=NOTE, env=env)
    assert made.returncode == 0 and made.stdout.strip() == NOTE, made.stderr
    asked = len(server.jobs)
    planned = json.loads(forked("plan", notes, *there, "--json", env=env).stdout)
    assert planned["model"] == "served" and planned["prompt_tokens_exact"] is False
    assert planned["actions"] == {"infer": 3} and planned["resources"] is None
    looked = forked("doctor", *there, env=env)
    assert looked.returncode == 0 and "model served" in looked.stdout, looked.stdout
    assert "torch" not in looked.stdout and "RUNPOD_API_KEY is set" in looked.stdout
    assert len(server.jobs) == asked + 2  # no document: each asked for the models
    assert server.keys == {"Bearer secret-of-mine"}
    bare = ("--engine", "runpod")
    codes = [forked(*one, *bare, input=NOTE).returncode for one in (("ask", "?"), ("plan", notes))]
    assert codes == [2, 2] and forked("doctor", *bare).returncode == 69
