"""What `run` and `ask` share: options become an engine, limits and a template."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from medgemma_cli.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.adapters import Adapter
    from medgemma_cli.commands.options import EngineChoice, PrecisionChoice
    from medgemma_cli.discover import Discovery
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.engines.ray import RayOptions
    from medgemma_cli.job import Job
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.progress import Reporter
    from medgemma_cli.readers import ReadLimits
    from medgemma_cli.readers.tables import Columns
    from medgemma_cli.records import Limits, Precision
    from medgemma_cli.sharding.opening import Part, Whole
    from medgemma_cli.sharding.split import Portion, Shard
    from medgemma_cli.templates import Template


# Statuses a gate can name; `failed` includes rejected documents.
STATUSES = {"failed", "flagged"}


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
    ray: "RayOptions | None" = None,
    ray_engine: str = "local",
) -> "Engine":
    """The engine asked for. Resolves the checkpoint and the adapter; loads nothing."""
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


def load_template(name: str, system: str | None) -> "Template":
    """The template, with `--system TEXT|@FILE` in place of its system text."""
    from medgemma_cli import templates

    if system is not None and system.startswith("@"):
        try:
            system = Path(system[1:]).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                "The file of --system cannot be read as UTF-8 text.", "Check the path after @."
            ) from None
    return templates.load(name, system=system)


def make_limits(
    template: "Template",
    max_new_tokens: int | None,
    min_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> "Limits":
    """The template's own budget, unless one was asked for."""
    from medgemma_cli.records import Limits

    limits = Limits(
        max_new_tokens=max_new_tokens or template.max_new_tokens,
        min_new_tokens=min_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    if limits.min_new_tokens > limits.max_new_tokens:
        raise UsageError(
            "--min-new-tokens is above --max-new-tokens.", "Lower the first or raise the second."
        )
    return limits


def make_read_limits(
    encoding: str | None, max_bytes: int, max_pixels: int, max_pages: int
) -> "ReadLimits":
    """Bounds of the readers; checks that the encoding exists."""
    import codecs

    from medgemma_cli.readers import ReadLimits

    if encoding is not None:
        try:
            encoding = codecs.lookup(encoding).name
            "".encode(encoding)  # `hex` and its like are no encodings of text
        except (LookupError, ValueError):
            raise UsageError(
                "There is no such --encoding.", "Examples: utf-8, cp1252, latin-1, utf-16."
            ) from None
    return ReadLimits(max_bytes, max_pixels, encoding, max_pages)


def make_columns(
    text: str | None, image: str | None, identity: str | None, limits: "ReadLimits"
) -> "Columns | None":
    """The columns of tables; None where no table is to be read.

    Raises:
        UsageError: 2, rows would have an id and nothing else.
    """
    from medgemma_cli.readers.tables import Columns

    if text is None and image is None:
        if identity is not None:
            raise UsageError(
                "--id-column goes with --text-column or --image-column.",
                "Say which column has the documents.",
            )
        return None
    return Columns(text, image, identity, limits.encoding, limits.max_bytes)


def make_gate(names: list[str]) -> set[str]:
    """`--fail-on`: statuses and rules.

    Raises:
        UsageError: 2, neither a status nor the name of a rule.
    """
    asked = set(names) - STATUSES
    if not asked:
        return set(names)  # the rules need not be read
    from medgemma_cli.safety.rulebook import names as rules

    if asked - rules():
        raise UsageError(
            "--fail-on takes failed, flagged, or the name of a rule.", "See `medgemma rules`."
        )
    return set(names)


def make_shard(text: str | None, *, fresh: bool) -> "Shard | None":
    """`--shard i/n`.

    Raises:
        UsageError: 2, it is no such thing, or goes with `--fresh`.
    """
    if text is None:
        return None
    from medgemma_cli.sharding.split import parse

    if fresh:
        raise UsageError(
            "--fresh starts the whole folder anew, and --shard does a part of it.",
            "Choose another -o, or use --force.",
        )
    return parse(text)


def make_portion(sources: "Discovery", part: "Shard | None") -> "Discovery | Portion":
    """All sources, or those of a shard."""
    if part is None:
        return sources
    from medgemma_cli.sharding.split import Portion

    return Portion(sources, part)


def make_folder(
    out: Path, part: "Shard | None", job: "Job", engine: "Engine", *, read_only: bool = False
) -> "Whole | Part":
    """The output folder, or the shard's place in it; nothing is opened yet."""
    from medgemma_cli import identity
    from medgemma_cli.sharding.opening import Part, Whole

    if part is None:
        return Whole(out, fsync=job.fsync, read_only=read_only)
    settings = identity.digest([job.settings(engine.identity), list(job.read_limits)])
    return Part(out, part, settings, fsync=job.fsync, read_only=read_only)


def make_ray(
    engine: str, address: str | None, replicas: int, gpus: float | None
) -> "RayOptions | None":
    """Where the replicas of `--engine ray` are, and how many."""
    if engine != "ray":
        return None
    from medgemma_cli.engines.ray import RayOptions

    return RayOptions(address, replicas, gpus)
