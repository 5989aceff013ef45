"""Lines that say something about documents (a reference, a label) → the records they mean."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from medgemma_cli.errors import UsageError
from medgemma_cli.evaluating.checked import is_answered
from medgemma_cli.evaluating.lines import Line, bad_line
from medgemma_cli.records import Record

# In this order: a name that is nobody's may still be a field of somebody's data set.
_BY: tuple[tuple[str, Callable[[Record], str | None]], ...] = (
    ("sha256", lambda record: record.sha256),
    ("id", lambda record: record.custom_id),
    ("id", lambda record: PurePosixPath(record.source).stem),
    ("source", lambda record: record.source),
)


class Matched(NamedTuple):
    """`values` has what is said of a record, or None, in the order of the records."""

    values: list[Any]
    unmatched: int


def match(records: Sequence[Record], lines: Iterable[Line], field: str) -> Matched:
    """Give each record what the lines say of it in `field`.

    A line means the records with its `sha256`; where there is none, the one with its `id` (the
    record's `custom_id`, or its file name without folder and suffix); else that of `source`.

    Raises:
        UsageError: 2, a line names no document, means several, or says something again.
    """
    known = [_index(records, of) for _, of in _BY]
    found: dict[int, tuple[int, Any]] = {}
    unmatched = 0
    for line in lines:
        meant = _meant(line, known)
        unmatched += not meant
        for at in meant:
            if at in found:
                raise bad_line(line.number, f"its document has line {found[at][0]} already")
            found[at] = line.number, line.fields[field]
    return Matched([found.get(at, (0, None))[1] for at in range(len(records))], unmatched)


def _index(records: Sequence[Record], of: Callable[[Record], str | None]) -> dict[str, list[int]]:
    index: dict[str, list[int]] = defaultdict(list)
    for at, record in enumerate(records):
        if (name := of(record)) is not None:
            index[name].append(at)
    return index


def _meant(line: Line, known: list[dict[str, list[int]]]) -> list[int]:
    names = [name for name in ("sha256", "id", "source") if isinstance(line.fields.get(name), str)]
    if not names:
        raise bad_line(line.number, "it has no source, id or sha256")
    for (name, _), index in zip(_BY, known, strict=True):
        meant = index.get(line.fields[name], []) if name in names else []
        if len(meant) > 1 and name != "sha256":
            raise bad_line(line.number, f"its {name} is that of several documents")
        if meant:
            return meant
    return []


def text_of(output: dict[str, Any] | None, field: str) -> str | None:
    """A field of an output as text; a list's items are lines, a finding is its statement."""
    value = (output or {}).get(field)
    items = value if isinstance(value, list) else [value]
    texts = [item.get("statement") if isinstance(item, dict) else item for item in items]
    lines = [text for text in texts if isinstance(text, str)]
    return "\n".join(lines) if len(lines) == len(texts) else None


def need_reference(line: Line) -> None:
    """See that a line has a reference.

    Raises:
        UsageError: 2.
    """
    if not isinstance(line.fields.get("reference"), str):
        raise bad_line(line.number, "its reference is no text")


def compared(record: Record, field: str) -> str | None:
    """What of a record is compared with a reference: nothing at all, where it has no output.

    None where its output has no such text, since it was made by another template.
    """
    return text_of(record.output, field) if is_answered(record) else ""


def pairs(records: Sequence[Record], values: Sequence[Any], field: str) -> list[tuple[str, str]]:
    """Text and reference of the records that have a reference."""
    both = ((compared(record, field), value) for record, value in zip(records, values, strict=True))
    return [(text, value) for text, value in both if text is not None and value is not None]


def check_field(records: Sequence[Record], field: str) -> None:
    """See that some output has the field as a text.

    Raises:
        UsageError: 2, with the fields that there are.
    """
    outputs = [record.output for record in records if record.output]
    if not outputs or any(text_of(output, field) is not None for output in outputs):
        return
    there = sorted({name for out in outputs for name in out if text_of(out, name) is not None})
    raise UsageError(
        "No output has that --field as a text.", f"There are: {', '.join(there) or 'none'}."
    )
