"""Files of chat requests, and runs over them in this process, with the engine without a model."""

import base64
import json
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from medgemma_cli import batch, conversations
from medgemma_cli.engines.base import always
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Limits
from medgemma_cli.totals import Totals

NOTE = "Dry cough since Monday. No fever."
Line = dict[str, Any]


def body(content: Any = NOTE, **more: Any) -> Line:
    """The body of a request with one user turn."""
    return {"messages": [{"role": "user", "content": content}], **more}


def request(name: Any, content: Any = NOTE, **more: Any) -> Line:
    """A line; `more` are further fields of its body."""
    fields = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions"}
    return {**fields, "body": body(content, **more)}


def png(shade: int, side: int = 4) -> bytes:
    """A grey square as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    rows = zlib.compress((b"\0" + bytes([shade]) * side) * side)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def shown(data: bytes, kind: str = "image/png") -> Line:
    """An image as a part of a turn."""
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def said(text: str) -> Line:
    """A text as a part of a turn."""
    return {"type": "text", "text": text}


def write(path: Path, lines: Iterable[Line | str]) -> Path:
    """The file of these lines; a text is a line as it stands."""
    written = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{line}\n" for line in written), "utf-8", "surrogateescape")
    return path


def answered(
    path: Path,
    out: Path,
    *,
    engine: Any = None,
    models: set[str] | None = None,
    keep_going: Callable[[], bool] = always,
    tokens: int = 64,
    results: Path | None = None,
    **job: Any,
) -> tuple[Totals, list[Line] | None]:
    """A run over a file, and its results, if it wrote them."""
    template = conversations.template(tokens)
    settings = Job(template, Limits(max_new_tokens=tokens), fsync=False, **job)
    requests = batch.Requests(str(path), settings.read_limits.max_bytes, models)
    written = batch.Results(results or out / batch.RESULTS, out)
    with Ledger(out, fsync=False) as ledger:
        made = engine or EchoEngine()
        run = Run(
            settings,
            ledger,
            made,
            SilentReporter(),
            keep_going=keep_going,
            on_record=written.note,
        )
        run.prepare()
        totals = run.execute(requests)
        if not totals.left and written.complete(requests.found):
            written.write(ledger, requests.found)
    return totals, read(written.path) if written.done else None


def read(path: Path) -> list[Line]:
    """The lines of a file of results, each one JSON as the standard has it."""
    return [json.loads(line, parse_constant=_refuse) for line in path.read_bytes().splitlines()]


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
