"""A reader process that crashes, hangs, swells or lies costs its document, and no other."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import psutil
import pytest
from faulty import gone, plant
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medgemma_cli.errors import DocumentError, ModelUnavailableError
from medgemma_cli.readers import Blob, ReadLimits, worker
from medgemma_cli.readers import pool as pool_module
from medgemma_cli.readers.pool import InProcess, ReaderPool, Reading
from medgemma_cli.records import Document, Source

LIMITS = ReadLimits()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH with readers that do as a document says."""
    return plant(tmp_path_factory.mktemp("faulty") / "site")


@pytest.fixture(scope="module")
def pool(path: str) -> Iterator[ReaderPool]:
    """One pool for many documents, as in a run: a second for each, one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        patch.setenv("HF_TOKEN", "SECRET")
        patch.setenv("HUGGING_FACE_HUB_TOKEN", "SECRET")
        with ReaderPool(1, seconds=1) as reading:
            yield reading


def submit(
    reading: Reading, data: bytes, name: str = "a.md", limits: ReadLimits = LIMITS
) -> "Future[Document]":
    """A document with these bytes."""
    source = Source(place=f"/in/{name}", relative=name, origin=f"/in/{name}")
    return reading.submit(source, Blob(data, hashlib.sha256(data).hexdigest()), limits)


def outcome(
    reading: Reading, data: bytes, name: str = "a.md", limits: ReadLimits = LIMITS
) -> Document | str:
    """The document, or the code that it ends with."""
    try:
        return submit(reading, data, name, limits).result(60)
    except DocumentError as error:
        return error.code


def text(reading: Reading, data: bytes) -> str:
    """The text of a document."""
    return submit(reading, data).result(60).text


def picture(mode: str, kind: str, **settings: object) -> bytes:
    """A small picture, as a file."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((19, 11)).convert(mode).save(file, kind, **settings)
    return file.getvalue()


# -- the same as here ----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1) | st.sampled_from(["a\u2028b", "\ufeffa", "\x85", "a\0b", "😀"]))
def test_any_text_comes_back_the_same(pool: ReaderPool, written: str) -> None:
    """Fault 51: whatever separators, marks or planes there are, the text is the reader's."""
    data = written.encode("utf-8", "surrogatepass")
    if not data.startswith(b"!"):
        assert outcome(pool, data) == outcome(InProcess(), data)


@settings(max_examples=40, deadline=None)
@given(st.binary(), st.sampled_from([None, "utf-16", "latin-1", "cp1252"]))
def test_any_bytes_come_to_the_same(pool: ReaderPool, data: bytes, encoding: str | None) -> None:
    """The same document or the same code, with limits of one's own, too."""
    limits = ReadLimits(1000, 1000, encoding)
    if not data.startswith(b"!"):
        assert outcome(pool, data, limits=limits) == outcome(InProcess(), data, limits=limits)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("I;16", "TIFF"), ("1", "BMP")],
)
def test_images_come_back_the_same(pool: ReaderPool, mode: str, kind: str) -> None:
    """Every pixel, the sizes, the coverage and what was degraded."""
    data = picture(mode, kind)
    name = f"scan.{kind.lower()}"
    there = outcome(pool, data, name)
    assert there == outcome(InProcess(), data, name)


def test_several_pages_come_back_the_same(pool: ReaderPool) -> None:
    """A document of several images is put together in their order."""
    pages = [Image.new("RGB", (4, n + 1), (n, 0, 0)) for n in range(3)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    there = outcome(pool, file.getvalue(), "fax.tiff")
    assert there == outcome(InProcess(), file.getvalue(), "fax.tiff")


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.md", "empty"),
        (b" \n", "a.md", "no_text"),
        (b"\0\1\2\3", "a.md", "not_text"),
        (b"Se\xf1ora", "a.md", "encoding"),
        (b"Dry cough.", "a.png", "format"),
        (picture("L", "PNG")[:-30], "a.png", "image_truncated"),
        (picture("L", "PNG"), "few.png", "too_many_pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_codes_of_the_readers(pool: ReaderPool, data: bytes, name: str, code: str) -> None:
    """What is wrong with the bytes is told in the reader's own word."""
    limits = ReadLimits(max_pixels=50) if name == "few.png" else LIMITS
    assert outcome(pool, data, name, limits) == code
    assert outcome(InProcess(), data, name, limits) == code


def test_what_nobody_foresaw_is_in_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even in this process a reader's fault comes out where the document is asked for."""

    def broken(*_: object) -> None:
        raise RuntimeError("CANARY")

    monkeypatch.setattr(pool_module.readers, "content", broken)
    made = submit(InProcess(), b"Dry cough.")
    assert isinstance(made.exception(0), RuntimeError)


# -- what goes wrong in a process ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("!segv", "reader_crashed"),
        ("!abort", "reader_crashed"),
        ("!kill", "reader_crashed"),
        ("!exit", "reader_crashed"),
        ("!raise", "reader_crashed"),
        ("!deep", "reader_crashed"),
        ("!bomb", "limit"),
        ("!loop", "timeout"),
        ("!sleep", "timeout"),
    ],
)
def test_one_document_is_lost(pool: ReaderPool, word: str, code: str) -> None:
    """Faults 56, 58: a crash, a bomb or a hang is the document's end; the next one is read."""
    assert outcome(pool, word.encode()) == code
    assert text(pool, b"Slept well.") == "Slept well."


