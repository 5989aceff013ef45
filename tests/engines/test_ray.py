"""Replicas on a real Ray cluster of two nodes: the same answers, each once, and nothing in logs."""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crew_kit import prompt, prompts
from outcomes import lines
from ray_kit import TwoNodes, mortal, notes, on_ray, run
from tiny import MakeEngine

from medgemma_cli import identity, templates
from medgemma_cli.commands import wiring
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.engines.ray import RayEngine, RayOptions
from medgemma_cli.errors import MissingExtraError, ModelUnavailableError, UsageError
from medgemma_cli.readers import ReadLimits, reader_version
from medgemma_cli.records import Limits, Record

there = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the ray extra")


def counts(default: int, full: int) -> pytest.MarkDecorator:
    """How many documents: few in every run of the tests, as many as are promised in a slow one."""
    slow = pytest.param(full, marks=pytest.mark.slow, id=str(full))
    return pytest.mark.parametrize("count", [pytest.param(default, id=str(default)), slow])


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """Two nodes, for all tests of this module: they take seconds to come up."""
    made = TwoNodes()
    yield made
    made.close()


def exactly_once(out: Path, count: int) -> list[dict[str, Any]]:
    """The ledger's lines: one a document, whatever happened on the way."""
    found = lines(out)
    assert Counter(line["source"] for line in found) == Counter(
        f"{number:05}.md" for number in range(count)
    )
    return found


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said, and no document was taken."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(MissingExtraError) as raised:
        list(RayEngine(EchoEngine(), EchoEngine, RayOptions()).generate(prompts(1)))
    assert "medgemma-cli[ray]" in raised.value.next_step


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Ray nor its package is touched where there is no prompt."""
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(RayEngine(EchoEngine(), EchoEngine, RayOptions()).generate([])) == []


def test_identity_is_the_inner_ones_but_for_the_name() -> None:
    """Keys follow from it; the same weights on Ray are another engine, and nothing else."""
    inner = EchoEngine()
    made = RayEngine(inner, EchoEngine, RayOptions())
    assert made.identity == {**inner.identity, "engine": "ray"}
    assert (made.info.id, made.info.engine) == ("echo", "ray")
    assert made.window == inner.window and made.constrains
    assert made.count(prompt("a", "one two")) == inner.count(prompt("a", "one two"))


def test_rays_client_is_refused() -> None:
    """2, before anything is read."""
    with pytest.raises(UsageError):
        RayEngine(EchoEngine(), EchoEngine, RayOptions("ray://head:10001"))


@there
@counts(20, 60)
def test_same_as_local(
    cluster: TwoNodes, make_engine: MakeEngine, checkpoint: Path, tmp_path: Path, count: int
) -> None:
    """Two replicas, fp32 and greedy: output, flags and keys as `local` has them, but for the
    engine's name."""
    folder = notes(tmp_path / "notes", count)
    local = make_engine()
    run(folder, tmp_path / "local", local)
    settings: dict[str, Any] = {
        "model": str(checkpoint),
        "revision": None,
        "adapter": None,
        "offline": True,
        "precision": "fp32",
        "double_quant": True,
        "device": "cpu",
        "batching": wiring.Batching(size=4),
        "echo_delay": 0.0,
        "grammar": True,
    }
    make = partial(wiring.replica, "local", **settings)
    made = RayEngine(wiring.replica("local", **settings), make, cluster.options)
    run(folder, tmp_path / "ray", made)
    assert len({node for _, node in made.replicas}) == 2
    made.close()
    assert made.identity == {**local.identity, "engine": "ray"}
    mine = {line["source"]: line for line in exactly_once(tmp_path / "ray", count)}
    for theirs in exactly_once(tmp_path / "local", count):
        assert lasting(mine[theirs["source"]]) == lasting(theirs)
        assert theirs["key"] == key_of(theirs, local.identity)
        assert mine[theirs["source"]]["key"] == key_of(theirs, made.identity)
    assert len({line["raw_text"] for line in mine.values()}) > count / 2


def lasting(line: dict[str, Any]) -> dict[str, Any]:
    """A record without times, its key, and the engine's name."""
    left = {k: v for k, v in line.items() if k not in ("created", "seconds", "key")}
    return left | {"model": {k: v for k, v in line["model"].items() if k != "engine"}}


def key_of(line: dict[str, Any], engine: dict[str, Any]) -> str:
    """The key that a document has with an engine."""
    settings = identity.settings_digest(
        template_hash=templates.load("general").hash,
        question="?",
        model=engine,
        limits=Limits(max_new_tokens=16),
    )
    version = reader_version(line["media_type"])
    return identity.document_key(settings, line["sha256"], version, tuple(ReadLimits()))


