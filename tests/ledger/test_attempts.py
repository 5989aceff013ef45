"""Who is suspected after a death: what was under way, and nobody for a kill from outside."""

import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli import readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.errors import StorageError
from medgemma_cli.job import Job
from medgemma_cli.ledger import CRASHES, Attempts, Ledger, endings, story
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.records import Generation, Limits, ModelInfo, Prompt, Record, TemplateInfo

A, B, C = "a" * 64, "b" * 64, "c" * 64
TRACE = "Fatal Python error: Segmentation fault\n"


def make(key: str, **changes: Any) -> Record:
    """A record of this key."""
    fields: dict[str, Any] = {
        "key": key,
        "source": f"{key[0]}.md",
        "origin": f"/in/{key[0]}.md",
        "summary": f"{key[0]}.md",
        "template": TemplateInfo(name="t", hash="0"),
        "model": ModelInfo(id="echo", engine="echo"),
        "status": "ok",
        "output": {"summary": "Dry cough."},
        "created": "2026-01-01T00:00:00+00:00",
        "notice": "A draft.",
    }
    return Record(**{**fields, **changes})


@contextmanager
def journal(out: Path) -> Iterator[tuple[Attempts, Ledger]]:
    """A run that ends in order."""
    with Ledger(out, fsync=False) as ledger, Attempts(ledger) as made:
        yield made, ledger


@contextmanager
def dying(out: Path, trace: str = "") -> Iterator[tuple[Attempts, Ledger]]:
    """A run whose process dies at the end of the block; of a crash, where there is a trace."""
    with Ledger(out, fsync=False) as ledger:
        made = Attempts(ledger).__enter__()
        yield made, ledger
        if made._file is not None:
            made._file.close()
    if trace:
        (out / endings.TRACE).write_text(trace, "ascii")


def suspects(out: Path) -> dict[str, int]:
    """Whom the next run suspects."""
    with journal(out) as (made, _):
        return dict(made.suspects)


def lines(out: Path) -> list[dict[str, Any]]:
    """The journal."""
    return [json.loads(line) for line in (out / "attempts.jsonl").read_bytes().splitlines()]


def crash_alone(out: Path, key: str, times: int = 1) -> None:
    """The process crashes while it works on one document alone."""
    for _ in range(times):
        with dying(out, TRACE) as (made, _):
            made.alone = True
            made.prepare(key)
            made.generate([key])


# -- what was under way --------------------------------------------------------------------------


def test_died_while_making_ready(tmp_path: Path) -> None:
    """The document that the host was at is a suspect, the one before it is not."""
    with dying(tmp_path) as (made, ledger):
        made.prepare(A)
        ledger.append(make(A, status="rejected"))
        made.prepare(B)
    assert suspects(tmp_path) == {B: 0}


def test_died_while_another_waits(tmp_path: Path) -> None:
    """One that was made ready and waits is not at work: only the last one is."""
    with dying(tmp_path) as (made, _):
        made.prepare(A)
        made.prepare(B)
    assert suspects(tmp_path) == {B: 0}


def test_died_while_generating(tmp_path: Path) -> None:
    """What is with the device is suspected, and what is made ready meanwhile."""
    with dying(tmp_path) as (made, _):
        made.prepare(A)
        made.generate([A])
        made.prepare(B)
    assert suspects(tmp_path) == {A: 0, B: 0}


def test_died_in_a_batch(tmp_path: Path) -> None:
    """Of a batch of 8 all are suspects but those that have their record."""
    keys = [f"{n:064x}" for n in range(8)]
    with dying(tmp_path) as (made, ledger):
        made.generate(keys)
        ledger.append(make(keys[3]))
        ledger.append(make(keys[5], status="failed"))
    assert set(suspects(tmp_path)) == set(keys) - {keys[3], keys[5]}


def test_died_after_the_commit(tmp_path: Path) -> None:
    """A record that stands clears its document, though no end was noted."""
    with dying(tmp_path, TRACE) as (made, ledger):
        made.prepare(A)
        made.generate([A])
        ledger.append(make(A))
    assert suspects(tmp_path) == {}


