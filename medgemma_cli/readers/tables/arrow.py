"""The process in which Parquet is decoded: `python -m … PATH [[text, image, id], max_bytes]`.

It writes a line of JSON a row, an object of the columns asked for, or ``"too_large"``; then a
line `END`. Its exit status says why it ended before that.
"""

import contextlib
import json
import os
import resource
import sys
from typing import Any

from medgemma_cli import hush

END = b'"end"\n'
CODES = {3: "no_column", 4: "no_parquet", 5: "table_corrupt", 6: "limit"}
_STATUS = {code: status for status, code in CODES.items()}
_BASE = 2 << 30  # Arrow's libraries alone map a good part of it
_FILE_BYTES = 16  # as in the reader processes
_SECONDS = 60  # of the processor, a batch
_BATCH = 16  # rows


def main() -> None:
    """Write the rows of the table."""
    hush.forbid_core_dumps()
    path, (names, most) = sys.argv[1], json.loads(sys.argv[2])
    try:
        from pyarrow import ArrowException
        from pyarrow import parquet as pq
    except ImportError:
        os._exit(_STATUS["no_parquet"])
    _bound(resource.RLIMIT_AS, _BASE + _FILE_BYTES * most)
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            _write(file, [name for name in names if name is not None], most)
        sys.stdout.buffer.write(END)
        sys.stdout.buffer.flush()
    except MemoryError:
        os._exit(_STATUS["limit"])
    except BrokenPipeError:
        os._exit(0)  # nobody wants more
    except (ArrowException, OSError, ValueError):
        os._exit(_STATUS["table_corrupt"])
    os._exit(0)


def _write(file: Any, names: list[str], most: int) -> None:
    held = file.schema_arrow.names
    if any(held.count(name) != 1 for name in names):
        os._exit(_STATUS["no_column"])
    _more_time()
    for batch in file.iter_batches(batch_size=_BATCH, columns=names, use_threads=False):
        for row in batch.to_pylist():
            sys.stdout.buffer.write(_line({name: row[name] for name in names}, most))
        sys.stdout.buffer.flush()
        _more_time()


def _line(row: dict[str, Any], most: int) -> bytes:
    if sum(len(value) for value in row.values() if isinstance(value, str)) > most:
        return b'"too_large"\n'
    plain: dict[str, Any] = {
        name: value if isinstance(value, str | int | None) else []  # no text, whatever it is
        for name, value in row.items()
    }
    return json.dumps(plain).encode("ascii") + b"\n"


def _more_time() -> None:
    """A batch that takes too long ends the process, by signal."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _bound(resource.RLIMIT_CPU, int(used) + _SECONDS + 1)


def _bound(which: int, wanted: int) -> None:
    """Set a soft limit, as far as the hard one and the system allow."""
    hard = resource.getrlimit(which)[1]
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError, OverflowError):
        resource.setrlimit(which, (soft, hard))


if __name__ == "__main__":
    main()
