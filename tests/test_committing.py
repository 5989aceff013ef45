"""Records are told of when they are durable, in their order, each once; and errors come out."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli import committing, files, summaries
from medgemma_cli.committing import Committer, has_page
from medgemma_cli.errors import StorageError
from medgemma_cli.ledger import Ledger
from medgemma_cli.projection import Projection
from medgemma_cli.records import ErrorInfo, ModelInfo, Record, TemplateInfo

LATE = 3600.0


def make(number: int = 0, **changes: Any) -> Record:
    """A record with a key, a source and a summary of its own."""
    fields: dict[str, Any] = {
        "key": f"{number:064x}",
        "source": f"n{number}.md",
        "origin": f"/in/n{number}.md",
        "summary": f"n{number}.md",
        "template": TemplateInfo(name="t", hash="0"),
        "model": ModelInfo(id="echo", engine="echo"),
        "status": "ok",
        "output": {"summary": "Dry cough."},
        "created": "2026-01-01T00:00:00+00:00",
        "notice": "A draft.",
    }
    return Record(**{**fields, **changes})


def watch(monkeypatch: pytest.MonkeyPatch, out: Path) -> list[str]:
    """What is written, synced and renamed below OUT, as it happens."""
    seen: list[str] = []
    real = {name: getattr(os, name) for name in ("write", "fsync", "replace")}

    def kind(path: str) -> str | None:
        if path == str(out):
            return "folder"
        if not path.startswith(f"{out}/"):
            return None
        name = path.removeprefix(f"{out}/")
        return "temporary" if name.startswith(files.TEMPORARY) else name

    def by_descriptor(call: str) -> Callable[..., Any]:
        def patched(descriptor: int, *args: Any) -> Any:
            name = kind(os.readlink(f"/proc/self/fd/{descriptor}"))
            if name is not None:
                seen.append(f"{call} {name}")
            return real[{"sync": "fsync"}.get(call, call)](descriptor, *args)

        return patched

    def replace(source: str, target: str) -> None:
        seen.append(f"rename {kind(str(target))}")
        real["replace"](source, target)

    monkeypatch.setattr(os, "write", by_descriptor("write"))
    monkeypatch.setattr(os, "fsync", by_descriptor("sync"))
    monkeypatch.setattr(os, "replace", replace)
    return seen


def wait_for(true: Callable[[], bool]) -> None:
    """Until something is so."""
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.001)


def timers() -> int:
    """How many threads of committers there are."""
    return sum(thread.name == "committer" for thread in threading.enumerate())


# -- the order -----------------------------------------------------------------------------------


def test_order_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledger, sync; temporary file, sync, rename, folder's sync; and only then it is told."""
    with Ledger(tmp_path) as ledger:
        seen = watch(monkeypatch, tmp_path)
        with Committer(ledger, lambda record: seen.append("tell"), group=1) as committer:
            committer.put(make())
    assert seen == [
        *("write records.jsonl", "sync records.jsonl"),
        *("write temporary", "sync temporary", "rename n0.md", "sync folder", "tell"),
    ]


def test_order_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is written at once; each kind of sync is done for all of them together."""
    with Ledger(tmp_path) as ledger:
        seen = watch(monkeypatch, tmp_path)
        told: list[str] = []
        with Committer(
            ledger, lambda r: told.append(f"{r.source} at {len(seen)}"), group=3, wait=LATE
        ) as committer:
            for number in range(2):
                committer.put(make(number))
            assert seen == ["write records.jsonl"] * 2 and told == []
            committer.put(make(2))
            assert told == [f"n{n}.md at {len(seen)}" for n in range(3)]
    assert seen == [
        *["write records.jsonl"] * 3,
        "sync records.jsonl",
        *["write temporary"] * 3,
        *["sync temporary"] * 3,
        *("rename n0.md", "rename n1.md", "rename n2.md", "sync folder"),
    ]


def test_what_is_left_at_the_end(tmp_path: Path) -> None:
    """A group that is not full is made durable when the run ends, whether well or not."""
    told: list[Record] = []

    def interrupted() -> None:
        with Ledger(tmp_path) as ledger, Committer(ledger, told.append, wait=LATE) as committer:
            committer.put(make(1))
            raise KeyboardInterrupt

    with Ledger(tmp_path) as ledger, Committer(ledger, told.append, wait=LATE) as committer:
        committer.put(make(0))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert told == [make(0), make(1)]
    assert (tmp_path / "n1.md").read_text("utf-8") == summaries.render(make(1))
    assert timers() == 0


def test_told_while_the_engine_is_busy(tmp_path: Path) -> None:
    """One record alone is told after a moment, though the main thread does not come back."""
    told = threading.Event()
    with Ledger(tmp_path) as ledger, Committer(ledger, lambda r: told.set()) as committer:
        for number in range(3):
            committer.put(make(number))
            assert told.wait(60)
            assert (tmp_path / f"n{number}.md").exists()
            told.clear()


def test_without_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--fsync never`: no thread, no sync, told at once."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("synced"))
    told: list[Record] = []
    with (
        Ledger(tmp_path, fsync=False) as ledger,
        Committer(ledger, told.append, fsync=False) as committer,
    ):
        assert timers() == 0
        committer.put(make())
        assert told == [make()] and (tmp_path / "n0.md").exists()


def test_records_without_a_page(tmp_path: Path) -> None:
    """What has no summary, and what found another's file in its place, writes none."""
    error = ErrorInfo(code="output_exists", stage="write", hint="Move it.")
    records = [
        make(0, summary=None, status="rejected"),
        make(1, status="failed", error=error),
        make(2),
    ]
    assert [has_page(record) for record in records] == [False, False, True]
    told: list[Record] = []
    with Ledger(tmp_path) as ledger, Committer(ledger, told.append) as committer:
        for record in records:
            committer.put(record)
    assert told == records
    assert sorted(summaries.sweep(tmp_path)) == ["n2.md"]