def test_an_older_record_does_not_clear(tmp_path: Path) -> None:
    """A document that was done once and is done again is under way like any other."""
    with dying(tmp_path) as (made, ledger):
        ledger.append(make(A))
        made.generate([A])
    assert suspects(tmp_path) == {A: 0}


def test_a_copy_clears(tmp_path: Path) -> None:
    """The key counts, not the name: a record of the same bytes elsewhere is one, too."""
    with dying(tmp_path) as (made, ledger):
        made.generate([A])
        ledger.append(make(A, source="z.md", summary="z.md"))
    assert suspects(tmp_path) == {}


def test_an_orderly_end(tmp_path: Path) -> None:
    """What is left when a run is stopped or fails is nobody's fault."""
    with journal(tmp_path) as (made, _):
        made.generate([A, B])
    assert suspects(tmp_path) == {}


@pytest.mark.parametrize("kind", [StorageError("", ""), KeyboardInterrupt(), RuntimeError()])
def test_an_orderly_end_by_an_exception(tmp_path: Path, kind: BaseException) -> None:
    """The same where an exception ends the run."""
    (tmp_path / endings.TRACE).write_text(TRACE)

    def end() -> None:
        with journal(tmp_path) as (made, _):
            made.generate([A])
            raise kind

    with pytest.raises(type(kind)):
        end()
    assert suspects(tmp_path) == {}


def test_no_room_for_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the disk full there is no end, so there are suspects; nothing is raised."""

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with journal(tmp_path) as (made, _):
        made.generate([A])
        monkeypatch.setattr(os, "write", full)
    monkeypatch.undo()
    assert suspects(tmp_path) == {A: 0}


def test_nothing_is_noted_after_the_end(tmp_path: Path) -> None:
    """The device's thread may still begin something: the next run owns the folder by then."""
    with journal(tmp_path) as (made, _):
        made.generate([A])
    before = (tmp_path / "attempts.jsonl").read_bytes()
    made.generate([B])
    made.prepare(C)
    assert (tmp_path / "attempts.jsonl").read_bytes() == before
    assert not (tmp_path / endings.TRACE).exists()


# -- one run after another -----------------------------------------------------------------------


def test_carried_until_its_turn(tmp_path: Path) -> None:
    """Runs that do not come to a suspect hand it on, however they end."""
    with dying(tmp_path) as (made, _):
        made.generate([A, B])
    for _ in range(3):
        with journal(tmp_path) as (made, ledger):
            made.prepare(C)
            ledger.append(make(C))
    with dying(tmp_path) as (made, _):
        pass
    assert suspects(tmp_path) == suspects(tmp_path) == {A: 0, B: 0}


@pytest.mark.parametrize("status", ["ok", "flagged", "rejected", "failed"])
def test_no_suspect_after_its_record(tmp_path: Path, status: str) -> None:
    """One that never crashed the process is cleared by any record."""
    with dying(tmp_path) as (made, _):
        made.generate([A])
    with journal(tmp_path) as (made, ledger):
        assert made.suspects == {A: 0}
        made.generate([A])
        ledger.append(make(A, status=status))
    assert suspects(tmp_path) == {}


@pytest.mark.parametrize(("status", "left"), [("ok", {}), ("failed", {A: 1})])
def test_a_crash_is_forgotten_by_success_alone(
    tmp_path: Path, status: str, left: dict[str, int]
) -> None:
    """One that crashed the process stays counted until it is done."""
    crash_alone(tmp_path, A)
    with journal(tmp_path) as (made, ledger):
        made.generate([A])
        ledger.append(make(A, status=status))
    assert suspects(tmp_path) == left


def test_compacted_when_the_next_begins(tmp_path: Path) -> None:
    """The journal holds one run and who is still suspected, not its history."""
    for n in range(3):
        with dying(tmp_path) as (made, ledger):
            made.generate([f"{n:064x}"])
            ledger.append(make(f"{n:064x}"))
    with dying(tmp_path) as (made, _):
        made.generate([A])
    with journal(tmp_path) as (made, _):
        made.prepare(B)
    events = [line["event"] for line in lines(tmp_path)]
    assert events == ["suspect", "start", "prepare", "end"]


