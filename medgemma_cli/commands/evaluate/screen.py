"""`medgemma eval screen`: probabilities of yes against what was true."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands.evaluate import options as o
from medgemma_cli.errors import NoInputError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.records import Record

_Facts = dict[str, str | int]


def screen(
    source: Annotated[
        Path, typer.Argument(help="JSON Lines of {score, label}; or the -o of a run.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="For a folder: lines of {source, id or sha256; label}."),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Scores from here on are yes.")
    ] = 0.5,
    field: Annotated[
        str, typer.Option("--field", help="For a folder: the choice that answers.")
    ] = "answer",
    positive: Annotated[
        str, typer.Option("--positive", help="For a folder: the option that is yes.")
    ] = "yes",
    as_json: o.Json = False,
    html: o.Html = None,
    seed: o.Seed = 0,
) -> None:
    """Measure yes/no answers: AUROC, sensitivity, specificity, Brier score, calibration.

    Under 100 items only n and the intervals are told.
    """
    from medgemma_cli.commands.evaluate import inputs, showing
    from medgemma_cli.evaluating import bootstrap, calibration, caveats
    from medgemma_cli.evaluating.lines import need_label, need_score
    from medgemma_cli.evaluating.page import Report

    showing.check_page(html)
    facts: _Facts = {}
    if source.is_dir():
        pairs = _of_folder(source, labels, field, positive, facts)
    elif labels is not None:
        raise UsageError("--labels goes with a folder.", "In a file each line has its own label.")
    else:
        lines = inputs.lines(source, "The file of scores", need_score, need_label)
        pairs = [(line.fields["score"], int(line.fields["label"])) for line in lines]
    items = calibration.screened(pairs)
    figures = bootstrap.figures(calibration.measures(items, threshold), len(pairs), seed)
    facts |= {"items": len(pairs), "positive": sum(label for _, label in pairs)}
    facts |= {"threshold": str(threshold)}
    notes = (*caveats.SCREENING, *caveats.intervals(figures))
    if len(pairs) < calibration.FEWEST:
        figures = [figure._replace(value=None) for figure in figures]
        notes = (caveats.FEW.format(fewest=calibration.FEWEST), *notes)
    else:
        facts |= {"verdict": calibration.verdict(figures[0])}
    report = Report("screen", facts, figures, notes)
    bins = calibration.reliability(items)
    showing.write_page(html, report, bins)
    showing.show(report, as_json=as_json, bins=[one._asdict() for one in bins])


def _of_folder(
    out: Path, labels: Path | None, field: str, positive: str, facts: _Facts
) -> list[tuple[float, int]]:
    """Probabilities and labels of the records that have both; who has not is noted in `facts`."""
    from medgemma_cli.commands.evaluate import inputs
    from medgemma_cli.evaluating import references
    from medgemma_cli.evaluating.lines import need_label

    if labels is None:
        raise UsageError("A folder needs --labels.", "Give a file of {source, label} lines.")
    records = inputs.records(out)
    lines = inputs.lines(labels, "The file of --labels", need_label)
    matched = references.match(records, lines, "label")
    scores = [_score(record, field, positive) for record in records]
    both = list(zip(scores, matched.values, strict=True))
    pairs = [
        (score, int(label)) for score, label in both if score is not None and label is not None
    ]
    facts |= {
        "labels of no document": matched.unmatched,
        "documents without a label": sum(label is None for _, label in both),
        "labelled documents without a probability": sum(
            score is None and label is not None for score, label in both
        ),
    }
    if not pairs:
        raise NoInputError(
            "No labelled document has a probability of that option.",
            "See --field and --positive; the model must have scored them (not --engine echo).",
        )
    return pairs


def _score(record: "Record", field: str, positive: str) -> float | None:
    """The probability of an option, as the model's own logits gave it among all options."""
    fields = (record.confidence or {}).get("fields", {})
    options = fields.get(field, {}).get("options", {})
    score = options.get(positive)
    return float(score) if isinstance(score, int | float) else None
