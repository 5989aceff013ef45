"""What `run` and `ask` share: options become an engine, limits and a template."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from medgemma_cli.errors import ConfigError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer

    from medgemma_cli.adapters import Adapter
    from medgemma_cli.commands.options import (
        EngineChoice,
        Jobs,
        OnLong,
        PrecisionChoice,
        Structured,
    )
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.engines.calls.jobs import How
    from medgemma_cli.engines.calls.structure import Level
    from medgemma_cli.engines.ray import RayOptions
    from medgemma_cli.engines.server import ServerEngine, ServerOptions
    from medgemma_cli.job import Job
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.progress import Reporter
    from medgemma_cli.readers import ReadLimits
    from medgemma_cli.readers.tables import Columns
    from medgemma_cli.records import Limits, Precision
    from medgemma_cli.sharding.opening import Part, Whole
    from medgemma_cli.sharding.split import Shard
    from medgemma_cli.templates import Template


# Statuses a gate can name; `failed` includes rejected documents.
STATUSES = {"failed", "flagged"}
COMPARE = "compare"
# The only place that a key comes from: options stand in histories and process lists.
SERVER_KEY = "MEDGEMMA_SERVER_API_KEY"
RUNPOD_KEY = "RUNPOD_API_KEY"


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


class Servers(NamedTuple):
    """The options of `--engine server`, as they were given."""

    urls: str | None = None
    model: str | None = None
    allow_remote: bool = False
    timeout: float = 600.0
    structured: "Structured | None" = None
    endpoint: str | None = None
    jobs: "Jobs | None" = None


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
    servers: Servers | None = None,
    ray: "RayOptions | None" = None,
    ray_engine: str = "local",
) -> "Engine":
    """The engine asked for. Resolves the checkpoint and the adapter; loads nothing."""
    if engine in ("server", "runpod"):
        if servers is None:
            raise UsageError("This command does not ask servers.", "Use --engine local.")
        refuse_local(adapter, str(precision), batching)
        make = make_server if engine == "server" else make_runpod
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


def taking_long(engine: "Engine", on_long: "OnLong") -> "Engine":
    """The engine, with documents longer than its window taken as `--on-long` says."""
    if on_long == "fail":
        return engine
    from medgemma_cli import templates
    from medgemma_cli.longdocs import MERGE, LongDocuments

    return LongDocuments(engine, "head" if on_long == "head" else "split", templates.load(MERGE))


def refuse_local(adapter: Path | None, precision: str, batching: Batching) -> None:
    """Options that a server decides on, or that nobody can promise for it.

    Raises:
        UsageError: 2, one of them is given.
    """
    given = {
        "--adapter": adapter is not None,
        "--precision": precision != "auto",
        "--deterministic": batching.deterministic,
        "--batch-tokens": batching.tokens is not None,
    }
    for name in (name for name, there in given.items() if there):
        raise UsageError(
            f"{name} cannot be kept by --engine server.",
            "Leave it out; what the server does is set where it is started.",
        )


def make_server(
    servers: Servers, batching: Batching, grammar: bool, attempts: int, reporter: "Reporter"
) -> "Engine":
    """An engine of model servers, its answers judged. They are asked what they serve.

    Raises: as `server_options`.
    """
    from medgemma_cli.retrying import Retrying

    return Retrying(server_engine(servers, batching, grammar, reporter.note), attempts)


def make_runpod(
    servers: Servers, batching: Batching, grammar: bool, attempts: int, reporter: "Reporter"
) -> "Engine":
    """An engine of RunPod's jobs, its answers judged. Nothing is sent yet.

    Raises: as `runpod_engine`.
    """
    from medgemma_cli.retrying import Retrying

    return Retrying(runpod_engine(servers, batching, grammar, reporter.note), attempts)


def server_engine(
    servers: Servers, batching: Batching, grammar: bool, note: "Callable[[str], None]"
) -> "ServerEngine":
    """An engine of model servers. Raises as `server_options`."""
    from medgemma_cli.engines.server import ServerEngine

    return ServerEngine(server_options(servers, batching, grammar), note=note)


def runpod_engine(
    servers: Servers, batching: Batching, grammar: bool, note: "Callable[[str], None]"
) -> "ServerEngine":
    """An engine of RunPod's jobs.

    Raises: as `server_options`; UsageError: 2, no endpoint is named.
    """
    from medgemma_cli.engines.runpod import RunpodEngine, endpoint_url

    # A base URL takes RunPod's place: the SDK's own server, or a proxy.
    given = servers if servers.urls else servers._replace(urls=endpoint_url(servers.endpoint))
    options = server_options(given, batching, grammar)
    if options.key is None:
        options = replace(options, key=_key(RUNPOD_KEY))
    how: How = "async" if str(servers.jobs) == "async" else "sync"
    return RunpodEngine(options, how, note=note)


def server_options(servers: Servers, batching: Batching, grammar: bool) -> "ServerOptions":
    """The options of a `ServerEngine`; the key comes from the environment alone.

    Raises:
        UsageError: 2, no server is named. ConfigError: 78, the key is none.
        MissingExtraError: 69, its packages are not there.
    """
    from importlib.util import find_spec

    from medgemma_cli.engines.server import ServerOptions

    urls = [url.strip() for url in (servers.urls or "").split(",") if url.strip()]
    if not urls:
        raise UsageError(
            "--engine server needs --base-url.", "For example: --base-url http://127.0.0.1:8000/v1"
        )
    if find_spec("httpx2") is None or find_spec("tenacity") is None:
        raise MissingExtraError(
            "Packages of --engine server are missing.", "pip install 'medgemma-cli[server]'"
        )
    asked = str(servers.structured or "schema") if grammar else "none"
    defaults = ServerOptions(urls=())
    return ServerOptions(
        urls=tuple(dict.fromkeys(urls)),
        model=servers.model,
        allow_remote=servers.allow_remote,
        key=_server_key(),
        most=batching.size or defaults.most,
        timeout=servers.timeout,
        structured=cast("Level", asked),
    )


def _server_key() -> str | None:
    """The key of `SERVER_KEY`."""
    return _key(SERVER_KEY)


def _key(variable: str) -> str | None:
    """The key of the environment, if it is one that a header can carry.

    Raises:
        ConfigError: 78, it is not. It is not quoted.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{variable} is no key: it has spaces or other signs.", "Copy it again.")
    return key


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