def test_crashed_by_chance(pool: ReaderPool, tmp_path: Path) -> None:
    """A process that died is no verdict yet: the document is tried again in another."""
    assert text(pool, f"!once {tmp_path / 'mark'}".encode()) == "honest"


def test_killed_from_outside(pool: ReaderPool) -> None:
    """A reader that somebody killed costs nothing."""
    os.kill(int(text(pool, b"!pid")), signal.SIGKILL)
    assert text(pool, b"Slept well.") == "Slept well."


def test_stopped_from_outside(pool: ReaderPool) -> None:
    """A reader that stood still over its time is no fact about the bytes: they are read again."""
    os.kill(int(text(pool, b"!pid")), signal.SIGSTOP)
    assert text(pool, b"Slept well.") == "Slept well."


def test_stopped_while_it_takes_a_large_document(pool: ReaderPool) -> None:
    """What does not fit into the socket is not waited for without end: a new process reads it."""
    os.kill(int(text(pool, b"!pid")), signal.SIGSTOP)
    large = b"Slept well. " * 400_000
    found = outcome(pool, large)
    assert isinstance(found, Document) and len(found.text) == len(large)


def test_many_at_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each future has its own document, whatever happens in the processes beside it."""
    monkeypatch.setenv("PYTHONPATH", path)
    words = [b"!abort" if n % 9 == 4 else f"note {n}".encode() for n in range(25)]
    with ReaderPool(2) as reading:
        futures = [submit(reading, word) for word in words]
        for word, future in zip(words, futures, strict=True):
            if word == b"!abort":
                assert isinstance(future.exception(60), DocumentError)
            else:
                assert future.result(60).text == word.decode()


# -- its life ------------------------------------------------------------------------------------


def children() -> set[int]:
    """The processes that this one has started and that live."""
    found = psutil.Process().children(recursive=True)
    return {child.pid for child in found if not gone(child.pid)}


def test_no_process_without_work() -> None:
    """A run with nothing to do starts none; nor does a file of 0 bytes."""
    before = children()
    with ReaderPool(2) as reading:
        assert outcome(reading, b"") == "empty"
        assert children() <= before


def test_none_is_left() -> None:
    """After the end there is no process more than before."""
    before = children()
    with ReaderPool(2) as reading:
        assert text(reading, b"Slept well.") == "Slept well."
        assert len(children() - before) == 1
    assert children() <= before


def test_closing_with_work_queued(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits neither for a document that hangs nor for those behind it."""
    monkeypatch.setenv("PYTHONPATH", path)
    before, started = children(), time.monotonic()
    with ReaderPool(1) as reading:
        text(reading, b"Slept well.")
        futures = [submit(reading, word) for word in (b"!sleep", b"!sleep", b"Slept well.")]
    assert time.monotonic() - started < worker.wall_clock(pool_module.SECONDS) / 2
    for future in futures:
        with pytest.raises((DocumentError, CancelledError)):
            future.result(0)
    assert children() <= before


def test_closing_while_a_process_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is on its way when the pool closes is ended, too."""
    monkeypatch.setenv("PYTHONPATH", plant(tmp_path / "site", slow=60))
    before, started = children(), time.monotonic()
    with ReaderPool(2) as reading:
        futures = [submit(reading, b"Slept well.") for _ in range(3)]
        while not children() - before:
            time.sleep(0.01)
    assert time.monotonic() - started < 30
    assert not any(
        future.done() and not future.cancelled() and not future.exception() for future in futures
    )
    assert children() <= before


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no document's fault: 69, and the run ends."""
    monkeypatch.setattr(pool_module.sys, "executable", "/nonexistent")
    with ReaderPool(1) as reading:
        future = submit(reading, b"Slept well.")
        with pytest.raises(ModelUnavailableError):
            future.result(60)


