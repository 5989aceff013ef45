"""A record → the Markdown a clinician reads. Pure; nothing of a document can become markup.

Findings carry the number of their evidence, which stands below with the line, or page, of the
source it was taken from.
"""

import re
from typing import Any

from medgemma_cli.display import markdown_text, visible
from medgemma_cli.records import Flag, ModelInfo, Prior, Quote, Record, Which

_STARTS = frozenset("0123456789-+=:")
_UNFOUND = "quote_not_in_source"
_SHORT = 40
_EVIDENCE: dict[str, Which] = {"prior_quote": "prior", "quote": "current"}
"""Fields that are shown as evidence; of a row that has both, each is of that document."""
_SURE = "how likely the model was to write it, not how likely it is to be true"


def page(record: Record) -> str:
    """The summary of a record, down to its table of provenance."""
    lines = [
        f"# {markdown_text(visible(record.source))}",
        "",
        f"> {markdown_text(record.notice)}",
        "",
    ]
    if record.prior is not None:
        lines += [f"Compared with: {markdown_text(visible(record.prior.source))}", ""]
    if record.error is not None:
        lines += _error(record)
    if record.output is not None:
        lines += _Output(record).lines()
    if record.flags:
        lines += ["## Flags", ""]
        lines += [
            f"- **{f.severity}** `{f.rule}` {_named(f)}{markdown_text(f.why)}{_at(f.where)}"
            for f in record.flags
        ]
        lines += [""]
    if record.omissions:
        lines += ["## Not in this summary", ""]
        lines += [f"- {_plain_start(markdown_text(omission))}" for omission in record.omissions]
        lines += [""]
    lines += _provenance(record)
    return "\n".join(lines)


def _at(where: str) -> str:
    return f" ({markdown_text(where)})" if where else ""


def _named(flag: Flag) -> str:
    """What is flagged, where it is a few words; a sentence stands in the output anyway."""
    short = flag.value and len(flag.value) <= _SHORT and flag.rule != _UNFOUND
    return f"{markdown_text(flag.value)}: " if short else ""


def _error(record: Record) -> list[str]:
    assert record.error is not None
    about = f"The {record.error.document} document: " if record.error.document else ""
    return [
        "## No summary was made",
        "",
        f"{record.status}: `{record.error.code}` ({record.error.stage}). {about}"
        f"{record.error.hint}",
        "",
    ]


class _Output:
    """A record's fields, numbered evidence and all."""

    def __init__(self, record: Record) -> None:
        self._fields = record.output or {}
        self._confidence: dict[str, Any] = (record.confidence or {}).get("fields", {})
        self._quotes = record.quotes
        self._unfound = {(f.where, f.value) for f in record.flags if f.rule == _UNFOUND}
        self._evidence: list[str] = []

    def lines(self) -> list[str]:
        """Every field under its name, then the evidence."""
        lines = [line for name, value in self._fields.items() for line in self._field(name, value)]
        if not self._evidence:
            return lines
        numbered = [f"{i}. {text}" for i, text in enumerate(self._evidence, 1)]
        return [*lines, "## Evidence", "", *numbered, ""]

    def _field(self, name: str, value: Any) -> list[str]:
        lines = [f"## {_title(name)}", ""]
        if isinstance(value, list) and value and all(map(_is_row, value)):
            lines += self._table(name, value)
        elif isinstance(value, list):
            items = [self._value(item, f"{name}[{i}]", name) for i, item in enumerate(value)]
            lines += [f"- {_plain_start(item)}" for item in items] or ["None listed."]
        elif isinstance(value, str) and "\n" in value:
            lines += [_plain_start(markdown_text(line)) for line in value.splitlines()]
        else:
            lines.append(_plain_start(self._value(value, name, "")) + self._probability(name))
        return [*lines, ""]

    def _table(self, name: str, rows: list[dict[str, Any]]) -> list[str]:
        columns = list(dict.fromkeys(c for row in rows for c in row if c not in _EVIDENCE))
        lines = [
            f"| {' | '.join(map(_title, columns))} | Evidence |",
            "| --- " * (len(columns) + 1) + "|",
        ]
        for i, row in enumerate(rows):
            where = f"{name}[{i}]"
            reference = self._references(row, where)
            parent = "" if reference else where
            cells = [
                self._value(row[column], f"{where}.{column}", parent) if column in row else ""
                for column in columns
            ]
            lines.append(f"| {' | '.join(cells)} |{reference} |")
        return lines

    def _value(self, value: Any, where: str, parent: str) -> str:
        """A value in one line; a quote is followed by the number of its evidence."""
        if isinstance(value, bool) or value is None:
            return {True: "yes", False: "no", None: "not stated"}[value]
        if isinstance(value, list):
            items = [self._value(item, f"{where}[{i}]", where) for i, item in enumerate(value)]
            return "; ".join(items) or "none stated"
        if isinstance(value, dict):
            return self._object(value, where)
        text = markdown_text(str(value))
        known = isinstance(value, str) and self._place(value, where, parent)
        return text + self._reference(value, where, parent) if known else text

    def _object(self, value: dict[str, Any], where: str) -> str:
        rest = {name: item for name, item in value.items() if name not in _EVIDENCE}
        named = len(rest) > 1
        # With a quote of its own, no other field is one, whatever words it has.
        parent = "" if any(isinstance(value.get(name), str) for name in _EVIDENCE) else where
        parts = [
            (f"{_title(name)}: " if named else "") + self._value(item, f"{where}.{name}", parent)
            for name, item in rest.items()
        ]
        return "; ".join(parts) + self._references(value, where)

    def _references(self, row: dict[str, Any], where: str) -> str:
        """The numbers of a row's own quotes, the earlier document's first."""
        own = [name for name in _EVIDENCE if isinstance(row.get(name), str)]
        return "".join(
            self._reference(row[name], where, where, _EVIDENCE[name] if len(own) > 1 else None)
            for name in own
        )

    def _place(
        self, quote: str, where: str, parent: str, of: Which | None = None
    ) -> Quote | str | None:
        """The quote of the record that a text is, if it is one; only of that document, if named."""
        folded = " ".join(quote.split())
        for found in self._quotes:
            # Records of an earlier version have no place.
            if (
                found.where in (where, parent, "" if parent else where)
                and " ".join(found.text.split()) == folded
                and of in (None, found.document)
            ):
                return found
        return _UNFOUND if {(where, quote), (parent, quote)} & self._unfound else None

    def _reference(self, quote: str, where: str, parent: str, of: Which | None = None) -> str:
        """The number of a quote's evidence, which is noted with its place in the source."""
        found = self._place(quote, where, parent, of)
        if isinstance(found, Quote):
            place = f"line {found.line}: " if found.line else ""
            if found.page:  # the lines of a page are its reader's, not the page's
                place = f"page {found.page}: "
            if found.document:
                place = f"{found.document} document, {place}"
            # A break between lines is shown: they may not be one thing.
            lines = [markdown_text(line) for line in found.text.splitlines() if line.strip()]
            self._evidence.append(f"{place}“{' / '.join(lines)}”")
        else:
            self._evidence.append(f"**not in the source**: “{markdown_text(quote)}”")
        return f" \\[{len(self._evidence)}\\]"

    def _probability(self, name: str) -> str:
        """A choice says how sure the model was."""
        known = self._confidence.get(name, {})
        if known.get("method") != "choice_probability":
            return ""
        options = (f"{markdown_text(o)} {p:.2f}" for o, p in known["options"].items())
        return f" (the model's probabilities: {', '.join(options)})"


