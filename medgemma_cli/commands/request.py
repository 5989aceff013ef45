"""What is asked of documents: options become a template and limits."""

from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_cli.errors import ConfigError, UsageError

if TYPE_CHECKING:
    import typer

    from medgemma_cli.readers import ReadLimits
    from medgemma_cli.records import Limits
    from medgemma_cli.templates import Template


COMPARE = "compare"


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