def test_a_process_that_dies_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is this."""
    monkeypatch.setattr(pool_module.sys, "executable", "/bin/false")
    with ReaderPool(1) as reading:
        future = submit(reading, b"Slept well.")
        with pytest.raises(ModelUnavailableError):
            future.result(60)


def test_no_secret_goes_along(pool: ReaderPool) -> None:
    """The environment of a reader has no token, and bounds the threads of libraries."""
    found = dict(line.partition("=")[::2] for line in text(pool, b"!environment").splitlines())
    assert not any(name.startswith(("HF_", "HUGGING_FACE_")) for name in found)
    assert "SECRET" not in found.values()
    assert found["OMP_NUM_THREADS"] == "1"


def test_deaf_to_what_goes_to_all(pool: ReaderPool) -> None:
    """SIGINT and SIGTERM sent to a reader do nothing, from its first moment on."""
    pid = int(text(pool, b"!pid"))
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    for number in (signal.SIGINT, signal.SIGTERM):
        assert blocked & 1 << (number - 1)
        os.kill(pid, number)
    assert int(text(pool, b"!pid")) == pid


_PARENT = """
import hashlib, os, signal, sys
from medgemma_cli.readers import Blob, ReadLimits
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.records import Source

pool = ReaderPool(1, seconds=1)
def submit(data):
    source = Source(place="/a.md", relative="a.md", origin="/a.md")
    return pool.submit(source, Blob(data, hashlib.sha256(data).hexdigest()), ReadLimits())
print(submit(b"!pid").result().text, flush=True)
if sys.argv[1] != "idle":
    submit(sys.argv[1].encode())
    while pool._threads._work_queue.qsize():
        pass
    import time
    time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("word", ["idle", "!sleep"])
def test_none_outlives_its_parent(path: str, word: str) -> None:
    """A reader whose parent was killed ends: at once, or with its task's time."""
    done = subprocess.run(
        [sys.executable, "-c", _PARENT, word],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: gone(int(done.stdout)))


def wait_for(true: Callable[[], bool]) -> None:
    """Until something is so."""
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_threads_are_few() -> None:
    """One thread a process, and none of them takes the main thread's signals."""
    with ReaderPool(2) as reading:
        for _ in range(5):
            submit(reading, b"Slept well.").result(60)
        names = [t.name for t in threading.enumerate() if t.name.startswith("reader")]
        assert len(names) <= 2
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM} == set()


# -- answers that make no sense ------------------------------------------------------------------

_EMPTY = b'{"coverage": {}, "images": [], "pages": [], "degraded": [], "header": {}}'
# Says what its document says, and then more than it was asked.
_LIAR = (
    f"EMPTY = {_EMPTY!r}"
    + """
import sys
from multiprocessing.connection import Connection

connection = Connection(int(sys.argv[1]))
connection.send_bytes(b"ready")
while True:
    connection.recv_bytes()
    data = connection.recv_bytes()
    if data.startswith(b"honest"):
        connection.send_bytes(EMPTY)
        connection.send_bytes(data)
    else:
        for frame in data.split(b"|"):
            connection.send_bytes(frame)
        connection.send_bytes(EMPTY)
        connection.send_bytes(b"LEFT OVER")
"""
)
_HEAD = b'{"coverage": {}, "images": [[2, 2, null, ""]], "pages": [], "degraded": [], "header": {}}'


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReaderPool]:
    """A pool of one process that lies."""
    folder = tmp_path_factory.mktemp("liar")
    (folder / "liar.py").write_text(_LIAR, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setattr(worker, "__name__", "liar")
        with ReaderPool(1, seconds=5) as reading:
            yield reading


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"code": "made_up"}',
        b'{"code": ["no_text"]}',
        b'{"coverage": 7, "images": [], "pages": [], "degraded": [], "header": {}}|text',
        _EMPTY.replace(b"{}", b'{"characters": [1]}', 1) + b"|text",
        _EMPTY + b"|\xff\xff",
        _HEAD + b"|text|too short",
        _HEAD.replace(b"[2, 2,", b"[-1, -4,") + b"|text|123456789012",
        _HEAD.replace(b"null", b'"one"') + b"|text|123456789012",
        _HEAD.replace(b'""', b'"<end_of_turn>"') + b"|text|123456789012",
        _EMPTY.replace(b'"pages": []', b'"pages": [0, 9]') + b"|text",
        _EMPTY.replace(b'"pages": []', b'"pages": [3, 1]') + b"|text",
        _EMPTY.replace(b'"pages": []', b'"pages": ["0"]') + b"|text",
    ],
)
def test_an_answer_that_makes_no_sense(liar: ReaderPool, answer: bytes) -> None:
    """It is the document's end, and nothing of it gets into the next document."""
    assert outcome(liar, answer) == "reader_crashed"
    assert text(liar, b"honest") == "honest"