def test_three_runs_in_one_journal(tmp_path: Path) -> None:
    """Where they stand one behind the other, the last one counts."""
    text = [
        {"event": "start"},
        {"event": "generate", "keys": [A], "at": 0, "alone": False},
        {"event": "start"},
        {"event": "generate", "keys": [B], "at": 0, "alone": True},
        {"event": "end"},
        {"event": "start"},
        {"event": "prepare", "key": C, "at": 0, "alone": False},
    ]
    (tmp_path / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in text))
    assert suspects(tmp_path) == {C: 0}


def test_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    """Neither a first run without work nor a later one touches the journal."""
    assert suspects(tmp_path) == {} and not (tmp_path / "attempts.jsonl").exists()
    with journal(tmp_path) as (made, ledger):
        made.generate([A])
        ledger.append(make(A))
    before = os.stat(tmp_path / "attempts.jsonl")
    assert suspects(tmp_path) == {}
    after = os.stat(tmp_path / "attempts.jsonl")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_long_journal_is_not_read_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an orderly end only the suspects at its beginning are of interest."""
    with dying(tmp_path) as (made, _):
        made.generate([A])
    with journal(tmp_path) as (made, _):
        for n in range(100):
            made.prepare(f"{n:064x}")
    read: list[bytes] = []
    real = story.read_object
    monkeypatch.setattr(story, "read_object", lambda raw: [read.append(raw), real(raw)][1])
    assert suspects(tmp_path) == {A: 0}
    assert len(read) == 2


def test_a_new_ledger_forgets(tmp_path: Path) -> None:
    """`--fresh`: what an older ledger's run came to means nothing, now and later."""
    crash_alone(tmp_path, A, times=2)
    with journal(tmp_path) as (made, ledger):
        ledger.append(make(B))
        assert made.suspects == {A: 2}
        ledger.start_over()
        made.forget()
        assert made.crashes(A) == 0
    assert suspects(tmp_path) == {}


def test_died_between_the_ledgers(tmp_path: Path) -> None:
    """What was noted behind the end of the ledger that is there belongs to one that is gone."""
    with dying(tmp_path) as (made, ledger):
        ledger.append(make(B))
        made.generate([A])
    (tmp_path / "records.jsonl").unlink()
    assert suspects(tmp_path) == {}


# -- who is to blame -----------------------------------------------------------------------------


def test_fifty_kills_from_outside(tmp_path: Path) -> None:
    """Fault 79: without a trace a death is nobody's fault, alone or not."""
    for _ in range(50):
        crash_alone_untraced(tmp_path)
    assert suspects(tmp_path) == {A: 0}


def crash_alone_untraced(out: Path) -> None:
    """SIGKILL while a document is alone."""
    with dying(out) as (made, _):
        made.alone = True
        made.generate([A])


def test_a_crash_in_company(tmp_path: Path) -> None:
    """Fault 79: a crash while several were under way makes suspects, and blames none."""
    for _ in range(5):
        with dying(tmp_path, TRACE) as (made, _):
            made.generate([A, B])
    assert suspects(tmp_path) == {A: 0, B: 0}


def test_crashes_alone_are_counted(tmp_path: Path) -> None:
    """Fault 79: one by one; each trace is kept, once, and told of."""
    for count in range(1, CRASHES + 1):
        crash_alone(tmp_path, A)
        with dying(tmp_path) as (made, ledger):
            assert made.suspects == {A: count}
            (told,) = ledger.warnings
        (kept,) = (tmp_path / "quarantine").glob("crash-*")
        assert kept.read_text() == TRACE and f"quarantine/{kept.name}" in told
    assert suspects(tmp_path) == {A: CRASHES}


def test_a_death_is_counted_once(tmp_path: Path) -> None:
    """Runs that come after a crash do not find it again."""
    crash_alone(tmp_path, A)
    assert [suspects(tmp_path) for _ in range(3)] == [{A: 1}] * 3