def _title(name: str) -> str:
    """A field's name as a heading; capitals inside it mean something (INR)."""
    words = name.replace("_", " ")
    return markdown_text(words[:1].upper() + words[1:])


def _is_row(item: Any) -> bool:
    return isinstance(item, dict) and len(set(item) - set(_EVIDENCE)) > 1


def _plain_start(line: str) -> str:
    """Keep a line from beginning a list, a rule or a heading of its own."""
    if line[:1] not in _STARTS:
        return line
    return re.sub(r"^(\d+)([.)])|^([-+=:])", lambda m: f"{m[1] or ''}\\{m[2] or m[3]}", line)


def _provenance(record: Record) -> list[str]:
    model, template = record.model, record.template
    revision = f" at {model.revision}" if model.revision else ""
    sure = record.confidence
    rows = {
        "source": f"{visible(record.source)} (SHA-256 {record.sha256 or 'not read'})",
        **({"prior": _prior(record.prior)} if record.prior else {}),
        "template": f"{template.name} ({template.hash[:12]})",
        "model": f"{model.id}{revision}, engine {model.engine}{_hosts(model)}",
        "precision": f"{model.precision or 'none'} (asked: {model.asked or 'none'})",
        "coverage": ", ".join(
            f"{n} {unit.replace('_', ' ')} of {m}" for unit, (n, m) in record.coverage.items()
        ),
        "confidence": f"{sure['value']:.2f}, {sure['method']}: {_SURE}" if sure else "not measured",
        "facts": _facts(record),
        "degraded": ", ".join(record.degraded) or "nothing",
        "status": f"{record.status}, attempt {record.attempt}",
        "date": record.created,
    }
    lines = [f"| {name} | {markdown_text(value)} |" for name, value in rows.items()]
    return ["---", "", "| provenance | |", "| --- | --- |", *lines, ""]


def _prior(prior: Prior) -> str:
    return f"{visible(prior.source)} (SHA-256 {prior.sha256 or 'not read'})"


def _hosts(model: ModelInfo) -> str:
    return f" at {', '.join(model.server.hosts)}" if model.server is not None else ""


def _facts(record: Record) -> str:
    """How much of the output the rules could check: no flags does not mean checked."""
    if record.facts is None:
        return "not checked"
    counted = (f"{count} {name.replace('_', ' ')}" for name, count in record.facts.items())
    return ", ".join(counted)
