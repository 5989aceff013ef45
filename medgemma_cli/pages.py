"""A record → the Markdown a clinician reads. Pure; nothing of a document can become markup.

Findings carry the number of their evidence, which stands below with the line of the source it was
taken from.
"""

import re
from typing import Any

from medgemma_cli.display import markdown_text, visible
from medgemma_cli.records import Quote, Record

_STARTS = frozenset("0123456789-+=")
_SURE = "how likely the model was to write it, not how likely it is to be true"


def page(record: Record) -> str:
    """The summary of a record, down to its table of provenance."""
    lines = [
        f"# {markdown_text(visible(record.source))}",
        "",
        f"> {markdown_text(record.notice)}",
        "",
    ]
    if record.error is not None:
        lines += _error(record)
    if record.output is not None:
        lines += _Output(record).lines()
    if record.flags:
        lines += ["## Flags", ""]
        lines += [
            f"- **{f.severity}** `{f.rule}` {markdown_text(f.why)}{_at(f.where)}"
            for f in record.flags
        ]
        lines += [""]
    lines += _provenance(record)
    return "\n".join(lines)


def _at(where: str) -> str:
    return f" ({markdown_text(where)})" if where else ""


def _error(record: Record) -> list[str]:
    assert record.error is not None
    return [
        "## No summary was made",
        "",
        f"{record.status}: `{record.error.code}` ({record.error.stage}). {record.error.hint}",
        "",
    ]


class _Output:
    """A record's fields, numbered evidence and all."""

    def __init__(self, record: Record) -> None:
        self._fields = record.output or {}
        self._confidence: dict[str, Any] = (record.confidence or {}).get("fields", {})
        self._quotes = {quote.where: quote for quote in record.quotes}
        self._evidence: list[str] = []

    def lines(self) -> list[str]:
        """Every field under its name, then the evidence."""
        lines = [line for name, value in self._fields.items() for line in self._field(name, value)]
        if not self._evidence:
            return lines
        numbered = [f"{i}. {text}" for i, text in enumerate(self._evidence, 1)]
        return [*lines, "## Evidence", "", *numbered, ""]

    def _field(self, name: str, value: Any) -> list[str]:
        lines = [f"## {markdown_text(name.replace('_', ' ').capitalize())}", ""]
        if isinstance(value, list) and value and _is_row(value[0]):
            lines += self._table(name, value)
        elif isinstance(value, list):
            items = [self._item(item, f"{name}[{i}]") for i, item in enumerate(value)]
            lines += [f"- {item}" for item in items] or ["None stated."]
        elif isinstance(value, str) and "\n" in value:
            lines += [_plain_start(markdown_text(line)) for line in value.splitlines()]
        else:
            lines.append(self._item(value, name) + self._probability(name))
        return [*lines, ""]

    def _item(self, item: Any, where: str) -> str:
        if not isinstance(item, dict):
            return _plain_start(_text(item))
        quote = item.get("quote")
        rest = [_text(value) for name, value in item.items() if name != "quote"]
        return _plain_start("; ".join(rest)) + (self._reference(quote, where) if quote else "")

    def _table(self, name: str, rows: list[dict[str, Any]]) -> list[str]:
        columns = [column for column in rows[0] if column != "quote"]
        titles = [markdown_text(column.replace("_", " ").capitalize()) for column in columns]
        lines = [f"| {' | '.join(titles)} | Evidence |", "| --- " * (len(columns) + 1) + "|"]
        for i, row in enumerate(rows):
            reference = self._reference(row["quote"], f"{name}[{i}]") if "quote" in row else ""
            cells = [_text(row.get(column, "")) for column in columns]
            lines.append(f"| {' | '.join(cells)} |{reference} |")
        return lines

    def _reference(self, quote: str, where: str) -> str:
        """The number of a quote's evidence, which is noted with its place in the source."""
        found: Quote | None = self._quotes.get(where)
        place = f"line {found.line}: " if found else "**not in the source**: "
        self._evidence.append(f"{place}“{markdown_text(found.text if found else quote)}”")
        return f" \\[{len(self._evidence)}\\]"

    def _probability(self, name: str) -> str:
        """A choice says how sure the model was."""
        known = self._confidence.get(name, {})
        if known.get("method") != "choice_probability":
            return ""
        options = (f"{markdown_text(o)} {p:.2f}" for o, p in known["options"].items())
        return f" (the model's probabilities: {', '.join(options)})"


def _is_row(item: Any) -> bool:
    return isinstance(item, dict) and len(set(item) - {"quote"}) > 1


def _text(value: Any) -> str:
    """A plain value as it reads."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not stated"}[value]
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "none stated"
    if isinstance(value, dict):
        return "; ".join(map(_text, value.values()))
    return markdown_text(str(value))


def _plain_start(line: str) -> str:
    """Keep a line from beginning a list, a rule or a heading of its own."""
    if line[:1] not in _STARTS:
        return line
    return re.sub(r"^(\d+)([.)])|^([-+=])", lambda m: f"{m[1] or ''}\\{m[2] or m[3]}", line)


def _provenance(record: Record) -> list[str]:
    model, template = record.model, record.template
    revision = f" at {model.revision}" if model.revision else ""
    sure = record.confidence
    rows = {
        "source": f"{visible(record.source)} (SHA-256 {record.sha256 or 'not read'})",
        "template": f"{template.name} ({template.hash[:12]})",
        "model": f"{model.id}{revision}, engine {model.engine}",
        "precision": f"{model.precision or 'none'} (asked: {model.asked or 'none'})",
        "coverage": ", ".join(f"{n} {unit} of {m}" for unit, (n, m) in record.coverage.items()),
        "confidence": f"{sure['value']:.2f}, {sure['method']}: {_SURE}" if sure else "not measured",
        "degraded": ", ".join(record.degraded) or "nothing",
        "status": f"{record.status}, attempt {record.attempt}",
        "date": record.created,
    }
    lines = [f"| {name} | {markdown_text(value)} |" for name, value in rows.items()]
    return ["---", "", "| provenance | |", "| --- | --- |", *lines, ""]
