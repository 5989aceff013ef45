"""`medgemma ask`: one question at a terminal. The answer on stdout, everything else on stderr."""

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.run import DEFAULT_MODEL
from medgemma_cli.errors import DOCUMENTS_FAILED, OK, NoInputError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.engines.base import Engine
    from medgemma_cli.job import Job
    from medgemma_cli.records import Record, Source


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    files: Annotated[
        list[Path] | None,
        o.option("--file", "-f", envvar=None, help="A document to ask about. Repeatable."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        o.option("--image", "-i", envvar=None, help="An image to ask about. Repeatable."),
    ] = None,
    model: o.Model = DEFAULT_MODEL,
    template: o.Template = "general",
    system: o.System = None,
    out: Annotated[
        Path | None,
        o.option("--out", "-o", envvar=None, help="Keep question and answer in this ledger."),
    ] = None,
    json_record: Annotated[
        bool, o.option("--json", help="The record on stdout, in place of the answer.")
    ] = False,
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
    max_new_tokens: o.MaxNewTokens = None,
    min_new_tokens: o.MinNewTokens = 0,
    temperature: o.Temperature = 0.0,
    top_p: o.TopP = 1.0,
    seed: o.Seed = 0,
    grammar: o.Grammar = True,
    max_attempts: o.MaxAttempts = 3,
    keep_views: o.KeepViews = False,
    quiet: o.Quiet = False,
) -> None:
    """Ask a question, about documents and images if you like.

    A document can also be piped in: cat note.md | medgemma ask "Which drugs were stopped?"
    """
    from medgemma_cli.commands import remote, request, wiring
    from medgemma_cli.job import Job
    from medgemma_cli.progress import emit, reporter_for

    if not question.strip():
        raise UsageError("The question is empty.", "Put it in quotes after `ask`.")
    # Before anything that can fail: no missing file or model may stand before an emergency.
    if refused := _refused(question, template):
        _tell_refusal(refused, json_record=json_record, kept=out is not None, quiet=quiet)
        raise typer.Exit(OK)
    if keep_views and out is None:
        raise UsageError("--keep-views has no folder to keep them in.", "Give one with -o.")
    chosen = request.load_template(template, system)
    limits = request.make_limits(
        chosen, max_new_tokens, min_new_tokens, temperature, top_p, seed, max_input_tokens
    )
    read_limits = request.make_read_limits(
        encoding, max_bytes, max_pixels, max_pages, max_slide_bytes, seed
    )
    job = Job(
        template=chosen,
        limits=limits,
        read_limits=read_limits,
        question=question,
        keep_views=keep_views,
    )
    reporter = reporter_for(quiet=quiet, verbose=False)
    made = wiring.make_engine(
        engine,
        model=model,
        revision=revision,
        adapter=adapter,
        offline=offline,
        precision=precision,
        double_quant=double_quant,
        device=device,
        batching=wiring.Batching(size=1),
        echo_delay=echo_delay,
        grammar=grammar,
        max_attempts=max_attempts,
        reporter=reporter,
        servers=remote.Servers(
            base_url, served_model, allow_remote, request_timeout, structured, endpoint, jobs
        ),
    )
    made = wiring.taking_long(made, on_long)
    try:
        record = _ask(job, made, [*(files or []), *(images or [])], out, stream=not json_record)
    finally:
        reporter.end()
    if json_record:
        emit(record.model_dump_json(by_alias=True))
    elif record.raw_text and not record.raw_text.endswith("\n"):
        emit("")  # the answer ends its line
    if not quiet:
        _tell(record)
    raise typer.Exit(DOCUMENTS_FAILED if record.error is not None else OK)


def _refused(question: str, template: str) -> "Record | None":
    """The fixed answer to an emergency or to a wish for personal advice; None for the rest."""
    from medgemma_cli.safety.triage import triage_question

    flag = triage_question(question)
    if flag is None:
        return None
    from medgemma_cli.refusing import refuse

    return refuse(question, template, flag)


def _tell_refusal(record: "Record", *, json_record: bool, kept: bool, quiet: bool) -> None:
    from medgemma_cli.progress import emit

    emit(record.model_dump_json(by_alias=True) if json_record else record.raw_text or "")
    if quiet:
        return
    _tell(record)
    if kept:
        emit("medgemma: note: nothing was asked, so nothing is kept in -o.", sys.stderr)


def _ask(
    job: "Job", engine: "Engine", paths: list[Path], out: Path | None, *, stream: bool
) -> "Record":
    from medgemma_cli.asking import answer
    from medgemma_cli.ledger import Ledger
    from medgemma_cli.readers.pool import ReaderPool

    sources = _sources(paths)
    show = _show if stream else _hide
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(ReaderPool(1))
        ledger = stack.enter_context(Ledger(out)) if out is not None else None
        return answer(job, engine, sources, show, ledger, reading)


def _sources(paths: list[Path]) -> "list[Source]":
    from medgemma_cli import readers
    from medgemma_cli.discover import STDIN, printable
    from medgemma_cli.records import Source

    found = []
    for number, path in enumerate(paths or ([Path(STDIN)] if _piped() else []), 1):
        stdin = str(path) == STDIN
        if not stdin and not path.exists():
            # Its number, not its name: this may end in a log.
            raise NoInputError(
                f"Nothing is at path number {number} of --file and --image.", "Check the path."
            )
        known = stdin or path.suffix.lower() in readers.SUFFIXES
        found.append(
            Source(
                place=str(path),
                relative=printable(path.name),
                origin=printable(os.path.abspath(path)),
                error=None if known else "unsupported",
            )
        )
    return found


def _piped() -> bool:
    """Whether standard input is a pipe or a file; a terminal or nothing at all is not."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _show(piece: str) -> None:
    from medgemma_cli.display import visible

    if sys.stdout is not None:
        sys.stdout.write(visible(piece, keep_lines=True))
        sys.stdout.flush()


def _hide(piece: str) -> None:
    return


def _tell(record: "Record") -> None:
    """Flags and the notice, after the answer."""
    from medgemma_cli.progress import emit

    if record.error is not None:
        emit(f"medgemma: {record.status}: {record.error.code}. {record.error.hint}", sys.stderr)
    for flag in record.flags:
        emit(f"medgemma: {flag.severity}: {flag.rule}: {flag.why}", sys.stderr)
    for note in record.degraded:
        emit(f"medgemma: note: {note}", sys.stderr)
    emit(record.notice, sys.stderr)