def test_thousands_from_two_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the timer always at work, each is told once, in order, and never two at a time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    told: list[str] = []
    busy = threading.Lock()

    def tell(record: Record) -> None:
        assert busy.acquire(blocking=False)
        told.append(record.key)
        busy.release()

    records = [make(n, summary=None) for n in range(3000)]
    with (
        Ledger(tmp_path) as ledger,
        Committer(ledger, tell, group=7, wait=0.0001) as committer,
    ):
        for number, record in enumerate(records):
            committer.put(record)
            if number % 100 == 0:
                time.sleep(0.001)
    assert told == [record.key for record in records]
    with Ledger(tmp_path) as ledger:
        assert list(ledger.by_key) == told


# -- errors --------------------------------------------------------------------------------------


class Failing(Exception):
    """What a test breaks."""


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[Callable[[Committer], None]], list[Record]]:
    """A run whose disk fails in the timer's thread; what was told before it came out."""

    def run(then: Callable[[Committer], None]) -> list[Record]:
        told: list[Record] = []
        failed = threading.Event()
        with Ledger(tmp_path) as ledger:

            def sync() -> None:
                failed.set()
                raise StorageError("Writing failed.", "Check the disk.")

            ledger.sync = sync  # type: ignore[method-assign]
            with Committer(ledger, told.append, wait=0.001) as committer:
                committer.put(make())
                assert failed.wait(60)
                wait_for(lambda: committer._failed is not None)
                then(committer)
        return told

    return run


@pytest.mark.parametrize(
    "then",
    [lambda c: c.put(make(1)), lambda c: c.flush(), lambda c: None],
    ids=["put", "flush", "end"],
)
def test_an_error_of_the_timer(
    broken: Callable[[Callable[[Committer], None]], list[Record]],
    tmp_path: Path,
    then: Callable[[Committer], None],
) -> None:
    """Fault 11: it comes out at the next call, whichever; nothing is told, nothing hangs."""
    with pytest.raises(StorageError):
        broken(then)
    assert timers() == 0
    with Ledger(tmp_path) as ledger:
        assert len(ledger.current) == 1  # what was put after it was not written


def test_the_first_error_is_told(
    broken: Callable[[Callable[[Committer], None]], list[Record]],
) -> None:
    """What ends the run already is not hidden behind the timer's."""

    def fail(committer: Committer) -> None:
        raise Failing

    with pytest.raises(Failing):
        broken(fail)
    assert timers() == 0


def test_a_failed_sync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 11: once, and the run is over."""
    tries = []

    def sync(descriptor: int) -> None:
        tries.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    def run() -> None:
        with Ledger(tmp_path) as ledger:
            monkeypatch.setattr(os, "fsync", sync)
            with Committer(ledger, lambda r: None, group=2, wait=LATE) as committer:
                committer.put(make(0))
                committer.put(make(1))

    with pytest.raises(StorageError):
        run()
    assert len(tries) == 1


def test_an_error_of_the_one_who_is_told(tmp_path: Path) -> None:
    """A closed standard output comes out in the main thread, not in the timer's."""

    def closed(record: Record) -> None:
        raise BrokenPipeError

    def run() -> None:
        with Ledger(tmp_path) as ledger, Committer(ledger, closed, wait=0.001) as committer:
            committer.put(make(0))
            wait_for(lambda: committer._failed is not None)
            committer.put(make(1))

    with pytest.raises(BrokenPipeError):
        run()
    assert timers() == 0
    assert (tmp_path / "n0.md").exists()


@pytest.mark.parametrize("at", range(1, 6))
def test_no_room_for_the_summaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Fault 9: the records stand, nothing temporary is left, and the next start makes the rest."""
    real, left = os.write, [at]

    def full(descriptor: int, data: Any) -> int:
        if files.TEMPORARY in os.readlink(f"/proc/self/fd/{descriptor}"):
            left[0] -= 1
            if left[0] == 0:
                real(descriptor, bytes(data)[:10])
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    told: list[Record] = []

    def run() -> None:
        with (
            Ledger(tmp_path) as ledger,
            Committer(ledger, told.append, group=5, wait=LATE) as committer,
        ):
            for number in range(5):
                committer.put(make(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError):
            run()
    assert told == []
    assert list(tmp_path.rglob("*.tmp")) == list(tmp_path.glob("*.md")) == []
    with Ledger(tmp_path) as ledger:
        projection = Projection(ledger)
        projection.prepare()
        assert (len(ledger.current), projection.rebuilt) == (5, 5)
    assert len(list(tmp_path.glob("*.md"))) == 5


def test_no_room_for_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 8: those that wait are still made durable and told; the one without room is not."""
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        if b'"n2.md"' in bytes(data) and b"schema" in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    told: list[str] = []

    def run() -> None:
        with (
            Ledger(tmp_path) as ledger,
            Committer(ledger, lambda r: told.append(r.source), wait=LATE) as committer,
        ):
            monkeypatch.setattr(os, "write", full)
            for number in range(4):
                committer.put(make(number))

    with pytest.raises(StorageError):
        run()
    assert told == ["n0.md", "n1.md"]
    assert sorted(path.name for path in tmp_path.glob("*.md")) == told


def test_sensible_groups() -> None:
    """A person sees a record within an eye's blink, and a group is a few dozen."""
    assert committing.WAIT <= 0.1 and 8 <= committing.GROUP <= 256
