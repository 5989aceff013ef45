"""Reader processes: what crashes, hangs or swells while a document is decoded costs that document.

Each process is started afresh by exec, so that it inherits neither the ledger's lock nor the
model's memory, and has limits of memory, CPU and wall-clock time ([worker](worker.py)). They
read ahead of the engine. What they answer is not trusted: a process whose answer makes no sense
is ended like one that died.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Protocol, Self

from medgemma_cli import readers
from medgemma_cli.errors import FAULTS, DocumentError, ModelUnavailableError
from medgemma_cli.readers import slides, worker
from medgemma_cli.readers.dicom import series, terms
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.readers.slides import files
from medgemma_cli.records import Document, Image, Slide, Source

SECONDS = 60
_WORKERS = 4
_START_SECONDS = 60
_TRIES = 2
# What a terminal or a service manager sends to all processes: the parent decides.
_OUTSIDE = {signal.SIGINT, signal.SIGTERM}
_ABORTED = (-signal.SIGABRT, -signal.SIGTRAP)  # the latter is how GLib ends
_SECRETS = ("HF_", "HUGGING_FACE_", "MEDGEMMA_SERVER_API_KEY", "RUNPOD_")


class Reading(Protocol):
    """Decodes documents, perhaps elsewhere.

    Attributes:
        ahead: how many documents it is worth to have read before they are wanted.
    """

    ahead: int

    def submit(self, source: Source, blob: readers.Blob, limits: ReadLimits) -> "Future[Document]":
        """The document in the bytes, or its `DocumentError`, when it is ready."""


class InProcess:
    """Decodes here and now: for tests, and where the bytes are one's own."""

    ahead = 0

    def submit(self, source: Source, blob: readers.Blob, limits: ReadLimits) -> "Future[Document]":
        """The document in the bytes, or its `DocumentError`; ready at once."""
        made: Future[Document] = Future()
        try:
            made.set_result(readers.decode(source, blob, limits))
        except Exception as error:
            made.set_exception(error)
        return made


