"""A batch's records → lines of results, in the shape that OpenAI's batches and vLLM's have.

A projection of the ledger, like the summaries: made again from it at the end of every run.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli.errors import NoInputError, StorageError, UsageError
from medgemma_cli.files import replace_streamed
from medgemma_cli.identity import digest
from medgemma_cli.ledger import DamagedRecordError, Ledger, slot_of
from medgemma_cli.readers import tables
from medgemma_cli.records import Record, Source
from medgemma_cli.summaries import output_name

RESULTS = "results.jsonl"
_NAME_CHARACTERS = 24
_HEAD_BYTES = 64
_SHOWN = {"rule", "severity", "where", "why"}
_BAD_REQUEST, _NO_SUCH_MODEL, _FAILED = 400, 404, 500


class Asked(NamedTuple):
    """A line, by what its record is found: the wanted name of its page, and where it stands."""

    name: str
    origin: str
    custom_id: str | None


class Requests:
    """Iterate the requests of a file, a source a line. Iterating twice gives the same.

    Attributes:
        found: what the last iteration gave out, so far.
        skipped: nothing is; for the final line.

    Raises:
        NoInputError: 66, there is no such file. UsageError: 2, it is no file of requests.
    """

    def __init__(self, path: str, max_bytes: int, models: Container[str] | None) -> None:
        if not path.lower().endswith(".jsonl"):
            raise UsageError("The file of requests is no .jsonl file.", "Give it that suffix.")
        if not Path(path).is_file():
            raise NoInputError("There is no such file of requests.", "Check the path.")
        if not tables.has_requests(path, max_bytes):
            raise UsageError(
                "The file has no requests in it, in its first lines.",
                'Each line is {"custom_id": …, "method": "POST", "url": "/v1/chat/completions", '
                '"body": …}; other tables go with `medgemma run --text-column`.',
            )
        self.found: list[Asked] = []
        self.skipped: Counter[str] = Counter()
        self._file = source_of(path)
        self._max_bytes = max_bytes
        self._models = models

    def __iter__(self) -> Iterator[Source]:
        self.found = []
        for source in tables.request_sources(self._file, self._max_bytes, self._models):
            name = source.name or source.relative
            self.found.append(Asked(name, source.origin, source.custom_id))
            yield source


def source_of(path: str) -> Source:
    """The file itself."""
    from medgemma_cli.discover import printable

    origin = printable(str(Path(path).absolute()))
    return Source(place=path, relative=printable(Path(path).name), origin=origin)


class Results:
    """Notes which records are current, and writes those of all lines.

    Args:
        path: where they are to stand.
        ours: tells whoever else writes there from this writer: the output folder.

    Attributes:
        done: whether they stand there.
    """

    def __init__(self, path: Path, ours: Path) -> None:
        self.path = path
        self.done = False
        self._ours = ours
        self._slots: set[str] = set()

    def note(self, record: Record) -> None:
        """The current record of a line. A line that was moved has one that was made elsewhere."""
        self._slots.add(slot_of(record.source, record.summary))

    def complete(self, found: Sequence[Asked]) -> bool:
        """Whether every one of these lines has its record."""
        return all(self._slot(asked) is not None for asked in found)

    def _slot(self, asked: Asked) -> str | None:
        """Its page's name: the plain one, or, where that is another document's, with a hash."""
        for salt in (None, asked.origin):
            if (name := output_name(asked.name, salt=salt)) in self._slots:
                return name
        return None

    def write(self, ledger: Ledger, found: Sequence[Asked]) -> None:
        """All lines, in the order of the requests, at once.

        Raises:
            StorageError: 74; what stood there before still does.
        """
        mark = hashlib.sha256(str(self._ours.resolve()).encode("utf-8", "surrogateescape"))
        try:
            replace_streamed(self.path, self._lines(ledger, found), mark.hexdigest()[:16])
        except OSError as error:
            raise StorageError(
                f"The results could not be written ({error.strerror}).",
                "Make room or check the folder, then run again; every record is kept.",
            ) from None
        except DamagedRecordError:
            raise StorageError(
                "A record in the ledger is damaged.", "Run again; its request is answered again."
            ) from None
        self.done = True

    def _lines(self, ledger: Ledger, found: Sequence[Asked]) -> Iterator[bytes]:
        for asked in found:
            slot = self._slot(asked)
            assert slot is not None, "results are written when they are complete"
            made = line(ledger.read(ledger.current[slot]), asked.custom_id)
            yield json.dumps(made, allow_nan=False).encode("ascii") + b"\n"


def check_results(path: Path, requests: Path, out: Path) -> None:
    """See, before there is work, that results may be written there.

    Raises:
        UsageError: 2, the requests stand there, the ledger, a folder, or a file with no results.
    """
    ledger = {(out / name).resolve() for name in ("records.jsonl", "attempts.jsonl", ".lock")}
    taken = path.resolve() in ledger or path.resolve() == requests.resolve()
    if taken or (path.exists() and not path.is_file()):
        raise UsageError("The results cannot stand there.", "Give --results a file of its own.")
    if path.exists() and not _is_results(path):
        raise UsageError(
            "Another file stands where the results would be written.",
            "Move it away, or give --results another path.",
        )


def _is_results(path: Path) -> bool:
    """Whether a file is empty, or begins as results do."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return not head or head.startswith(b'{"id": "batch_req_')


def line(record: Record, custom_id: str | None) -> dict[str, Any]:
    """The result of one request. Nothing in it is new at another run of the same ledger."""
    name = digest([record.key, record.summary])[:_NAME_CHARACTERS]
    failed = record.error is not None
    return {
        "id": f"batch_req_{name}",
        "custom_id": custom_id,
        "response": {
            "status_code": _status_code(record),
            "request_id": f"req_{name}",
            "body": _failure(record) if failed else _completion(record),
        },
        "error": {"code": record.error.code, "message": record.error.hint}
        if record.error is not None
        else None,
    }


def _status_code(record: Record) -> int:
    if record.error is None:
        return 200
    if record.error.code == "request_model":
        return _NO_SUCH_MODEL
    return _BAD_REQUEST if record.status == "rejected" else _FAILED


def _failure(record: Record) -> dict[str, Any]:
    """The error as an API says it: a code and the next step, never a word of the request."""
    assert record.error is not None
    kind = "invalid_request_error" if record.status == "rejected" else "server_error"
    error = {"message": record.error.hint, "type": kind, "param": None, "code": record.error.code}
    return {"error": error}


def _completion(record: Record) -> dict[str, Any]:
    usage = record.usage
    asked, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    message = {"role": "assistant", "content": record.raw_text or "", "refusal": None}
    return {
        "id": f"chatcmpl-{record.key[:_NAME_CHARACTERS]}",
        "object": "chat.completion",
        "created": int(datetime.fromisoformat(record.created).timestamp()),
        "model": record.model.id,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": record.finish_reason or "stop",
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": written,
            "total_tokens": asked + written,
        },
        "medgemma": _checked(record),
    }


def _checked(record: Record) -> dict[str, Any]:
    """What the checks found, which an API has no place for."""
    return {
        "status": record.status,
        "key": record.key,
        "flags": [flag.model_dump(include=_SHOWN) for flag in record.flags],
        "coverage": record.coverage,
        "degraded": record.degraded,
        "notice": record.notice,
    }
