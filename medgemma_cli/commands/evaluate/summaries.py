"""`medgemma eval summaries OUT`: current records against references, and what the checks found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands.evaluate import options as o

if TYPE_CHECKING:
    from medgemma_cli.evaluating.bootstrap import Figure
    from medgemma_cli.records import Record


def summaries(
    out: Annotated[Path, typer.Argument(help="The -o of a run.")],
    references: o.References = None,
    field: o.Field = "summary",
    as_json: o.Json = False,
    html: o.Html = None,
    seed: o.Seed = 0,
) -> None:
    """Measure a folder's summaries: words in common with references, and what the checks found."""
    from medgemma_cli.commands.evaluate import inputs, showing
    from medgemma_cli.evaluating import bootstrap, caveats, checked
    from medgemma_cli.evaluating.page import Report

    showing.check_page(html)
    records = inputs.records(out)
    facts: dict[str, str | int] = {"documents": len(records)}
    figures: list[Figure] = []
    notes: tuple[str, ...] = caveats.CHECKS
    if references is not None:
        figures = _overlap(records, references, field, seed, facts)
        notes = (*caveats.OVERLAP, *caveats.CHECKS)
    figures += bootstrap.figures(checked.measures(records), len(records), seed)
    facts |= {"models": ", ".join(sorted({record.model.id for record in records}))}
    facts |= {"templates": ", ".join(sorted({record.template.name for record in records}))}
    report = Report("summaries", facts, figures, (*notes, *caveats.intervals(figures)))
    showing.write_page(html, report)
    showing.show(report, as_json=as_json, flags=_flags(records))


def _overlap(
    records: "list[Record]", path: Path, field: str, seed: int, facts: dict[str, str | int]
) -> "list[Figure]":
    """Figures against the references; what was matched is noted in `facts`."""
    from medgemma_cli.commands.evaluate import inputs
    from medgemma_cli.evaluating import bootstrap, overlap, references

    overlap.require()
    lines = inputs.lines(path, "The file of --references", references.need_reference)
    references.check_field(records, field)
    matched = references.match(records, lines, "reference")
    pairs = references.pairs(records, matched.values, field)
    facts |= {
        "with a reference": len(pairs),
        "references of no document": matched.unmatched,
        "without that field": sum(value is not None for value in matched.values) - len(pairs),
        **overlap.signatures(),
    }
    texts = [text for text, _ in pairs]
    made = overlap.measures(texts, [reference for _, reference in pairs])
    return bootstrap.figures(made, len(pairs), seed)


def _flags(records: "list[Record]") -> dict[str, int]:
    """How many flags of each rule there are, of all records."""
    from collections import Counter

    counts = Counter(flag.rule for record in records for flag in record.flags)
    return dict(sorted(counts.items()))
