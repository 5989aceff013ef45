"""The process in which bytes are decoded: `python -m medgemma_cli.readers.worker FD`.

It speaks over one socket, in frames. A task is a JSON object ({kind, limits, seconds, shown,
slide}) and the bytes, of a series those of each of its files; of a slide the files are opened here.
The answer is a JSON object ({code} or {coverage, degraded, header, pages, slide, images}), the
text, and each image's pixels. Nothing is unpickled on either side: what is decoded here may be
hostile.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from medgemma_cli import hush
from medgemma_cli.readers.limits import Content, ReadLimits

READY = b"ready"
_PIXEL_BYTES = 24  # of a floating-point picture, its 8-bit form and its RGB form together
_FILE_BYTES = 16  # of text: four a character, a few times over
_BASE = 1 << 30
_MOST_LIMIT = (1 << 63) - 1  # what the system call takes


def memory_limit(limits: ReadLimits) -> int:
    """Bytes of address space that decoding within these limits may take."""
    return _BASE + _PIXEL_BYTES * limits.max_pixels + _FILE_BYTES * limits.max_bytes


def wall_clock(seconds: int) -> int:
    """Seconds by the clock that go with so many of the processor: others want it, too."""
    return 2 * seconds


def serve(connection: Connection) -> None:
    """Answer tasks until the other side goes away."""
    connection.send_bytes(READY)
    while True:
        try:
            task = json.loads(connection.recv_bytes())
            limits = ReadLimits(*task["limits"])
            shown = task.get("shown")
            # A first file before the clock begins: the other side may be slow to send it.
            first = connection.recv_bytes()
            with _bounded(limits, task["seconds"]):
                if task.get("slide"):
                    head, *rest = _answer(_slide, task["slide"], limits)
                elif shown is None:
                    head, *rest = _answer(_one, task["kind"], first, limits)
                else:
                    files = _files(connection, first, len(shown))
                    head, *rest = _answer(_series, files, shown, limits)
                    for _ in files:  # what was not asked for is no later task's
                        pass
        except EOFError:
            return
        connection.send_bytes(json.dumps(head).encode("ascii"))
        for part in rest:
            connection.send_bytes(part)


@contextlib.contextmanager
def _bounded(limits: ReadLimits, seconds: int) -> Any:
    """Die, by signal, of too much time; fail, by MemoryError, of too much memory.

    The alarm holds even if nobody is left to watch: no reader outlives its task by much.
    """
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _lower(resource.RLIMIT_CPU, int(used) + seconds + 1)
    _lower(resource.RLIMIT_AS, memory_limit(limits))
    signal.alarm(wall_clock(seconds) + 1)
    try:
        yield
    finally:
        signal.alarm(0)


def _lower(which: int, wanted: int) -> None:
    """Set a soft limit, as far as the hard one allows and the system has such limits."""
    _, hard = resource.getrlimit(which)
    wanted = min(wanted, _MOST_LIMIT)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (wanted, hard))


def _files(connection: Connection, first: bytes, count: int) -> Iterator[bytes]:
    yield first
    for _ in range(count - 1):
        yield connection.recv_bytes()


def _one(kind: str, data: bytes, limits: ReadLimits) -> Content:
    from medgemma_cli import readers

    return readers.content(kind, data, limits)


def _series(files: Iterator[bytes], shown: list[bool], limits: ReadLimits) -> Content:
    from medgemma_cli.readers import dicom

    return dicom.read_series(files, shown, limits)


def _slide(packed: dict[str, object], limits: ReadLimits) -> Content:
    from medgemma_cli.readers import slides
    from medgemma_cli.readers.slides import files

    return slides.read(files.unpacked(packed), limits)


def _answer(read: Callable[..., Content], *args: Any) -> list[Any]:
    from medgemma_cli.errors import DocumentError

    try:
        content = read(*args)
        text = content.text.encode("utf-8", "surrogatepass")
    except DocumentError as error:
        return [{"code": error.code}]
    except MemoryError:
        return [{"code": "limit"}]
    except Exception:  # of a parser: its message may quote the document
        return [{"code": "reader_crashed"}]
    head = {
        "coverage": content.coverage,
        "degraded": content.degraded,
        "header": content.header,
        "pages": content.pages,
        "images": [[i.width, i.height, i.page, i.label] for i in content.images],
    }
    if content.slide is not None:
        head["slide"] = content.slide.model_dump()
    return [head, text, *(image.rgb for image in content.images)]


def main() -> None:
    """Serve on the socket whose number is the first argument."""
    # A terminal's Ctrl-C and a service manager's SIGTERM go to all: the parent decides. It has
    # them blocked while this starts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hush.forbid_core_dumps()
    with Connection(int(sys.argv[1])) as connection, contextlib.suppress(OSError):
        serve(connection)
    os._exit(0)


if __name__ == "__main__":
    main()