def load_template(name: str, system: str | None, *, paired: bool = False) -> "Template":
    """The template, with `--system TEXT|@FILE` in place of its system text.

    Raises:
        UsageError: 2, it is for pairs and there are none, or the other way round.
    """
    from medgemma_cli import templates

    if system is not None and system.startswith("@"):
        try:
            system = Path(system[1:]).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                "The file of --system cannot be read as UTF-8 text.", "Check the path after @."
            ) from None
    template = templates.load(name, system=system)
    if template.pairs and not paired:
        raise UsageError(
            "The template compares two documents.",
            "Say which with `run --pair-by`, or choose another --template.",
        )
    if paired and not template.pairs:
        raise UsageError(
            "The template looks at one document, and --pair-by gives it two.",
            f"Leave --template out (it is {COMPARE} then), or choose one that uses prior.text.",
        )
    return template


def template_name(context: "typer.Context", name: str, pair_by: str | None) -> str:
    """The template's name: with `--pair-by`, and none asked for, the one that compares."""
    asked = context.get_parameter_source("template")
    default = asked is None or asked.name == "DEFAULT"
    return COMPARE if pair_by is not None and default else name


def make_limits(
    template: "Template",
    max_new_tokens: int | None,
    min_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    max_input_tokens: int | None = None,
) -> "Limits":
    """The template's own budget, unless one was asked for."""
    from medgemma_cli.records import Limits

    limits = Limits(
        max_new_tokens=max_new_tokens or template.max_new_tokens,
        min_new_tokens=min_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_input_tokens=max_input_tokens,
    )
    if limits.min_new_tokens > limits.max_new_tokens:
        raise UsageError(
            "--min-new-tokens is above --max-new-tokens.", "Lower the first or raise the second."
        )
    return limits


def make_read_limits(
    encoding: str | None,
    max_bytes: int,
    max_pixels: int,
    max_pages: int,
    max_slide_bytes: int,
    seed: int,
) -> "ReadLimits":
    """Bounds of the readers, and what chooses patches; checks that the encoding exists."""
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
    return ReadLimits(max_bytes, max_pixels, encoding, max_pages, max_slide_bytes, seed)


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


def make_folder(
    out: Path, part: "Shard | None", job: "Job", engine: "Engine", *, read_only: bool = False
) -> "Whole | Part":
    """The output folder, or the shard's place in it; nothing is opened yet."""
    from medgemma_cli import identity
    from medgemma_cli.longdocs import rule_of
    from medgemma_cli.sharding.opening import Part, Whole

    if part is None:
        return Whole(out, fsync=job.fsync, read_only=read_only)
    asked = [job.settings(engine.identity), list(job.read_limits), rule_of(engine)]
    settings = identity.digest(asked)
    return Part(out, part, settings, fsync=job.fsync, read_only=read_only)


def make_ray(
    engine: str, address: str | None, replicas: int, gpus: float | None
) -> "RayOptions | None":
    """Where the replicas of `--engine ray` are, and how many."""
    if engine != "ray":
        return None
    from medgemma_cli.engines.ray import RayOptions

    return RayOptions(address, replicas, gpus)
