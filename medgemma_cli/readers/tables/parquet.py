"""Parquet, decoded by [arrow](arrow.py) in a process of its own: what crashes costs that table."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.tables import arrow
from medgemma_cli.readers.tables.cells import Cells, Columns, cells_of

_ESCAPED = 8  # bytes of ASCII JSON a byte of text, at most, and some for a head
_SECRETS = ("HF_", "HUGGING_FACE_")


def rows(path: str, columns: Columns) -> Iterator[Cells]:
    """The rows in order.

    Raises:
        DocumentError: ``no_parquet`` (the extra is missing), ``no_column``, ``table_corrupt``,
            ``limit`` (a batch of rows takes more memory than allowed), ``timeout``,
            ``reader_crashed``.
        OSError: it cannot be opened.
    """
    with open(path, "rb"):
        pass  # what is wrong with the file itself is told as of any other
    asked = json.dumps([list(columns[:3]), columns.max_bytes])
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", arrow.__name__, path, asked],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C is for the run to decide on
        env=_environment(),
    )
    try:
        yield from _cells(process, columns)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _environment() -> dict[str, str]:
    """The parent's, without secrets, with one thread, and an allocator that frees what it has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    return kept | {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def _cells(process: "subprocess.Popen[bytes]", columns: Columns) -> Iterator[Cells]:
    assert process.stdout is not None
    most = _ESCAPED * (columns.max_bytes + 1024)
    number = 0
    while line := process.stdout.readline(most):
        if line == arrow.END:
            return
        number += 1
        try:
            row = json.loads(line)
            if isinstance(row, str):
                yield Cells(number, error="too_large", numbered=columns.id is not None)
                continue
            fields = {name: row[name] for name in columns.names}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DocumentError("reader_crashed") from None  # it makes no sense
        yield cells_of(number, fields, columns)
    raise DocumentError(_why(process.wait()))


def _why(status: int) -> str:
    """The code of a process that ended before the table did."""
    if status == -signal.SIGXCPU:
        return "timeout"
    return arrow.CODES.get(status, "reader_crashed")
