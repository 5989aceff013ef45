"""What the checks of `run` made of the documents, from the records themselves."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from medgemma_cli.evaluating.measures import Measure, ratio
from medgemma_cli.records import Record

_Count = Callable[[Record], float]

FLAG = "flag_"
NAMES = (
    "failed",
    "flagged",
    "quotes",
    "omissions",
    "facts_contradicted",
    "facts_not_checked",
)  # and FLAG with the name of a rule


def measures(records: Sequence[Record], more: Iterable[str] = ()) -> list[Measure]:
    """Rates over the records; all but `failed` over those that have an output.

    Args:
        more: rules to count even where nothing has a flag of theirs.
    """
    answered = [float(is_answered(record)) for record in records]

    def rate(name: str, label: str, part: _Count, whole: _Count | None = None) -> Measure:
        wholes = _counted(records, whole) if whole else answered
        return ratio(name, label, "lower", _counted(records, part), wholes)

    named = sorted(rules(records) | {*more})
    return [
        ratio("failed", "failed or rejected", "lower", [1.0 - one for one in answered]),
        rate("flagged", "flagged", lambda record: record.status == "flagged"),
        *(rate(f"{FLAG}{rule}", f"flagged: {rule}", _of(rule)) for rule in named),
        _quotes(records),
        rate("omissions", "omissions a document", lambda record: len(record.omissions)),
        rate("facts_contradicted", "facts contradicted", _fact("contradicted"), _facts),
        rate("facts_not_checked", "facts not checked", _fact("not_checked"), _facts),
    ]


def rules(records: Sequence[Record]) -> set[str]:
    """The rules that the records with an output have flags of."""
    return {flag.rule for record in records if is_answered(record) for flag in record.flags}


def _counted(records: Sequence[Record], count: _Count) -> list[float]:
    return [float(count(record)) if is_answered(record) else 0.0 for record in records]


def is_answered(record: Record) -> bool:
    """Whether there is an output to judge."""
    return record.status in ("ok", "flagged")


def _of(rule: str) -> _Count:
    return lambda record: any(flag.rule == rule for flag in record.flags)


def _fact(kind: str) -> _Count:
    return lambda record: (record.facts or {}).get(kind, 0)


def _facts(record: Record) -> int:
    return sum((record.facts or {}).values())


def _quotes(records: Sequence[Record]) -> Measure:
    pairs = [quoted(record) for record in records]
    standing, findings = zip(*pairs, strict=True) if pairs else ((), ())
    return ratio("quotes", "findings with a quote that stands", "higher", standing, findings)


def quoted(record: Record) -> tuple[int, int]:
    """Findings whose quote stands in the document, and all findings, of one record.

    A finding is what has a statement or a quote. Those of an image have no quote and count as
    without.
    """
    wrong = {flag.where for flag in record.flags if flag.rule == "quote_not_in_source"}
    right = {quote.where for quote in record.quotes} - wrong
    return len(right), len(right | wrong | set(_findings(record.output or {}, "")))


def _findings(value: Any, where: str) -> Iterable[str]:
    """The paths of an output's findings, as `Quote.where` has them."""
    if isinstance(value, dict):
        if where and {"statement", "quote"} & set(value):
            yield where
        for name, item in value.items():
            yield from _findings(item, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _findings(item, f"{where}[{i}]")