class ReaderPool:
    """Decodes in processes of its own, started when they are first needed. A context manager.

    Args:
        workers: how many processes; by default one a core, four at most.
        seconds: CPU time that one document may take; of wall-clock time it has twice as much.
    """

    def __init__(self, workers: int | None = None, *, seconds: int = SECONDS) -> None:
        count = workers or min(_WORKERS, os.cpu_count() or 1)
        self.ahead = 2 * count
        self._seconds = seconds
        # A thread waits for each process; it has none before its first task.
        self._threads = ThreadPoolExecutor(
            count, thread_name_prefix="reader", initializer=_block_signals
        )
        self._own = threading.local()
        self._changing = threading.Lock()
        self._alive: set[_Process] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process; what was not read yet is not read."""
        with self._changing:
            self._closed = True
            for process in self._alive:
                process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._alive:
            process.end()
        self._alive.clear()

    def submit(self, source: Source, blob: readers.Blob, limits: ReadLimits) -> "Future[Document]":
        """The document in the bytes, when it is ready.

        The future raises:
            DocumentError: a code of the reader; ``timeout``; ``limit``; ``reader_crashed``, its
                process died twice.
            ModelUnavailableError: 69, no process can be started.
        """
        if not blob.data and blob.series is None and blob.slide is None:
            return InProcess().submit(source, blob, limits)
        return self._threads.submit(self._decode, source, blob, limits)

    def _decode(self, source: Source, blob: readers.Blob, limits: ReadLimits) -> Document:
        content = self._read(readers.media_type(source, blob), blob, limits)
        return readers.document(source, blob, content)

    def _read(self, kind: str, blob: readers.Blob, limits: ReadLimits) -> Content:
        code = "reader_crashed"
        # Again in a new process: the first may have been killed, or stopped for a while.
        for _ in range(_TRIES):
            process = self._process()
            try:
                return process.read(kind, blob, limits, self._seconds)
            except DocumentError:
                raise
            except Exception as error:  # it died, hangs, or makes no sense
                ended = self._drop(process)
                if ended == -signal.SIGXCPU:
                    raise DocumentError("timeout") from None
                if ended in _ABORTED and readers.aborts(kind):
                    raise DocumentError("limit") from None
                late = isinstance(error, TimeoutError) or ended == -signal.SIGALRM
                code = "timeout" if late else "reader_crashed"
            if self._closed:
                break
        raise DocumentError(code)

    def _process(self) -> "_Process":
        process: _Process | None = getattr(self._own, "process", None)
        if process is not None:
            return process
        process = _Process()
        with self._changing:
            self._alive.add(process)
            if self._closed:
                process.kill()
        try:
            process.wait()
        except (EOFError, OSError):
            self._drop(process)
            raise _cannot_start() from None
        self._own.process = process
        return process

    def _drop(self, process: "_Process") -> int:
        self._own.process = None
        with self._changing:
            self._alive.discard(process)
        return process.end()


class _Process:
    """One reader process and the socket to it.

    Raises:
        ModelUnavailableError: 69, it cannot be started.
    """

    def __init__(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            raise _cannot_start() from None
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-P", "-m", worker.__name__, str(number)]
            quiet = None if os.environ.get("MEDGEMMA_DEBUG") else subprocess.DEVNULL
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(number,),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=quiet,
                    env=_environment(),
                )
            except OSError:
                ours.close()
                raise _cannot_start() from None
        self._connection = Connection(ours.detach())
        self._most = 0

    def wait(self) -> None:
        """Until it is ready.

        Raises:
            EOFError, OSError: it died. TimeoutError: it takes too long.
        """
        if not self._connection.poll(_START_SECONDS):
            raise TimeoutError
        self._connection.recv_bytes(len(worker.READY))

    def read(self, kind: str, blob: readers.Blob, limits: ReadLimits, seconds: int) -> Content:
        """What the process makes of the bytes.

        Raises:
            DocumentError: the reader's code.
            TimeoutError: it takes too long.
            EOFError, OSError: the process died.
            Exception: of any other kind, it answers nonsense.

        After all but the first it is to be ended: what else it says belongs to no document.
        """
        shown = None if blob.series is None else blob.series.shown
        task = {"kind": kind, "limits": list(limits), "seconds": seconds, "shown": shown}
        if blob.slide is not None:
            task["slide"] = files.packed(blob.slide)
        self._most = worker.memory_limit(limits)
        if self._connection.poll():
            raise EOFError  # it is gone, or said something that nobody asked
        # A process that stops taking or giving in mid-frame would hold this thread for good.
        late = threading.Event()
        watch = threading.Timer(worker.wall_clock(seconds), self._too_late, (late,))
        watch.start()
        try:
            self._connection.send_bytes(json.dumps(task).encode("ascii"))
            if blob.series is None:
                self._connection.send_bytes(blob.data)
                return self._answer()
            with series.files(blob.series, limits) as slices:
                for data in slices:
                    self._connection.send_bytes(data)
                return self._answer()
        except (EOFError, OSError):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            watch.cancel()

    def _too_late(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _answer(self) -> Content:
        head = json.loads(self._connection.recv_bytes(self._most))
        if "code" in head:
            if head["code"] not in FAULTS:
                raise ValueError
            raise DocumentError(head["code"])
        text = self._connection.recv_bytes(self._most).decode("utf-8", "surrogatepass")
        if terms.known(**head["header"]) != head["header"]:
            raise ValueError
        coverage = {unit: (seen, total) for unit, (seen, total) in head["coverage"].items()}
        images = tuple(self._image(*about) for about in head["images"])
        return Content(
            coverage=coverage,
            text=text,
            images=images,
            degraded=tuple(head["degraded"]),
            pages=_places(head["pages"], len(text)),
            header=head["header"],
            slide=_slide(head.get("slide"), len(images), coverage),
        )

    def _image(self, width: int, height: int, page: int | None, label: str) -> Image:
        rgb = self._connection.recv_bytes(self._most)
        if width < 1 or height < 1 or len(rgb) != 3 * width * height:
            raise ValueError
        return Image(width=width, height=height, rgb=rgb, page=page, label=label)

    def kill(self) -> None:
        """End it without waiting."""
        self._process.kill()

    def end(self) -> int:
        """End it; its exit status, below zero for a signal."""
        # Asking first: a process that died by itself says of what.
        if (status := _wait(self._process, 0.2)) is None:
            self._process.kill()
            status = self._process.wait()
        self._connection.close()
        return status


def _places(places: list[int], end: int) -> tuple[int, ...]:
    """Where pages begin, checked: within the text, one after the other."""
    if not all(isinstance(at, int) and 0 <= at <= end for at in places) or sorted(places) != places:
        raise ValueError
    return tuple(places)


def _slide(told: object, images: int, coverage: dict[str, tuple[int, int]]) -> Slide | None:
    """Where the patches of a slide are, checked: one for each image, within the slide."""
    if told is None:
        return None
    slide = Slide.model_validate(told)
    inside = all(0 <= x < slide.width and 0 <= y < slide.height for x, y in slide.places)
    if not inside or len(slide.places) != images or slides.UNIT not in coverage:
        raise ValueError
    return slide


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _block_signals() -> None:
    """In a thread that starts readers: they inherit it, and are deaf from their first moment."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OUTSIDE)


def _environment() -> dict[str, str]:
    """The parent's, without secrets, and with one thread a library: there are many processes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _cannot_start() -> ModelUnavailableError:
    return ModelUnavailableError(
        "The reader process cannot be started.",
        "Check the limits on processes and memory (`ulimit -a`); --debug shows what it says.",
    )
