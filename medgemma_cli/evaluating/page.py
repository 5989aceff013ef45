"""A self-contained HTML page of figures: no script, nothing fetched, every text escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medgemma_cli.display import visible
from medgemma_cli.evaluating.bootstrap import Figure
from medgemma_cli.evaluating.calibration import Bin

MARK = b'content="medgemma eval"'  # by which a page is known as one of these


class Report(NamedTuple):
    """What one evaluation came to: facts about it, its figures, and what they do not tell."""

    kind: str
    facts: Mapping[str, str | int]
    figures: Sequence[Figure]
    notes: Sequence[str]


def render(report: Report, bins: Sequence[Bin] = ()) -> str:
    """The page; `bins` are drawn as a reliability diagram."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(Path(__file__).with_name("page.html").read_text("utf-8"))
    facts = {visible(name): visible(str(value)) for name, value in report.facts.items()}
    # A chart of one axis: what is not from 0 to 1 (BLEU, chrF, counts) stands in the table alone.
    drawn = [f for f in report.figures if f.low is not None and 0 <= f.low <= _high(f) <= 1]
    return template.render(
        title=f"medgemma eval {report.kind}",
        facts=facts,
        figures=[f._replace(label=visible(f.label)) for f in report.figures],
        drawn=[f._replace(label=visible(f.label)) for f in drawn],
        notes=report.notes,
        bins=bins,
        most=max((one.n for one in bins), default=1),
    )


def _high(figure: Figure) -> float:
    return figure.high if figure.high is not None else 2.0
