"""The `medgemma` command. Wires the commands together and maps every ending to an exit code."""

import gc
import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer

from medgemma_cli import __version__
from medgemma_cli.commands import evaluate as evaluate_command
from medgemma_cli.commands import templates as templates_command
from medgemma_cli.commands.ask import ask
from medgemma_cli.commands.batch import batch
from medgemma_cli.commands.check import check
from medgemma_cli.commands.doctor import doctor
from medgemma_cli.commands.export import export
from medgemma_cli.commands.merge import merge
from medgemma_cli.commands.plan import plan
from medgemma_cli.commands.rules import rules
from medgemma_cli.commands.run import run
from medgemma_cli.commands.serve import serve
from medgemma_cli.commands.status import status
from medgemma_cli.commands.tune import tune
from medgemma_cli.commands.verify import verify
from medgemma_cli.errors import (
    INTERRUPTED,
    RUN_AGAIN,
    UNFORESEEN,
    USAGE,
    ConfigError,
    MedgemmaError,
)
from medgemma_cli.hush import hush

# Typer's own, or click's with an older Typer; only its subclass is public in both.
_CannotParse = cast("type[Exception]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="medgemma",
    help="Turn a folder of clinical documents into checked summaries with MedGemma, locally.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", no_args_is_help=True)(run)
app.command("plan", no_args_is_help=True)(plan)
app.command("ask", no_args_is_help=True)(ask)
app.command("batch", no_args_is_help=True)(batch)
app.command("serve")(serve)
app.command("check", no_args_is_help=True)(check)
app.command("rules")(rules)
app.command("status")(status)
app.command("verify")(verify)
app.command("merge", no_args_is_help=True)(merge)
app.add_typer(evaluate_command.app, name="eval")
app.command("tune", no_args_is_help=True)(tune)
app.command("export", no_args_is_help=True)(export)
app.add_typer(templates_command.app, name="templates")
app.command("doctor")(doctor)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a record, the contract of records.jsonl."""
    import json

    from medgemma_cli.progress import emit
    from medgemma_cli.records import Record

    emit(json.dumps(Record.model_json_schema(by_alias=True), indent=2))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medgemma {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Version, then exit."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            envvar="MEDGEMMA_DEBUG",
            help="Tracebacks and library logs. They may quote documents.",
        ),
    ] = False,
) -> None:
    """Turn a folder of clinical documents into checked summaries with MedGemma, locally."""
    if debug:
        import logging

        os.environ["MEDGEMMA_DEBUG"] = "1"
        logging.basicConfig(level=logging.INFO, force=True)
        logging.getLogger("medgemma_cli").setLevel(logging.DEBUG)


def read_dotenv() -> None:
    """Take MEDGEMMA_* and HF_* from a `.env` in the working folder; the environment wins."""
    if not Path(".env").is_file():
        return
    from dotenv import dotenv_values

    try:
        values = dotenv_values(".env")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            "The .env file cannot be read as UTF-8 text.", "Correct it, or move it away."
        ) from None
    for name, value in values.items():
        if name.startswith(("MEDGEMMA_", "HF_")) and value is not None:
            os.environ.setdefault(name, value)


def main() -> None:
    """The console script: run the command, map its ending to an exit code."""
    _fill_closed_streams()
    hush()
    gc.set_threshold(20_000, 20, 20)  # records make no cycles; collecting often is for nothing
    # Until a command watches signals itself there is nothing to drain.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(RUN_AGAIN))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        read_dotenv()
        if sys.stderr is not None and sys.stderr.isatty():
            app()
        _leave(app(standalone_mode=False) or 0)
    except _CannotParse as error:
        _say(_usage(error))
        _leave(USAGE, error)
    except MedgemmaError as error:
        _say(f"medgemma: {error.message}\n  {error.next_step}")
        _leave(error.exit_code, error)
    except KeyboardInterrupt as error:
        _leave(INTERRUPTED, error)
    except BrokenPipeError as error:
        _leave(0, error)
    except BaseException as error:  # a panic of a library in Rust is no Exception
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise
        # The class and the place alone: messages of libraries quote their input.
        _say(f"medgemma: an error nobody foresaw: {type(error).__name__} at {_place(error)}")
        _say("  Everything finished so far is kept. Run again with --debug, and report this.")
        _leave(UNFORESEEN, error)


def _fill_closed_streams() -> None:
    """Descriptors 0 to 2 that are closed get /dev/null, or the ledger would get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _place(error: BaseException) -> str:
    place = "unknown"
    at = error.__traceback__
    while at is not None:
        module = at.tb_frame.f_globals.get("__name__", "")
        if module.startswith("medgemma_cli"):
            place = f"{module}:{at.tb_lineno}"
        at = at.tb_next
    return place


def _say(text: str) -> None:
    from medgemma_cli.progress import emit

    emit(text, sys.stderr)


def _usage(error: Exception) -> str:
    """What is wrong with the command line, for a log: without the words that were typed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "medgemma"
    kind, message = type(error).__name__, cast("typer.BadParameter", error).format_message()
    if kind == "NoArgsIsHelpError":
        return message
    if kind == "BadParameter":
        message = f"{message.partition(':')[0]}."
    elif kind not in ("MissingParameter", "BadOptionUsage"):
        message = re.split(r": |\(s\)| '", message)[0] + "."
    if alike := getattr(error, "possibilities", None):  # names of options that there are
        message += f" Is it {' or '.join(sorted(alike))}?"
    return f"medgemma: {message}\n  See {command} --help."


def _leave(code: int, error: BaseException | None = None) -> NoReturn:
    if error is not None and os.environ.get("MEDGEMMA_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        # Or the interpreter would complain again when it flushes standard output.
        sys.stdout = None
    sys.exit(code)