def test_a_crash_while_loading(tmp_path: Path) -> None:
    """A model that cannot be loaded is not the fault of the document it is loaded for."""
    for _ in range(5):
        with dying(tmp_path, TRACE) as (made, _):
            made.alone = True
            made.prepare(A)
            made.generate([])
    assert suspects(tmp_path) == {A: 0}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counters and a boot of our own."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "vmstat").write_text("pgfault 7\noom_kill 4\n")
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 4\noom_group_kill 9\n")
    (folder / "boot").write_text("one\n")
    monkeypatch.setattr(endings, "_MACHINE", folder / "vmstat")
    monkeypatch.setattr(endings, "_GROUP", folder / "cgroup")
    monkeypatch.setattr(endings, "_GROUPS", folder)
    monkeypatch.setattr(endings, "_BOOT", folder / "boot")
    return folder


@pytest.mark.parametrize("counter", ["vmstat", "memory.events"])
def test_killed_for_memory(tmp_path: Path, system: Path, counter: str) -> None:
    """Fault 79: SIGKILL from the kernel, for memory, is a crash."""
    if counter == "memory.events":
        (system / "cgroup").write_text("0::/\n")
    crash_alone_untraced(tmp_path)
    (system / counter).write_text("oom_kill 5\n")
    assert suspects(tmp_path) == {A: 1}


@pytest.mark.parametrize("text", ["oom_kill 4\n", "oom_kill 3\n", "", "oom_kill x\n", "\xff"])
def test_not_killed_for_memory(tmp_path: Path, system: Path, text: str) -> None:
    """A counter that stands still, began anew or cannot be read blames nobody."""
    crash_alone_untraced(tmp_path)
    (system / "vmstat").write_text(text, "latin-1")
    assert suspects(tmp_path) == {A: 0}


def test_the_machine_began_anew(tmp_path: Path, system: Path) -> None:
    """After another boot the counters are others, and the power may have failed."""
    crash_alone_untraced(tmp_path)
    (system / "boot").write_text("two\n")
    (system / "vmstat").write_text("oom_kill 9\n")
    assert suspects(tmp_path) == {A: 0}


def test_a_change_of_the_clock(tmp_path: Path) -> None:
    """No time is noted: no clock can make a crash."""
    crash_alone_untraced(tmp_path)
    os.utime(tmp_path / "attempts.jsonl", (0, 0))
    os.utime(tmp_path / "records.jsonl", (2**32, 2**32))
    assert suspects(tmp_path) == {A: 0}


# -- a damaged journal ---------------------------------------------------------------------------

_BAD = [
    b"",
    b"\n",
    b"not json\n",
    b"[]\n",
    b"7\n",
    b'{"event": "suspect", "key": 7, "crashes": 9, "at": 0}\n',
    b'{"event": "suspect", "key": "x", "crashes": "9", "at": 0}\n',
    b'{"event": "suspect", "key": "x", "crashes": 9.5, "at": 0}\n',
    b'{"event": "suspect", "key": "x", "crashes": -9, "at": 0}\n',
    b'{"event": "suspect", "key": "x", "crashes": ' + b"9" * 5000 + b', "at": 0}\n',
    b'{"event": "suspect", "key": "x", "crashes": 9, "at": null}\n',
    b'{"event": "suspect", "key": "\\ud800", "crashes": 0}\n',
    b'{"event": ["start"]}\n',
    b'{"event": "generate", "keys": 7, "at": 0}\n',
    b'{"event": "prepare", "key": ["x"], "at": 0}\n',
    b"[" * 100_000 + b"\n",
    b"\xff\xfe\0\n",
]


@pytest.mark.parametrize("bad", _BAD, ids=range(len(_BAD)))
def test_a_damaged_line(tmp_path: Path, bad: bytes) -> None:
    """It tells nothing, and the lines around it tell what they told."""
    crash_alone(tmp_path, A)
    path = tmp_path / "attempts.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(bad + first + bad + b"".join(rest) + bad)
    assert suspects(tmp_path) == {A: 1}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_tail(tmp_path: Path, cut: int) -> None:
    """Killed in mid-line: the lines before it count, and the next run writes a whole journal."""
    with dying(tmp_path) as (made, _):
        made.generate([A])
        made.generate([B])
    path = tmp_path / "attempts.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert set(suspects(tmp_path)) - {B} == {A}
    assert lines(tmp_path)[-1] == {"event": "end"}


