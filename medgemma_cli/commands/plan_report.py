"""What `medgemma plan` prints: tables and sentences for people, one object for machines."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from medgemma_cli.display import pair_name, visible
from medgemma_cli.progress import emit

if TYPE_CHECKING:
    from medgemma_cli.forecast import Forecast, Memory, Resources, Summary

_GIB = 2**30
_WORDS = {
    "infer": "to do",
    "cached": "done already",
    "reuse": "done before",
    "duplicate": "duplicates",
    "refuse": "would be refused",
}


class Told(NamedTuple):
    """All that is known.

    Attributes:
        needs: None where the model has nothing to do, is none, or is a server's.
        window: None where the server does not say.
        exact: whether tokens were counted; if not, they are the least that they can be.
    """

    forecasts: "list[Forecast]"
    summary: "Summary"
    needs: "Resources | None"
    model: str
    window: int | None
    skipped: Counter[str]
    exact: bool = True


# -- for machines -------------------------------------------------------------------------------


def print_json(told: Told) -> None:
    """One JSON object on one line; sizes in bytes, times in seconds."""
    summary = told.summary
    value = {
        "schema": "medgemma.plan/1",
        "model": told.model,
        "window": told.window,
        "documents": [_document(one) for one in told.forecasts],
        "actions": dict(summary.actions),
        "refused": dict(summary.refused),
        "skipped": dict(told.skipped),
        "partial": summary.partial,
        "prompt_tokens": summary.prompt_tokens,
        "prompt_tokens_exact": told.exact,
        "longest_prompt": summary.longest,
        "images": summary.images,
        "resources": None if told.needs is None else _resources(told.needs),
    }
    emit(json.dumps(value))


def _document(one: "Forecast") -> dict[str, Any]:
    partial = {unit: [seen, of] for unit, seen, of in one.partial}
    return {**one._asdict(), "status": one.status, "partial": partial}


def _resources(needs: "Resources") -> dict[str, Any]:
    return {
        **needs._asdict(),
        "memory": [row._asdict() for row in needs.memory],
        "time": needs.time and needs.time._asdict(),
    }


# -- for people ---------------------------------------------------------------------------------


def print_text(told: Told) -> None:
    """A line a document that is not done already, then what they come to, memory and time."""
    from medgemma_cli.commands.tables import show

    rows = [_row(one) for one in told.forecasts if one.action != "cached"]
    if rows:
        show(("document", "what", "tokens", "images", "note"), rows, ("tokens", "images"))
        emit("")
    for line in _totals(told):
        emit(line)
    if told.needs is not None:
        _print_resources(told.needs)


def _row(one: "Forecast") -> tuple[str, ...]:
    notes = [f"{seen} of {of} {unit}" for unit, seen, of in one.partial]
    if one.parts > 1:
        notes.append(f"{one.parts} parts")
    if one.action != "infer" and one.why != "new":
        notes.insert(0, visible(one.why))
    what = one.status or ("to do" if one.action == "infer" else one.action)
    counts = (f"{n:,}" if n else "" for n in (one.prompt_tokens, one.images))
    return visible(pair_name(one.source, one.prior)), what, *counts, ", ".join(notes)


def _totals(told: Told) -> list[str]:
    from medgemma_cli.commands.report import skipped

    summary = told.summary
    counts = ", ".join(f"{n} {_WORDS[action]}" for action, n in summary.actions.most_common())
    lines = [f"{len(told.forecasts)} documents: {counts}{skipped(told.skipped)}"]
    if summary.refused:
        codes = ", ".join(f"{n} {code}" for code, n in summary.refused.most_common())
        lines.append(f"refused: {codes}")
    if summary.partial:
        lines.append(f"read in part: {summary.partial}")
    if summary.to_do:
        least = "" if told.exact else "at least "
        window = "not known" if told.window is None else f"{told.window:,}"
        lines.append(
            f"to do: {least}{summary.prompt_tokens:,} prompt tokens, the longest "
            f"{summary.longest:,} (the window of {visible(told.model)} is {window}), "
            f"{summary.images:,} images"
        )
    if not told.exact:
        lines.append(
            "not known: tokens (the server has the tokenizer; counted are words, which are fewer), "
            "tokens of images, the server's memory, and time"
        )
    return lines


def _print_resources(needs: "Resources") -> None:
    from medgemma_cli.commands.tables import show

    emit("")
    if needs.memory:
        head = ("precision", "needs", "at once", "their cache", "")
        show(head, [_memory_row(row) for row in needs.memory], head[1:4])
    else:
        emit("memory: the size of this model is not known before it is here")
    emit(f"{_gib(needs.free)} are free on {needs.device}")
    emit("")
    emit(_time(needs))


def _memory_row(row: "Memory") -> tuple[str, ...]:
    state = "fits" if row.fits else "does not fit"
    rows = (f"{row.rows:,}", _gib(row.cache)) if row.fits else ("", "")
    return row.precision, _gib(row.needed), *rows, state + (" (chosen)" if row.chosen else "")


def _gib(size: float) -> str:
    return f"{size / _GIB:,.1f} GiB"


def _time(needs: "Resources") -> str:
    of = "the mean of past runs" if needs.known else "the most allowed"
    answers = f"{needs.new_tokens:,.0f} new tokens a document, {of}"
    if needs.time is None:
        return (
            f"time: not known; {answers}. No past run with this model, precision and device "
            "tells: try `medgemma run PATHS --limit 4`, then plan again"
        )
    runs = f"{needs.time.runs} past run{'s' if needs.time.runs > 1 else ''}"
    least = "" if needs.known else "at most "
    told = f"time: {least}about {duration(needs.time.seconds)} at {needs.precision}"
    return f"{told}, without loading the model ({answers}; speed of {runs})"


def duration(seconds: float) -> str:
    """Two figures' worth: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
