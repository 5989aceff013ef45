"""The lines of `records.jsonl`: which are whole, which are current. Reads, never writes."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jsonlines
from pydantic_core import from_json

from medgemma_cli.errors import ConfigError
from medgemma_cli.files import QUARANTINE, SHARDS
from medgemma_cli.records import RECORD_SCHEMA, Record, Status

RECORDS = "records.jsonl"
_STATUSES = frozenset(get_args(Status))


class Entry(NamedTuple):
    """What is kept in memory of one line: enough to decide, not to show.

    `merged` says that the line is in the ledger below a shard's, see `Ledger`.
    """

    key: str
    slot: str
    source: str
    origin: str
    status: str
    attempt: int
    created: str
    offset: int
    error: str | None = None
    views: bool = False
    prior: str | None = None
    merged: bool = False


def slot_of(source: str, summary: str | None) -> str:
    """The slot of a record: its summary's name, or, for one that can have none, its source."""
    return summary if summary is not None else f"//{source}"


def entry_of(line: dict[str, Any], offset: int) -> Entry:
    """The entry of a whole line that begins at this byte."""
    return Entry(
        line["key"],
        slot_of(line["source"], line["summary"]),
        line["source"],
        line["origin"],
        line["status"],
        line["attempt"],
        line["created"],
        offset,
        _code(line.get("error")),
        line.get("views") is not None,
        _prior_of(line),
    )


def _code(error: object) -> str | None:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def _prior_of(line: dict[str, Any]) -> str | None:
    prior = line.get("prior")
    return prior.get("source") if isinstance(prior, dict) else None


def entry_for(record: Record, offset: int) -> Entry:
    """The entry of a record whose line begins at this byte."""
    return Entry(
        record.key,
        slot_of(record.source, record.summary),
        record.source,
        record.origin,
        record.status,
        record.attempt,
        record.created,
        offset,
        record.error.code if record.error else None,
        record.views is not None,
        record.prior.source if record.prior else None,
    )


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line of a file with the byte at which it begins."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            yield offset, raw
            offset += len(raw)


@cache
def _reader() -> tuple[deque[bytes], jsonlines.Reader]:
    # One reader, fed line by line: the index needs each line's offset.
    # pydantic's parser takes a third of the time of the standard library's.
    lines: deque[bytes] = deque()
    return lines, jsonlines.Reader(iter(lines.popleft, None), loads=from_json)


def read_object(raw: bytes) -> dict[str, Any] | None:
    """One line as a JSON object; None for anything else."""
    lines, reader = _reader()
    lines.clear()
    lines.append(raw)
    try:
        line: dict[str, Any] = reader.read(type=dict)
    except (jsonlines.Error, ValueError, EOFError, RecursionError):
        return None
    return line


def parse_line(raw: bytes) -> dict[str, Any] | None:
    """One line as a JSON object with the fields the index needs; None for anything else.

    Raises:
        ConfigError: 78, the line is of a newer schema than this program knows.
    """
    line = read_object(raw)
    if line is None:
        return None
    schema = line.get("schema")
    if schema != RECORD_SCHEMA:
        if isinstance(schema, str) and schema.startswith("medgemma.record/"):
            raise ConfigError(
                f"{RECORDS} was written by a newer medgemma.",
                "Upgrade medgemma-cli, or choose another -o.",
            )
        return None
    texts = all(
        isinstance(line.get(name), str) for name in ("key", "source", "origin", "status", "created")
    )
    summary = line.get("summary", 0)
    whole = texts and line["status"] in _STATUSES and isinstance(line.get("attempt"), int)
    return line if whole and (summary is None or _stays_inside(summary)) else None


def _stays_inside(summary: object) -> bool:
    """Whether a summary's name leads nowhere but into the output folder, our own folders apart."""
    if not isinstance(summary, str) or "\0" in summary:
        return False
    first, *others = summary.split("/")
    return first not in ("", "..", QUARANTINE, SHARDS) and ".." not in others


def current_lines(
    out: Path, wanted: Callable[[dict[str, Any]], bool] = lambda line: True
) -> Iterator[dict[str, Any]]:
    """The current record of every slot, in the order of the file; takes no lock, repairs nothing.

    Damaged lines and an unfinished last one are passed over.

    Raises:
        ConfigError: 78, there is no ledger, or a newer one.
    """
    path = out / RECORDS
    if not path.is_file():
        raise ConfigError(f"There is no {RECORDS} in that folder.", "Give the -o of a run.")
    last: dict[str, int] = {}
    for offset, raw in raw_lines(path):
        if (line := parse_line(raw)) is not None:
            last[slot_of(line["source"], line["summary"])] = offset
    with path.open("rb") as file:
        for offset in sorted(last.values()):
            file.seek(offset)
            line = parse_line(file.readline())
            if line is not None and wanted(line):
                yield line