_WORDS = st.sampled_from(["start", "end", "suspect", "prepare", "generate", "load", "other"])
_VALUES = st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.text() | st.just(A)
_LINES = st.dictionaries(
    st.sampled_from(["event", "key", "keys", "at", "alone", "crashes", "mark"]),
    _VALUES | _WORDS | st.lists(_VALUES, max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_LINES.map(lambda line: json.dumps(line).encode()) | st.binary(), max_size=8))
def test_any_journal(parts: Sequence[bytes]) -> None:
    """Whatever stands in it breaks no run, poisons nobody, and is gone after one attempt."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "attempts.jsonl").write_bytes(b"\n".join(parts))
        with journal(out) as (made, _):
            assert all(0 <= count < CRASHES for count in made.suspects.values())
            made.prepare(A)
        assert [line["event"] for line in lines(out)][-3:] == ["start", "prepare", "end"]


@pytest.mark.parametrize("name", ["attempts.jsonl", ".crash"])
@pytest.mark.parametrize("kind", ["folder", "full folder", "fifo", "link", "loop", "socket"])
def test_something_else_in_its_place(tmp_path: Path, name: str, kind: str) -> None:
    """It makes way, a folder with all that is in it; what a link leads to is left alone."""
    out, path, target = tmp_path / "out", tmp_path / "out" / name, tmp_path / "target"
    out.mkdir()
    target.write_text("mine")
    if kind in ("folder", "full folder"):
        path.mkdir()
        if kind == "full folder":
            (path / "x").write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(target)
    elif kind == "loop":
        path.symlink_to(name)
    else:
        os.mknod(path, 0o140600)
    with Ledger(out, fsync=False) as ledger, Attempts(ledger, trace=True) as made:
        assert made.suspects == {}
        made.generate([A])
        assert (out / ".crash").is_file() and not (out / ".crash").is_symlink()
    assert target.read_text() == "mine"
    kept = len(list((out / "quarantine").glob("*")))
    assert kept == 1 or (name == ".crash" and "folder" not in kind)
    assert suspects(out) == {}


def test_an_unreadable_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on and says what it does not know."""
    crash_alone(tmp_path, A)

    def cannot(path: Path) -> Iterator[tuple[int, bytes]]:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(story, "raw_lines", cannot)
        with journal(tmp_path) as (made, ledger):
            assert made.suspects == {} and len(ledger.warnings) == 1
            made.prepare(B)


def test_no_room_for_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 8: without its line there is no attempt: 74."""

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with journal(tmp_path) as (made, _):
        made.prepare(A)
        size = (tmp_path / "attempts.jsonl").stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StorageError):
                made.generate([A])
        assert (tmp_path / "attempts.jsonl").stat().st_size == size
    assert lines(tmp_path)[-1]["event"] == "end"


# -- what a line holds ---------------------------------------------------------------------------


def test_lines_hold_keys_and_numbers(tmp_path: Path) -> None:
    """Fault 95: no name, no text, no time; readable by its owner alone."""
    crash_alone(tmp_path, A)
    with journal(tmp_path) as (made, _):
        made.prepare(A)
        made.generate([A])
        made.generate([])
    allowed = {"event", "key", "keys", "at", "alone", "crashes", "mark"}
    assert all(set(line) <= allowed for line in lines(tmp_path))
    assert (tmp_path / "attempts.jsonl").stat().st_mode & 0o777 == 0o600


def test_host_and_device_write_at_once(tmp_path: Path) -> None:
    """Lines of two threads do not mix, and the journal is begun once."""
    with journal(tmp_path) as (made, _):
        threads = [
            threading.Thread(target=lambda key=key: [made.generate([key]) for _ in range(200)])
            for key in (A, B, C)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = [line["event"] for line in lines(tmp_path)]
    assert events == ["start", *["generate"] * 600, "end"]


# -- with the pipeline ---------------------------------------------------------------------------


class Watched(EchoEngine):
    """The echo engine; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def _answer(self, prompt: Prompt) -> Generation:
        self.asked.append(prompt.id)
        return super()._answer(prompt)


