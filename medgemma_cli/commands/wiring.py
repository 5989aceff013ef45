"""What `run` and `ask` share: options become an engine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from medgemma_cli.commands import remote
from medgemma_cli.errors import UsageError

if TYPE_CHECKING:
    from medgemma_cli.adapters import Adapter
    from medgemma_cli.commands.options import EngineChoice, OnLong, PrecisionChoice
    from medgemma_cli.commands.remote import Servers
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.engines.ray import RayOptions
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.progress import Reporter
    from medgemma_cli.records import Precision


class Batching(NamedTuple):
    """How many documents go at once; None: what the device does best and what fits."""

    size: int | None = None
    tokens: int | None = None
    deterministic: bool = False


def make_batching(size: str, tokens: int | None, deterministic: bool) -> Batching:
    """`--batch-size auto|N` with what limits it.

    Raises:
        UsageError: 2, neither auto nor a number from 1, or more than one with `--deterministic`.
    """
    if size != "auto" and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise UsageError("--batch-size is neither auto nor a number from 1.", "Try auto.")
    if deterministic and size not in ("auto", "1"):
        raise UsageError("--deterministic takes one document at a time.", "Leave --batch-size out.")
    return Batching(None if size == "auto" else int(size), tokens, deterministic)


def make_engine(
    engine: "EngineChoice",
    *,
    model: str,
    revision: str | None,
    adapter: Path | None = None,
    offline: bool,
    precision: "PrecisionChoice",
    double_quant: bool,
    device: str,
    batching: Batching,
    echo_delay: float,
    grammar: bool,
    max_attempts: int,
    reporter: "Reporter",
    servers: "Servers | None" = None,
    ray: "RayOptions | None" = None,
    ray_engine: str = "local",
) -> "Engine":
    """The engine asked for. Resolves the checkpoint and the adapter; loads nothing."""
    if engine in ("server", "runpod"):
        if servers is None:
            raise UsageError("This command does not ask servers.", "Use --engine local.")
        remote.refuse_local(adapter, str(precision), batching)
        make = remote.make_server if engine == "server" else remote.make_runpod
        return make(servers, batching, grammar, max_attempts, reporter)
    settings: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "adapter": adapter,
        "offline": offline,
        "precision": precision,
        "double_quant": double_quant,
        "device": device,
        "batching": batching,
        "echo_delay": echo_delay,
        "grammar": grammar,
    }
    if engine == "ray":
        made = _on_ray(ray, ray_engine, settings, reporter)
    else:
        made = _here(engine, reporter=reporter, **settings)
    if made.constrains:
        return made
    from medgemma_cli.retrying import Retrying

    return Retrying(made, max_attempts)


def _on_ray(
    ray: "RayOptions | None", inner: str, settings: dict[str, Any], reporter: "Reporter"
) -> "Engine":
    """Engines as `_here` makes them, on every node from the same folders and revision."""
    from functools import partial

    from medgemma_cli.engines.ray import RayEngine, RayOptions

    here = _here(inner, reporter=reporter, **settings)
    model, adapter = settings["model"], settings["adapter"]
    there = settings | {
        "model": os.path.abspath(model) if os.path.isdir(model) else model,
        "adapter": adapter and adapter.absolute(),
        "revision": here.info.revision or settings["revision"],
    }
    return RayEngine(
        here,
        partial(replica, inner, **there),
        ray or RayOptions(),
        step=reporter.step,
        tokens=reporter.tokens,
    )


def make_ray(
    engine: str, address: str | None, replicas: int, gpus: float | None
) -> "RayOptions | None":
    """Where the replicas of `--engine ray` are, and how many."""
    if engine != "ray":
        return None
    from medgemma_cli.engines.ray import RayOptions

    return RayOptions(address, replicas, gpus)


def replica(engine: str, **settings: Any) -> "Engine":
    """The engine of a replica, made on its node; tells nobody of its steps."""
    from medgemma_cli.progress import SilentReporter

    return _here(engine, reporter=SilentReporter(), **settings)


def _here(
    engine: str,
    *,
    model: str,
    revision: str | None,
    adapter: Path | None,
    offline: bool,
    precision: str,
    double_quant: bool,
    device: str,
    batching: Batching,
    echo_delay: float,
    grammar: bool,
    reporter: "Reporter",
) -> "Engine":
    """An engine in this process."""
    if engine == "echo":
        from medgemma_cli.engines.echo import EchoEngine

        return EchoEngine(echo_delay)
    from medgemma_cli import models
    from medgemma_cli.engines.local import LocalEngine, LocalOptions

    checkpoint = models.resolve(model, revision=revision, offline=offline, step=reporter.step)
    options = LocalOptions(
        precision=cast("Precision", str(precision)),
        device=device,
        double_quant=double_quant,
        batch_size=batching.size,
        batch_tokens=batching.tokens,
        deterministic=batching.deterministic,
        grammar=grammar,
        adapter=find_adapter(adapter, checkpoint, reporter),
    )
    return LocalEngine(checkpoint, options, step=reporter.step, tokens=reporter.tokens)


def find_adapter(
    folder: Path | None, checkpoint: "Checkpoint", reporter: "Reporter"
) -> "Adapter | None":
    """The adapter of `--adapter`, checked; the user is told of what cannot be."""
    if folder is None:
        return None
    from medgemma_cli import adapters

    adapter = adapters.resolve(folder, checkpoint, reporter.step)
    if adapter.warning is not None:
        reporter.note(f"warning: {adapter.warning}")
    return adapter


def taking_long(engine: "Engine", on_long: "OnLong") -> "Engine":
    """The engine, with documents longer than its window taken as `--on-long` says."""
    if on_long == "fail":
        return engine
    from medgemma_cli import templates
    from medgemma_cli.longdocs import MERGE, LongDocuments

    return LongDocuments(engine, "head" if on_long == "head" else "split", templates.load(MERGE))
