"""`medgemma run`: a folder of documents in, records and summaries out."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.errors import (
    DOCUMENTS_FAILED,
    GATE,
    OK,
    RUN_AGAIN,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from medgemma_cli.engines.base import Engine
    from medgemma_cli.job import Job
    from medgemma_cli.ledger import Ledger
    from medgemma_cli.pairing.grouping import Sources
    from medgemma_cli.progress import Reporter
    from medgemma_cli.records import Record
    from medgemma_cli.sharding.split import Shard
    from medgemma_cli.totals import Totals

DEFAULT_MODEL = "google/medgemma-1.5-4b-it"


def run(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, globs, or - for one document from stdin."),
    ] = None,
    out: Annotated[
        Path, o.option("--out", "-o", help="Output folder: records.jsonl and the summaries.")
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
    force: Annotated[
        bool, o.option("--force", help="Infer again, even what is done already.")
    ] = False,
    retry_failed: Annotated[
        bool, o.option("--retry-failed", help="Try failed documents again, up to --max-attempts.")
    ] = False,
    max_time: Annotated[
        str | None,
        o.option("--max-time", help="Stop after 90s, 30m or 8h; exit 75 if work is left."),
    ] = None,
    dry_run: Annotated[
        bool, o.option("--dry-run", help="Say what would run and why; load and write nothing.")
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        o.option(
            "--fail-on",
            help="Exit 4 if any current record is this: failed, flagged, or has a flag of this "
            "rule (`medgemma rules`). Repeatable.",
        ),
    ] = None,
    json_lines: Annotated[
        bool, o.option("--json", help="Current records of the inputs on stdout, a line each.")
    ] = False,
    files_from: Annotated[
        str | None,
        o.option("--files-from", panel=o.INPUT_PANEL, help="A file with one path a line, or -."),
    ] = None,
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
        str,
        o.option(
            "--batch-size",
            panel=o.MODEL_PANEL,
            help="Documents at once: auto (what the device does best and what fits), or a number.",
        ),
    ] = "auto",
    batch_tokens: Annotated[
        int | None,
        o.option(
            "--batch-tokens",
            panel=o.MODEL_PANEL,
            min=1,
            help="Documents at once times the longest, in tokens. Default: what fits.",
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        o.option(
            "--deterministic",
            panel=o.MODEL_PANEL,
            help="One at a time: no byte of an answer depends on other documents. Slower.",
        ),
    ] = False,
    adapter: o.Adapter = None,
    revision: o.Revision = None,
    offline: o.Offline = False,
    engine: o.Engine = o.EngineChoice.local,
    echo_delay: o.EchoDelay = 0.0,
    base_url: o.BaseUrl = None,
    served_model: o.ServedModel = None,
    allow_remote: o.AllowRemote = False,
    endpoint: o.Endpoint = None,
    jobs: o.JobsOption = o.Jobs.sync,
    request_timeout: o.RequestTimeout = 600.0,
    structured: o.StructuredOption = o.Structured.schema,
    ray_address: o.RayAddress = None,
    replicas: o.Replicas = 1,
    gpus_per_replica: o.GpusPerReplica = None,
    ray_engine: o.RayEngine = o.RayEngineChoice.local,
    max_new_tokens: o.MaxNewTokens = None,
    min_new_tokens: o.MinNewTokens = 0,
    temperature: o.Temperature = 0.0,
    top_p: o.TopP = 1.0,
    seed: o.Seed = 0,
    grammar: o.Grammar = True,
    max_attempts: o.MaxAttempts = 3,
    fresh: Annotated[
        bool,
        o.option("--fresh", panel=o.LEDGER_PANEL, help="New ledger; the old goes to quarantine/."),
    ] = False,
    fsync: o.FsyncOption = o.Fsync.always,
    keep_views: o.KeepViews = False,
    shard: o.ShardOption = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Summarise documents: one JSON line in OUT/records.jsonl and one Markdown file each.

    Run the same command again and only what is new or changed is done.
    """
    from medgemma_cli import pairing
    from medgemma_cli.commands import gating, inputs, remote, request, wiring
    from medgemma_cli.job import Job
    from medgemma_cli.progress import reporter_for

    started = time.monotonic()
    seconds = parse_duration(max_time) if max_time is not None else None
    gate = gating.make_gate(fail_on or [])
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
        fsync=fsync == "always",
        keep_views=keep_views,
    )
    part = inputs.make_shard(shard, fresh=fresh)
    found = inputs.find(
        paths or [],
        out,
        files=inputs.listed(files_from),
        include=include or [],
        exclude=exclude or [],
        columns=inputs.make_columns(text_column, image_column, id_column, job.read_limits),
        rule=None if pair_by is None else pairing.rule(pair_by, job.read_limits.encoding),
        limit=limit,
    )
    sources = inputs.make_portion(found, part)
    reporter = reporter_for(quiet=quiet, verbose=verbose)
    made = wiring.make_engine(
        engine,
        model=model,
        revision=revision,
        adapter=adapter,
        offline=offline,
        precision=precision,
        double_quant=double_quant,
        device=device,
        batching=wiring.make_batching(batch_size, batch_tokens, deterministic),
        echo_delay=echo_delay,
        grammar=grammar,
        max_attempts=max_attempts,
        reporter=reporter,
        servers=remote.Servers(
            base_url, served_model, allow_remote, request_timeout, structured, endpoint, jobs
        ),
        ray=wiring.make_ray(engine, ray_address, replicas, gpus_per_replica),
        ray_engine=ray_engine,
    )
    made = wiring.taking_long(made, on_long)
    raise typer.Exit(
        plan(job, out, made, sources, json_lines=json_lines, fresh=fresh, part=part)
        if dry_run
        else execute(
            job,
            out,
            made,
            sources,
            reporter,
            part=part,
            device=device,
            seconds=seconds,
            fresh=fresh,
            fail_on=gate,
            json_lines=json_lines,
            quiet=quiet,
            verbose=verbose,
            started=started,
        )
    )