def run(out: Path, folder: Path, **job: Any) -> tuple[list[str], dict[str, Any]]:
    """One run: the keys that the model was asked, in order, and the records by source."""
    settings = Job(templates.load("general"), Limits(), fsync=False, **job)
    engine = Watched()
    with Ledger(out, fsync=False) as ledger, Attempts(ledger) as made:
        process = Run(settings, ledger, engine, SilentReporter(), attempts=made)
        process.prepare()
        process.execute(Discovery([str(folder)], readers.SUFFIXES, out=out))
        found = {entry.source: ledger.read(entry) for entry in ledger.current.values()}
    return engine.asked, found


def keys_of(folder: Path) -> dict[str, str]:
    """The key of each source of a folder."""
    with tempfile.TemporaryDirectory() as elsewhere:
        return {name: record.key for name, record in run(Path(elsewhere), folder)[1].items()}


def test_suspects_come_last_and_alone(tmp_path: Path, notes: Path) -> None:
    """First what nobody suspects, then who crashed least."""
    keys = keys_of(notes)
    crash_alone(tmp_path / "out", keys["a.md"])
    with dying(tmp_path / "out") as (made, _):
        made.generate([keys["b.txt"]])
    asked, found = run(tmp_path / "out", notes)
    assert asked == [keys[name] for name in ("c.md", "ward/d.md", "b.txt", "a.md")]
    assert {record.status for record in found.values()} == {"ok"}
    generated = [line for line in lines(tmp_path / "out") if line["event"] == "generate"]
    assert [line["alone"] for line in generated] == [False, False, True, True]
    assert all(len(line["keys"]) == 1 for line in generated)


def test_poison_until_more_attempts_are_allowed(tmp_path: Path, notes: Path) -> None:
    """Fault 79: refused after three, cached then; tried again, alone, when the user says so."""
    out, key = tmp_path / "out", keys_of(notes)["b.txt"]
    crash_alone(out, key, CRASHES)
    asked, found = run(out, notes)
    assert len(asked) == 3 and key not in asked
    assert found["b.txt"].error is not None and found["b.txt"].error.code == "poison"
    assert (found["b.txt"].status, found["b.txt"].attempt) == ("failed", CRASHES)
    for job in ({}, {"retry_failed": True}, {"max_attempts": 4}):
        assert run(out, notes, **job)[0] == []
    crash_alone(out, key)
    again = {"retry_failed": True, "max_attempts": 4}
    asked, found = run(out, notes, **again)
    assert asked == [] and found["b.txt"].attempt == 4
    again["max_attempts"] = 5
    asked, found = run(out, notes, **again)
    assert asked == [key] and found["b.txt"].status == "ok"
    assert suspects(out) == {}


def test_poison_with_a_twin(tmp_path: Path, notes: Path) -> None:
    """Fault 79: the same bytes under two names are one document: neither is tried again."""
    (notes / "z.txt").write_bytes((notes / "b.txt").read_bytes())
    out, key = tmp_path / "out", keys_of(notes)["b.txt"]
    crash_alone(out, key, CRASHES)
    asked, found = run(out, notes)
    assert len(asked) == 3
    codes = [found[name].error for name in ("b.txt", "z.txt")]
    assert [error.code for error in codes if error] == ["poison", "poison"]
    assert run(out, notes)[0] == []


def test_a_suspect_with_a_twin(tmp_path: Path, notes: Path) -> None:
    """Both names get their record from one answer."""
    (notes / "z.txt").write_bytes((notes / "b.txt").read_bytes())
    out, key = tmp_path / "out", keys_of(notes)["b.txt"]
    with dying(out) as (made, _):
        made.generate([key])
    asked, found = run(out, notes)
    assert asked.count(key) == 1 and asked[-1] == key
    assert found["z.txt"].duplicate_of == "b.txt"


def test_a_suspect_that_changed(tmp_path: Path, notes: Path) -> None:
    """Another content is another document: nobody suspects it."""
    out, key = tmp_path / "out", keys_of(notes)["a.md"]
    crash_alone(out, key, CRASHES)
    (notes / "a.md").write_text("No cough any more.\n")
    asked, found = run(out, notes)
    assert len(asked) == 4
    assert {record.status for record in found.values()} == {"ok"}
