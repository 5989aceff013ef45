"""`medgemma export`: an adapter and its base in, one checkpoint of the usual kind out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.run import DEFAULT_MODEL
from medgemma_cli.errors import UsageError

_HUB = "Hub"


class Dtype(StrEnum):
    """What weights are rounded to."""

    bf16 = "bf16"
    fp16 = "fp16"


def export(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A folder, as of `tune`.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The checkpoint's folder: new, empty or an export.")
    ],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add the adapter to the weights of its base.")
    ] = False,
    dtype: Annotated[
        Dtype, typer.Option("--dtype", help="Of the weights; Gemma 3 overflows in fp16.")
    ] = Dtype.bf16,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            min=0,
            help="Keep nothing if a log-probability differs by more from base and adapter.",
        ),
    ] = 1.0,
    model: o.Model = DEFAULT_MODEL,
    device: o.Device = "auto",
    revision: o.Revision = None,
    offline: o.Offline = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub", metavar="OWNER/NAME", rich_help_panel=_HUB, help="Also upload it."
        ),
    ] = None,
    private: Annotated[
        bool,
        typer.Option("--private/--public", rich_help_panel=_HUB, help="Who may see it there."),
    ] = True,
    quiet: o.Quiet = False,
) -> None:
    """Merge an adapter into its base: a checkpoint for --model, compared before it is kept."""
    from medgemma_cli.commands import merging
    from medgemma_cli.engines.exporting.merging import Kind
    from medgemma_cli.progress import reporter_for

    if not merge:
        raise UsageError(
            "Nothing says what to export.",
            "There is --merge: a checkpoint of transformers. For GGUF and others see "
            "docs/export.md.",
        )
    asked = merging.Asked(
        adapter=adapter,
        out=out,
        kind=cast("Kind", str(dtype)),
        tolerance=tolerance,
        model=model,
        device=device,
        revision=revision,
        offline=offline,
        repo=push_to_hub,
        private=private,
    )
    reporter = reporter_for(quiet=quiet, verbose=False)
    try:
        merging.run(asked, reporter, quiet=quiet)
    finally:
        reporter.end()
