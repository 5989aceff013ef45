"""`medgemma batch`: a file of chat requests in, as `vllm run-batch` takes it; results out."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands import run as running

if TYPE_CHECKING:
    from medgemma_cli.batch import Requests, Results
    from medgemma_cli.ledger import Ledger
    from medgemma_cli.totals import Totals


def batch(
    requests: Annotated[Path, typer.Argument(help="A .jsonl file, a chat request a line.")],
    out: Annotated[
        Path, o.option("--out", "-o", help="Output folder: records.jsonl, results.jsonl, pages.")
    ],
    results: Annotated[
        Path | None, o.option("--results", help="The results, elsewhere than OUT/results.jsonl.")
    ] = None,
    model: o.Model = running.DEFAULT_MODEL,
    served_model_name: Annotated[
        list[str] | None,
        o.option(
            "--served-model-name",
            help="A name that requests may give the model, besides that of --model. Repeatable.",
        ),
    ] = None,
    force: Annotated[
        bool, o.option("--force", help="Infer again, even what is done already.")
    ] = False,
    retry_failed: Annotated[
        bool, o.option("--retry-failed", help="Try failed requests again, up to --max-attempts.")
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
        o.option("--fail-on", help="Exit 4 if any current record is this, as of `run`."),
    ] = None,
    max_bytes: Annotated[
        int, o.option("--max-bytes", panel=o.INPUT_PANEL, min=1, help="Of a request.")
    ] = 50_000_000,
    max_pixels: Annotated[
        int, o.option("--max-pixels", panel=o.INPUT_PANEL, min=1, help="Of a request's images.")
    ] = 64_000_000,
    precision: o.PrecisionOption = o.PrecisionChoice.auto,
    double_quant: o.DoubleQuant = True,
    device: o.Device = "auto",
    batch_size: Annotated[
        str, o.option("--batch-size", panel=o.MODEL_PANEL, help="Requests at once, as of `run`.")
    ] = "auto",
    batch_tokens: Annotated[
        int | None,
        o.option("--batch-tokens", panel=o.MODEL_PANEL, min=1, help="As of `run`."),
    ] = None,
    deterministic: Annotated[
        bool, o.option("--deterministic", panel=o.MODEL_PANEL, help="One at a time, as of `run`.")
    ] = False,
    adapter: o.Adapter = None,
    revision: o.Revision = None,
    offline: o.Offline = False,
    engine: o.Engine = o.EngineChoice.local,
    echo_delay: o.EchoDelay = 0.0,
    max_new_tokens: Annotated[
        int,
        o.option(
            "--max-new-tokens",
            panel=o.GENERATION_PANEL,
            min=1,
            help="Where a request says no max_tokens.",
        ),
    ] = 1024,
    temperature: Annotated[
        float,
        o.option(
            "--temperature",
            panel=o.GENERATION_PANEL,
            min=0,
            max=5,
            help="Where a request says none. 0 is greedy decoding.",
        ),
    ] = 0.0,
    top_p: Annotated[
        float,
        o.option(
            "--top-p",
            panel=o.GENERATION_PANEL,
            min=0.01,
            max=1,
            help="Where a request says none.",
        ),
    ] = 1.0,
    seed: Annotated[
        int,
        o.option("--seed", panel=o.GENERATION_PANEL, min=0, help="Where a request says none."),
    ] = 0,
    grammar: o.Grammar = True,
    max_attempts: o.MaxAttempts = 3,
    fresh: Annotated[
        bool,
        o.option("--fresh", panel=o.LEDGER_PANEL, help="New ledger; the old goes to quarantine/."),
    ] = False,
    fsync: o.FsyncOption = o.Fsync.always,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Answer a file of OpenAI-style chat requests, as `vllm run-batch` takes it.

    Run the same command again and only what is new or changed is done. The results are written
    when every line has its answer or its error, in the order of the file.
    """
    from medgemma_cli import batch as batches
    from medgemma_cli import conversations, discover
    from medgemma_cli.commands import gating, request, wiring
    from medgemma_cli.job import Job
    from medgemma_cli.progress import reporter_for

    started = time.monotonic()
    seconds = running.parse_duration(max_time) if max_time is not None else None
    gate = gating.make_gate(fail_on or [])
    sources = batches.Requests(str(requests), max_bytes, {model, *(served_model_name or [])})
    discover.check_output_folder([str(requests)], out)
    target = results if results is not None else out / batches.RESULTS
    batches.check_results(target, requests, out)
    template = conversations.template(max_new_tokens)
    job = Job(
        template=template,
        limits=request.make_limits(template, None, 0, temperature, top_p, seed),
        read_limits=request.make_read_limits(None, max_bytes, max_pixels, 1000, max_bytes, seed),
        force=force,
        retry_failed=retry_failed,
        max_attempts=max_attempts,
        fsync=fsync == "always",
    )
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
    )
    if dry_run:
        raise typer.Exit(running.plan(job, out, made, sources, json_lines=False, fresh=fresh))
    written = batches.Results(target, out)
    code = running.execute(
        job,
        out,
        made,
        sources,
        reporter,
        device=device,
        seconds=seconds,
        fresh=fresh,
        fail_on=gate,
        json_lines=False,
        quiet=quiet,
        verbose=verbose,
        started=started,
        observe=written.note,
        after=lambda ledger, totals: _write(written, ledger, totals, sources),
    )
    if not quiet:
        _tell(written)
    raise typer.Exit(code)


def _write(written: "Results", ledger: "Ledger", totals: "Totals", sources: "Requests") -> None:
    """Only whole: half a file of results would be taken for all of them."""
    if not totals.left and written.complete(sources.found):
        written.write(ledger, sources.found)


def _tell(written: "Results") -> None:
    from medgemma_cli.display import visible
    from medgemma_cli.progress import emit

    if written.done:
        emit(f"medgemma: results: {visible(str(written.path))}", sys.stderr)
    else:
        emit("medgemma: no results yet: work remains, run again", sys.stderr)
