"""How an evaluation is shown: a table and sentences, one JSON line, a page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_cli.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medgemma_cli.evaluating.bootstrap import Figure
    from medgemma_cli.evaluating.calibration import Bin
    from medgemma_cli.evaluating.page import Report

_SCHEMA = "medgemma.eval/1"


def show(report: "Report", *, as_json: bool, **more: Any) -> None:
    """The report on standard output; `more` is for machines alone."""
    if as_json:
        figures = [figure._asdict() for figure in report.figures]
        told = {"facts": dict(report.facts), "figures": figures, "notes": list(report.notes)}
        show_json({"kind": report.kind, **told, **more})
    else:
        show_facts(report.facts)
        show_figures(report.figures)
        show_notes(report.notes)


def show_json(value: dict[str, Any]) -> None:
    """One line of JSON."""
    from medgemma_cli.progress import emit

    emit(json.dumps({"schema": _SCHEMA, **value}, allow_nan=False))


def show_facts(facts: "Mapping[str, str | int]") -> None:
    """What was looked at, a line each."""
    from medgemma_cli.display import visible
    from medgemma_cli.progress import emit

    for name, value in facts.items():
        emit(f"{visible(name)}: {visible(str(value))}")
    emit("")


def show_figures(figures: "Sequence[Figure]") -> None:
    """A row a figure."""
    from medgemma_cli.commands import tables
    from medgemma_cli.display import visible

    head = ("measure", "value", "95 % from", "to", "n")
    rows = [
        (visible(one.label), number(one.value), number(one.low), number(one.high), f"{one.n:,}")
        for one in figures
    ]
    tables.show(head, rows, head[1:])


def show_notes(notes: "Sequence[str]") -> None:
    """What the figures do not tell."""
    from medgemma_cli.progress import emit

    emit("")
    for note in notes:
        emit(f"note: {note}")


def number(value: float | None, *, sign: bool = False) -> str:
    """Three digits behind the point; a dash where there is none."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.3f}"


def check_page(path: Path | None) -> None:
    """See, before anything is done, that the page may be written: nothing else is replaced.

    Raises:
        UsageError: 2, another file is there.
    """
    from medgemma_cli.evaluating.page import MARK

    try:
        other = path is not None and path.exists() and MARK not in path.read_bytes()[:400]
    except OSError:
        other = True
    if other:
        raise UsageError("A file that is no such page is at --html.", "Choose another name.")


def write_page(path: Path | None, report: "Report", bins: "Sequence[Bin]" = ()) -> None:
    """Write the page, if one is wanted; 0600, whole or not at all.

    Raises:
        StorageError: 74.
    """
    from medgemma_cli.evaluating.page import render
    from medgemma_cli.files import replace_file

    if path is None:
        return
    try:
        replace_file(path, render(report, bins).encode())
    except OSError as error:
        raise StorageError(
            f"The page of --html cannot be written ({error.strerror}).", "Check its folder."
        ) from None