@there
@counts(200, 10_000)
def test_each_once_though_a_replica_is_killed(
    cluster: TwoNodes, tmp_path: Path, count: int
) -> None:
    """Two replicas, one killed three times in the middle: exactly one record a document, all well.

    The driver keeps the only ledger, so what a replica had done and not told is done again, once.
    """
    engine, killed, done = on_ray(cluster.options), [], 0

    def kill(record: Record) -> None:
        nonlocal done
        done += 1
        if done % (count // 4) == 0 and len(killed) < 3:
            pid = engine.replicas[-1][0]
            assert pid not in killed
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    totals = run(notes(tmp_path / "notes", count), tmp_path / "out", engine, kill)
    engine.close()
    assert len(killed) == 3 and totals.left == 0
    found = exactly_once(tmp_path / "out", count)
    assert {line["error"] and line["error"]["code"] for line in found} == {None}
    assert {line["model"]["engine"] for line in found} == {"ray"}


@there
@pytest.mark.slow  # who is accused of a death is tested in test_crew.py, without a cluster
def test_a_document_that_kills_its_replica(cluster: TwoNodes, tmp_path: Path) -> None:
    """It ends as a failure; those in whose company its replica died are well."""
    folder = notes(tmp_path / "notes", 20)
    (folder / "00007.md").write_text("die here")
    engine = on_ray(cluster.options, mortal)
    run(folder, tmp_path / "out", engine)
    engine.close()
    failed = [line for line in exactly_once(tmp_path / "out", 20) if line["status"] == "failed"]
    assert [(line["source"], line["error"]["code"]) for line in failed] == [
        ("00007.md", "replica_crashed")
    ]


@there
def test_nothing_of_a_document_in_rays_logs(
    cluster: TwoNodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not of one that goes well, nor of one at which the engine prints it and raises it."""
    folder = notes(tmp_path / "notes", 6)
    (folder / "00002.md").write_text("raise CANARY7Q")
    (folder / "00003.md").write_text("well CANARY7Q")
    engine = on_ray(cluster.options, mortal)
    run(folder, tmp_path / "out", engine)
    engine.close()
    assert len(exactly_once(tmp_path / "out", 6)) == 6
    time.sleep(1)  # logs are written behind
    assert [name for name, data in cluster.logs() if b"CANARY7Q" in data] == []
    assert "CANARY7Q" not in "".join(capfd.readouterr())


@there
def test_more_gpus_than_there_are(cluster: TwoNodes) -> None:
    """69, said before anything waits for what will not come."""
    engine = on_ray(cluster.options._replace(gpus=1.0))
    with pytest.raises(ModelUnavailableError, match="need 2 GPUs; the cluster has 0"):
        list(engine.generate(prompts(1)))


@there
def test_a_node_goes_down(cluster: TwoNodes, tmp_path: Path) -> None:
    """In the middle, with its replica: its documents go on with the other one, each once."""
    # So slow that the first replica is not done before the second one has come up.
    engine = on_ray(cluster.options, partial(EchoEngine, 0.1))
    nodes_when_lost = done = 0

    def lose(record: Record) -> None:
        nonlocal done, nodes_when_lost
        done += 1
        nodes = len({node for _, node in engine.replicas})
        if done >= 20 and nodes == 2 and not nodes_when_lost:
            nodes_when_lost = nodes
            cluster.lose()

    totals = run(notes(tmp_path / "notes", 200), tmp_path / "out", engine, lose)
    engine.close()
    cluster.mend()
    assert nodes_when_lost == 2 and totals.left == 0
    assert not [line for line in exactly_once(tmp_path / "out", 200) if line["error"]]


@there
@pytest.mark.slow
def test_the_command(clean_env: dict[str, str], tmp_path: Path) -> None:
    """A cluster of this machine's own: what is slow and how it ended on standard error, no word of
    Ray's own, nothing on standard output, nothing left behind; a second run starts nothing; SIGTERM
    drains, though Ray is in the house."""
    notes(tmp_path / "notes", 30)
    scratch = Path(tempfile.mkdtemp(prefix="mg-"))
    env = {**clean_env, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "medgemma_cli", "run", "notes", "--engine", "ray"]
    command += ["--ray-engine", "echo", "--replicas", "2"]

    def start(*more: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*command, *more], cwd=tmp_path, env=env, stdout=pipe, stderr=pipe, text=True
        )

    slow_steps = {"medgemma: starting Ray", "medgemma: starting replicas"}
    for steps, told in ((slow_steps, "30 generated"), (set(), "nothing to do")):
        done = start("-o", "out")
        stdout, stderr = done.communicate(timeout=300)
        assert done.returncode == 0 and stdout == "", stderr
        *before, last = stderr.splitlines()
        assert {line.partition(" (")[0] for line in before} == steps and told in last
        assert list(scratch.iterdir()) == [] and not (tmp_path / "home" / ".ray").exists()
    stopped = start("-o", "slow", "--echo-delay", "1", "--json")
    assert stopped.stdout is not None
    assert stopped.stdout.readline(), stopped.communicate(timeout=120)
    stopped.terminate()
    _, stderr = stopped.communicate(timeout=120)
    assert stopped.returncode == 75, stderr
    assert "work remains" in stderr and 0 < len(lines(tmp_path / "slow")) < 30
