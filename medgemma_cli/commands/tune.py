"""`medgemma tune`: examples in, a LoRA adapter for `run --adapter` out."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.commands.run import DEFAULT_MODEL, parse_duration
from medgemma_cli.errors import UsageError

_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ADAPTER = "Adapter"
_TRAINING = "Training"


def _option(*names: str, **settings: Any) -> Any:
    """An option without an environment variable: `run` has other ones of the same names."""
    return typer.Option(*names, **settings)


def tune(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="TRAIN.jsonl", help="Examples, one a line.")],
    out: Annotated[Path, _option("--out", "-o", help="The adapter's folder: new, or to go on.")],
    model: o.Model = DEFAULT_MODEL,
    validation: Annotated[
        Path | None, _option("--validation", help="Examples that measure and do not teach.")
    ] = None,
    validation_share: Annotated[
        float,
        _option(
            "--validation-share", min=0, max=0.9, help="Else: this share of TRAIN; 0 for none."
        ),
    ] = 0.1,
    max_tokens: Annotated[
        int, _option("--max-tokens", min=16, help="Of an example, prompt and answer.")
    ] = 4096,
    skip_long: Annotated[
        bool, _option("--skip-long", help="Leave longer examples out, and count them.")
    ] = False,
    start: Annotated[
        Path | None,
        _option(
            "--from",
            metavar="DIR",
            rich_help_panel=_ADAPTER,
            help="Begin with the weights of an adapter, made on this model, and keep its size.",
        ),
    ] = None,
    rank: Annotated[int, _option("--rank", min=1, max=1024, rich_help_panel=_ADAPTER)] = 16,
    alpha: Annotated[
        float, _option("--alpha", min=0.001, rich_help_panel=_ADAPTER, help="Scale: alpha / rank.")
    ] = 32.0,
    dropout: Annotated[
        float, _option("--dropout", min=0, max=0.9, rich_help_panel=_ADAPTER)
    ] = 0.05,
    target_modules: Annotated[
        str,
        _option(
            "--target-modules",
            rich_help_panel=_ADAPTER,
            help="Layers of the text model, with commas: q_proj, k_proj, … or all.",
        ),
    ] = "all",
    epochs: Annotated[
        float, _option("--epochs", min=0.01, rich_help_panel=_TRAINING, help="Passes over TRAIN.")
    ] = 3.0,
    max_steps: Annotated[
        int | None, _option("--max-steps", min=1, rich_help_panel=_TRAINING, help="End earlier.")
    ] = None,
    max_time: Annotated[
        str | None,
        _option(
            "--max-time",
            rich_help_panel=_TRAINING,
            help="Stop after 90s, 30m or 8h; exit 75 if steps are left.",
        ),
    ] = None,
    learning_rate: Annotated[
        float,
        _option("--learning-rate", min=1e-9, max=1, rich_help_panel=_TRAINING, help="At its peak."),
    ] = 2e-4,
    batch_size: Annotated[
        int, _option("--batch-size", min=1, rich_help_panel=_TRAINING, help="Examples at once.")
    ] = 1,
    accumulate: Annotated[
        int,
        _option("--accumulate", min=1, rich_help_panel=_TRAINING, help="Batches that make a step."),
    ] = 8,
    patience: Annotated[
        int,
        _option(
            "--patience",
            min=0,
            rich_help_panel=_TRAINING,
            help="End after so many evaluations that were no better; 0: go on.",
        ),
    ] = 3,
    every: Annotated[
        int | None,
        _option(
            "--every",
            min=1,
            rich_help_panel=_TRAINING,
            help="Steps to the next evaluation and checkpoint.",
        ),
    ] = None,
    gradient_checkpointing: Annotated[
        bool,
        _option(
            "--gradient-checkpointing/--no-gradient-checkpointing",
            rich_help_panel=_TRAINING,
            help="Less memory, a fifth slower.",
        ),
    ] = True,
    seed: Annotated[int, _option("--seed", min=0, rich_help_panel=_TRAINING)] = 0,
    precision: o.PrecisionOption = o.PrecisionChoice.auto,
    double_quant: o.DoubleQuant = True,
    device: o.Device = "auto",
    revision: o.Revision = None,
    offline: o.Offline = False,
    quiet: o.Quiet = False,
) -> None:
    """Teach a model from examples: a LoRA adapter for --adapter. Goes on where it was ended.

    Learns the answers alone, from the very tokens that `run` shows.
    """
    from medgemma_cli.commands import training
    from medgemma_cli.progress import reporter_for
    from medgemma_cli.records import Precision
    from medgemma_cli.tuning.settings import Settings

    if precision == "fp16":
        raise UsageError("Gemma 3 overflows in fp16.", "Use --precision bf16, fp32 or nf4.")
    if start is not None:
        _check_untold(context, "rank", "alpha", "target_modules")
    settings = Settings(
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        modules=_modules(target_modules),
        precision=cast("Precision", str(precision)),
        double_quant=double_quant,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        batch=batch_size,
        accumulate=accumulate,
        checkpointing=gradient_checkpointing,
        patience=patience,
        validation_share=0.0 if validation else validation_share,
        max_tokens=max_tokens,
        skip_long=skip_long,
        every=every,
        seed=seed,
    )
    seconds = parse_duration(max_time) if max_time is not None else None
    asked = training.Asked(
        data, validation, out, model, revision, offline, device, settings, seconds, start
    )
    reporter = reporter_for(quiet=quiet, verbose=False)
    try:
        code = training.run(asked, reporter, quiet=quiet)
    finally:
        reporter.end()
    raise typer.Exit(code)


def _check_untold(context: typer.Context, *names: str) -> None:
    """See that options which an adapter decides are not given.

    Raises:
        UsageError: 2.
    """
    sources = [context.get_parameter_source(name) for name in names]
    if any(source is not None and source.name != "DEFAULT" for source in sources):
        raise UsageError(
            "--rank, --alpha and --target-modules are those of the adapter of --from.",
            "Leave them out, or tune a new adapter without --from.",
        )


def _modules(names: str) -> tuple[str, ...]:
    """The layers named, in an order of their own.

    Raises:
        UsageError: 2, one is not there.
    """
    asked = {name.strip() for name in names.split(",")}
    if asked == {"all"}:
        return _MODULES
    if not asked <= set(_MODULES):
        raise UsageError(
            "--target-modules names a layer that is not there.", f"There are {', '.join(_MODULES)}."
        )
    return tuple(name for name in _MODULES if name in asked)