def execute(
    job: "Job",
    out: Path,
    engine: "Engine",
    sources: "Sources",
    reporter: "Reporter",
    *,
    device: str,
    seconds: float | None,
    fresh: bool,
    fail_on: set[str],
    json_lines: bool,
    quiet: bool,
    verbose: bool,
    started: float,
    part: "Shard | None" = None,
    observe: "Callable[[Record], None] | None" = None,
    after: "Callable[[Ledger, Totals], None] | None" = None,
) -> int:
    """Do the work; the exit code.

    Args:
        part: the shard whose documents they are; None: they are of the whole folder.
        observe: called with each input's current record; in place of `json_lines`.
        after: called when all is committed, while the folder is still held.
    """
    from medgemma_cli.commands import gating, outputs
    from medgemma_cli.commands.report import closing_table, final_line
    from medgemma_cli.commands.timekeeping import keep_time
    from medgemma_cli.ledger import Attempts
    from medgemma_cli.pipeline import Run
    from medgemma_cli.progress import emit
    from medgemma_cli.readers.pool import ReaderPool
    from medgemma_cli.signals import Stopper

    stopper = Stopper(seconds)
    folder = outputs.make_folder(out, part, job, engine)
    with (
        stopper.watching(),
        folder as ledger,
        Attempts(ledger, trace=True) as attempts,
        ReaderPool() as reading,
    ):
        process = Run(
            job,
            ledger,
            engine,
            reporter,
            attempts=attempts,
            reading=reading,
            keep_going=stopper.keep_going,
            on_record=(lambda record: emit(record.model_dump_json(by_alias=True)))
            if json_lines
            else observe,
            all_rules=bool(fail_on - gating.STATUSES),
        )
        try:
            process.prepare(fresh=fresh)
        finally:
            for warning in ledger.warnings:
                reporter.note(f"warning: {warning}")
        reporter.begin(_total(sources) if reporter.wants_total else None)
        try:
            totals = process.execute(sources)
            folder.finish(sources, totals.left)
        finally:
            reporter.end()
        if after is not None:
            after(ledger, totals)
    keep_time(engine, device, job, totals)
    if not quiet:
        elapsed = time.monotonic() - started
        emit(final_line(totals, sources.skipped, out, elapsed, part), sys.stderr)
        if verbose:
            emit(closing_table(totals), sys.stderr)
    return exit_code(totals, fail_on, stopper.code)


def _total(sources: "Sources") -> int:
    return sum(1 for _ in sources)


def exit_code(totals: "Totals", fail_on: set[str], stopped: int | None) -> int:
    """130 and 75 before 4, before 3, before 0. Cached records count like new ones.

    75 only while work remains: a time that was up when all was done is no reason to run again.
    """
    if stopped is not None and (stopped != RUN_AGAIN or totals.left):
        return stopped
    bad = totals.status["failed"] + totals.status["rejected"]
    flagged = totals.status["flagged"]
    hit = any(totals.rules[rule] for rule in fail_on)
    if hit or ("failed" in fail_on and bad) or ("flagged" in fail_on and flagged):
        return GATE
    return DOCUMENTS_FAILED if bad else OK


def plan(
    job: "Job",
    out: Path,
    engine: "Engine",
    sources: "Sources",
    *,
    json_lines: bool,
    fresh: bool,
    part: "Shard | None" = None,
) -> int:
    """Say what would be done, and why; the exit code."""
    import json
    from collections import Counter

    from medgemma_cli.commands import inputs, outputs
    from medgemma_cli.display import pair_name, visible
    from medgemma_cli.pipeline import Run
    from medgemma_cli.progress import SilentReporter, emit

    counts: Counter[str] = Counter()
    with outputs.make_folder(out, part, job, engine, read_only=True) as ledger:
        if fresh:
            ledger.forget()
        for step in Run(job, ledger, engine, SilentReporter()).plan(sources):
            counts[step.action] += 1
            name, prior = step.source.relative, step.source.prior
            if json_lines:
                line = {"source": name, "action": step.action, "why": step.why, "key": step.key}
                emit(json.dumps({**line, "prior": prior.relative} if prior else line))
            elif step.action != "cached":
                shown = visible(pair_name(name, prior.relative if prior else None))
                emit(f"{step.action:9} {step.why:12} {shown}")
    for why, source in inputs.unpaired(sources):
        counts["skip"] += 1
        if json_lines:
            emit(json.dumps({"source": source.relative, "action": "skip", "why": why}))
        else:
            emit(f"{'skip':9} {why}: {visible(source.relative)}")
    told = ", ".join(f"{n} {action}" for action, n in sorted(counts.items())) or "nothing"
    emit(f"medgemma: dry run: {told}; nothing was loaded or written", sys.stderr)
    return OK


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``30m`` or ``8h``.

    Raises:
        UsageError: it is none of these.
    """
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    number = text[:-1] if factor else text
    try:
        seconds = float(number) * (factor or 1)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError("--max-time is not a duration.", "Examples: 90s, 30m, 8h.")
    return seconds
