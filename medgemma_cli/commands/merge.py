"""`medgemma merge OUT`: the shards of an array job become one ledger. Needs no model."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medgemma_cli.sharding.joining import Joined


def merge(
    out: Annotated[Path, typer.Argument(help="The -o of the runs with --shard.")],
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Merge what is there, though shards are missing, half done or differ."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No final line.")] = False,
) -> None:
    """Join the ledgers and summaries of `run --shard`; killed, it can be run again.

    Exit 75 while shards are missing or half done, or one is running.
    """
    from medgemma_cli.progress import emit
    from medgemma_cli.sharding import joining

    started = time.monotonic()
    joined = joining.merge(out, partial=partial, note=lambda text: emit(text, sys.stderr))
    if not quiet:
        emit(_final(joined, out, time.monotonic() - started), sys.stderr)


def _final(joined: "Joined", out: Path, seconds: float) -> str:
    from medgemma_cli.commands.report import STATUSES
    from medgemma_cli.display import visible

    status = joined.status
    if not joined.shards and not status:
        return "medgemma: nothing to merge"
    told = ", ".join(f"{status[name]} {name}" for name in STATUSES if status[name]) or "none"
    line = f"medgemma: merged {joined.shards} shards: {status.total()} documents: {told}"
    line += f"; {seconds:.1f} s"
    if joined.altered:
        what = f"{joined.altered} summaries or sheets"
        line += f"; warning: {what} have a file of somebody else in their place"
    if status["failed"] + status["rejected"]:
        line += f"; see: medgemma status {visible(str(out))} --failed"
    return line
