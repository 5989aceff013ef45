"""`medgemma plan`: what a run would take, before it takes it. Loads no weights, writes no results.

Takes the options of `run` that bear on what is done and how: the same line with `plan` in place
of `run` tells what that run would do.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.run import DEFAULT_MODEL
from medgemma_cli.errors import OK, UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medgemma_cli.engines.base import Engine
    from medgemma_cli.forecast import Forecast, Resources, Summary
    from medgemma_cli.job import Job
    from medgemma_cli.models import Checkpoint
    from medgemma_cli.pairing.grouping import Sources
    from medgemma_cli.progress import Reporter
    from medgemma_cli.records import Precision
    from medgemma_cli.sharding.split import Shard


def plan(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Annotated[
        Path, o.option("--out", "-o", help="The -o of the run: what is done there stays done.")
    ] = Path("summaries"),
    model: o.Model = DEFAULT_MODEL,
    template: o.Template = "summarize",
    question: Annotated[
        str | None, o.option("--question", help="For templates that ask one.")
    ] = None,
    system: o.System = None,
    limit: Annotated[
        int | None, o.option("--limit", min=1, help="Only the first N inputs.")
    ] = None,
    force: Annotated[bool, o.option("--force", help="As if nothing were done already.")] = False,
    retry_failed: Annotated[
        bool, o.option("--retry-failed", help="Count failed documents as to be tried again.")
    ] = False,
    as_json: Annotated[bool, o.option("--json", help="One JSON object on stdout.")] = False,
    include: Annotated[
        list[str] | None,
        o.option("--include", panel=o.INPUT_PANEL, help="Only paths matching. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        o.option("--exclude", panel=o.INPUT_PANEL, help="Not paths matching. Repeatable."),
    ] = None,
    pair_by: o.PairBy = None,
    text_column: o.TextColumn = None,
    id_column: o.IdColumn = None,
    image_column: o.ImageColumn = None,
    on_long: o.OnLongOption = o.OnLong.SPLIT,
    max_input_tokens: o.MaxInputTokens = None,
    encoding: o.Encoding = None,
    max_bytes: o.MaxBytes = 50_000_000,
    max_pixels: o.MaxPixels = 64_000_000,
    max_pages: o.MaxPages = 1000,
    max_slide_bytes: o.MaxSlideBytes = 10_000_000_000,
    precision: o.PrecisionOption = o.PrecisionChoice.auto,
    double_quant: o.DoubleQuant = True,
    device: o.Device = "auto",
    batch_size: Annotated[
        str, o.option("--batch-size", panel=o.MODEL_PANEL, help="Documents at once: auto or N.")
    ] = "auto",
    deterministic: Annotated[
        bool, o.option("--deterministic", panel=o.MODEL_PANEL, help="One document at a time.")
    ] = False,
    adapter: o.Adapter = None,
    revision: o.Revision = None,
    offline: o.Offline = False,
    engine: o.Engine = o.EngineChoice.local,
    base_url: o.BaseUrl = None,
    served_model: o.ServedModel = None,
    allow_remote: o.AllowRemote = False,
    request_timeout: o.RequestTimeout = 600.0,
    structured: o.StructuredOption = o.Structured.schema,
    endpoint: o.Endpoint = None,
    jobs: o.JobsOption = o.Jobs.sync,
    max_new_tokens: o.MaxNewTokens = None,
    min_new_tokens: o.MinNewTokens = 0,
    temperature: o.Temperature = 0.0,
    top_p: o.TopP = 1.0,
    seed: o.Seed = 0,
    grammar: o.Grammar = True,
    max_attempts: o.MaxAttempts = 3,
    shard: o.ShardOption = None,
    quiet: o.Quiet = False,
) -> None:
    """Say what a run would take: tokens of each document, memory, time. Loads no weights.

    Give it the same PATHS and options as `run`.
    """
    from medgemma_cli import pairing
    from medgemma_cli.commands import inputs, remote, request, wiring
    from medgemma_cli.commands.plan_report import Told, print_json, print_text
    from medgemma_cli.engines.calls.about import UNKNOWN_WINDOW
    from medgemma_cli.forecast import summarise
    from medgemma_cli.job import Job
    from medgemma_cli.progress import reporter_for

    name = request.template_name(context, template, pair_by)
    chosen = request.load_template(name, system, paired=pair_by is not None)
    job = Job(
        template=chosen,
        limits=request.make_limits(
            chosen, max_new_tokens, min_new_tokens, temperature, top_p, seed, max_input_tokens
        ),
        read_limits=request.make_read_limits(
            encoding, max_bytes, max_pixels, max_pages, max_slide_bytes, seed
        ),
        question=question,
        force=force,
        retry_failed=retry_failed,
        max_attempts=max_attempts,
    )
    columns = inputs.make_columns(text_column, image_column, id_column, job.read_limits)
    rule = None if pair_by is None else pairing.rule(pair_by, job.read_limits.encoding)
    part = inputs.make_shard(shard, fresh=False)
    found = inputs.find(
        paths,
        out,
        include=include or [],
        exclude=exclude or [],
        columns=columns,
        rule=rule,
        limit=limit,
    )
    sources = inputs.make_portion(found, part)
    reporter = reporter_for(quiet=quiet, verbose=False)
    try:
        batching = wiring.make_batching(batch_size, None, deterministic)
        options = {
            "precision": str(precision),
            "device": device,
            "double_quant": double_quant,
            "grammar": grammar,
            "deterministic": deterministic,
        }
        if engine in ("server", "runpod"):
            remote.refuse_local(adapter, str(precision), batching)
            servers = remote.Servers(
                base_url, served_model, allow_remote, request_timeout, structured, endpoint, jobs
            )
            # It asks servers what they serve, and sends no document.
            make = remote.make_server if engine == "server" else remote.make_runpod
            made, checkpoint = make(servers, batching, grammar, max_attempts, reporter), None
        elif engine == "echo":
            made, checkpoint = _echo()
        else:
            made, checkpoint = _local(
                model, revision, offline, reporter, max_attempts, adapter, options
            )
        if engine == "ray":
            made = _on_ray(made)
        made = wiring.taking_long(made, on_long)
        forecasts = list(_foresee(job, out, part, made, sources, reporter))
        summary = summarise(forecasts)
        needs = None
        if checkpoint is not None and summary.to_do:
            lines = 1 if deterministic else batching.size
            needs = _resources(job, made, checkpoint, summary, str(precision), device, lines)
    finally:
        reporter.end()
    told = Told(
        forecasts,
        summary,
        needs,
        made.info.id,
        made.window if made.window < UNKNOWN_WINDOW else None,
        sources.skipped,
        exact=engine not in ("server", "runpod"),
    )
    (print_json if as_json else print_text)(told)
    raise typer.Exit(OK if needs is None or needs.fits else UNAVAILABLE)


def _echo() -> "tuple[Engine, Checkpoint | None]":
    from medgemma_cli.engines.echo import EchoEngine

    return EchoEngine(), None


def _on_ray(inner: "Engine") -> "Engine":
    """For its keys: it counts here, and no replica is started."""
    from medgemma_cli.engines.ray import RayEngine, RayOptions

    return RayEngine(inner, lambda: inner, RayOptions())


def _local(
    model: str,
    revision: str | None,
    offline: bool,
    reporter: "Reporter",
    max_attempts: int,
    adapter: Path | None,
    options: dict[str, Any],
) -> "tuple[Engine, Checkpoint | None]":
    """An engine that counts; of a model that is not here, configuration and tokenizer alone."""
    from medgemma_cli import models
    from medgemma_cli.commands.wiring import find_adapter
    from medgemma_cli.engines.local import LocalEngine, LocalOptions
    from medgemma_cli.retrying import Retrying

    checkpoint = models.resolve(model, revision=revision, offline=offline, step=reporter.step)
    options["adapter"] = find_adapter(adapter, checkpoint, reporter)
    checkpoint = models.fetch(checkpoint, reporter.step, weights=False)
    made = LocalEngine(checkpoint, LocalOptions(**options), step=reporter.step)
    return (made if made.constrains else Retrying(made, max_attempts)), checkpoint


def _foresee(
    job: "Job",
    out: Path,
    part: "Shard | None",
    engine: "Engine",
    sources: "Sources",
    reporter: "Reporter",
) -> "Iterator[Forecast]":
    from medgemma_cli import forecast
    from medgemma_cli.commands.outputs import make_folder
    from medgemma_cli.longdocs import rule_of
    from medgemma_cli.planning import Planner
    from medgemma_cli.readers.pool import ReaderPool

    total = sum(1 for _ in sources) if reporter.wants_total else 0
    folder = make_folder(out, part, job, engine, read_only=True)
    with folder as ledger, ReaderPool() as reading:
        planner = Planner(job, ledger, engine.identity, rule_of(engine))
        foreseen = forecast.foresee(job, planner, engine, sources, reading)
        for done, one in enumerate(foreseen, 1):
            reporter.step("counting tokens", done, total)
            yield one


def _resources(
    job: "Job",
    engine: "Engine",
    checkpoint: "Checkpoint",
    summary: "Summary",
    wanted: str,
    device: str,
    lines: int | None,
) -> "Resources":
    from medgemma_cli import forecast, models, speeds
    from medgemma_cli.commands.timekeeping import setup_of
    from medgemma_cli.engines import sizing
    from medgemma_cli.engines.loading import free_memory, pick_device, pick_precision

    device = pick_device(device)
    precision = pick_precision(cast("Precision", wanted), device)
    free, weights = free_memory(device), models.parameters(checkpoint)
    assert checkpoint.path is not None
    shape = sizing.shape(models.config(checkpoint.path))
    most, kind = job.limits.max_new_tokens, device.partition(":")[0]
    bounds = forecast.Bounds(
        lines=min(summary.to_do, lines or sizing.LINES[kind]),
        tokens=summary.longest + most,
        slice_tokens=sizing.SHOWN[kind],
    )
    rows = [] if weights is None else forecast.memory(weights, shape, free, bounds, precision)
    runs = speeds.past(setup_of(engine, precision, device))
    time = forecast.time_needed(runs, summary, job.template.hash, most)
    return forecast.Resources(device, precision, free, rows, *time)
