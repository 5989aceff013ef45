"""The reader process: frames of JSON and bytes, limits that hold, and not a word besides."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from faulty import plant

from medgemma_cli import readers
from medgemma_cli.readers import ReadLimits, worker
from medgemma_cli.readers.limits import Content

LIMITS = ReadLimits()
Talk = tuple["subprocess.Popen[bytes]", Connection]


@contextlib.contextmanager
def started(**environment: str) -> Iterator[Talk]:
    """A reader process as the pool starts it, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker.__name__, str(number)],
            pass_fds=(number,),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    with Connection(ours.detach()) as connection:
        assert connection.poll(60) and connection.recv_bytes() == worker.READY
        yield process, connection
    process.kill()
    process.communicate()


def ask(
    connection: Connection, data: bytes, kind: str = "text/markdown", seconds: int = 5
) -> dict[str, Any]:
    """A task; the head of its answer."""
    task = {"kind": kind, "limits": list(LIMITS), "seconds": seconds}
    connection.send_bytes(json.dumps(task).encode("ascii"))
    connection.send_bytes(data)
    assert connection.poll(60)
    head: dict[str, Any] = json.loads(connection.recv_bytes())
    return head


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """One process for the tests that leave it alive, with readers that do as a document says."""
    path = plant(tmp_path_factory.mktemp("worker") / "site")
    with started(PYTHONPATH=path) as made:
        yield made


def test_frames_are_json_and_bytes(talk: Talk) -> None:
    """A head of ASCII JSON, then the text; for a picture its pixels, too."""
    _, connection = talk
    head = ask(connection, "Señora\u2028Pérez".encode())
    assert head == {
        "coverage": {"characters": [12, 12]},
        "degraded": [],
        "header": {},
        "images": [],
        "pages": [],
    }
    assert connection.recv_bytes().decode("utf-8") == "Señora\u2028Pérez"
    bitmap = b"P6 1 1 255\n\1\2\3"
    assert ask(connection, bitmap, "image/png") == {"code": "format"}
    assert not connection.poll(0)


def test_a_lone_surrogate_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is no UTF-8 by itself comes through whole."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(worker, "_bounded", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        readers, "content", lambda *_: Content(coverage={"characters": (1, 1)}, text="\ud800")
    )
    with Connection(ours.detach()) as here, Connection(theirs.detach()) as there:
        thread = threading.Thread(target=worker.serve, args=(there,))
        thread.start()
        assert here.recv_bytes() == worker.READY
        assert ask(here, b"x")["images"] == []
        assert here.recv_bytes().decode("utf-8", "surrogatepass") == "\ud800"
        here.close()
        thread.join(10)
    assert not thread.is_alive()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A pickle sent as a task is no task, and does nothing."""
    mark = tmp_path / "mark"
    attack = b"cos\nmkdir\n(V%s\ntR." % os.fsencode(mark)
    with started() as (process, connection):
        connection.send_bytes(attack)
        with contextlib.suppress(BrokenPipeError):  # it may be gone by now
            connection.send_bytes(b"x")
        assert process.wait(60) != 0
    assert not mark.exists()


def test_it_ends_with_its_socket() -> None:
    """No one to ask: an orderly end."""
    with started() as (process, connection):
        connection.close()
        assert process.wait(60) == 0


def test_limits_hold(talk: Talk) -> None:
    """While it reads there are limits of memory and of processor time, and never a core dump."""
    process, connection = talk
    ask(connection, b"Dry cough.", seconds=7)
    connection.recv_bytes()
    memory, _ = resource.prlimit(process.pid, resource.RLIMIT_AS)
    cpu, _ = resource.prlimit(process.pid, resource.RLIMIT_CPU)
    assert memory == worker.memory_limit(LIMITS)
    assert 7 < cpu < 60
    assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0] <= 1


def test_limits_are_counted_anew(talk: Talk) -> None:
    """What earlier documents took of the processor is not held against the next one."""
    process, connection = talk
    for seconds in (900, 3):
        ask(connection, b"Dry cough.", seconds=seconds)
        connection.recv_bytes()
        cpu, _ = resource.prlimit(process.pid, resource.RLIMIT_CPU)
        assert seconds < cpu < seconds + 60


def test_a_bomb_leaves_it_usable(talk: Talk) -> None:
    """Fault 56: what does not fit is `limit`, and the next document is read."""
    _, connection = talk
    assert ask(connection, b"!bomb") == {"code": "limit"}
    ask(connection, b"Dry cough.")
    assert connection.recv_bytes() == b"Dry cough."


def test_not_a_word(tmp_path: Path) -> None:
    """Fault 95: of a fault the parent learns a code, and no message."""
    with started(PYTHONPATH=plant(tmp_path / "site")) as (process, connection):
        assert ask(connection, b"!raise") == {"code": "reader_crashed"}
        connection.close()
        process.wait(60)


def test_it_ends_by_itself(tmp_path: Path) -> None:
    """Fault 58: a reader that nobody watches any more ends after its time."""
    with started(PYTHONPATH=plant(tmp_path / "site")) as (process, connection):
        task = {"kind": "text/markdown", "limits": list(LIMITS), "seconds": 1}
        connection.send_bytes(json.dumps(task).encode("ascii"))
        connection.send_bytes(b"!loop")
        # Of the processor's time, or of the clock's where others have the processor.
        assert process.wait(60) in (-signal.SIGXCPU, -signal.SIGALRM)
