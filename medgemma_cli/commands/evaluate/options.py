"""Options that the evaluations share."""

from pathlib import Path
from typing import Annotated

import typer

from medgemma_cli.commands import options

Field = Annotated[
    str, typer.Option("--field", help="The field of the output to compare; lists are lines.")
]
Html = Annotated[
    Path | None, typer.Option("--html", help="Also write a page with plots to this file.")
]
Json = Annotated[bool, typer.Option("--json", help="Everything as one JSON line.")]
References = Annotated[
    Path | None,
    typer.Option(
        "--references",
        help="JSON Lines of {source, id or sha256; reference}. Without: what the checks found.",
    ),
]
BatchSize = Annotated[
    str, options.option("--batch-size", panel=options.MODEL_PANEL, help="Prompts at once, or auto.")
]
BatchTokens = Annotated[
    int | None,
    options.option(
        "--batch-tokens",
        panel=options.MODEL_PANEL,
        min=1,
        help="Prompts at once times the longest, in tokens. Default: what fits.",
    ),
]
Deterministic = Annotated[
    bool,
    options.option(
        "--deterministic",
        panel=options.MODEL_PANEL,
        help="One at a time: no answer depends on other questions. Slower.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap's resamples.")]
