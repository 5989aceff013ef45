"""The ledger keeps what was committed, whatever happens to the file, the disk or the lock."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli import files
from medgemma_cli.errors import ConfigError, OutputError, RunAgainError, StorageError
from medgemma_cli.ledger import Ledger, appending, current_lines, locking
from medgemma_cli.records import ModelInfo, Record, TemplateInfo


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


def fill(out: Path, count: int) -> bytes:
    """Commit so many records; the bytes of the file."""
    with Ledger(out, fsync=False) as open_ledger:
        for number in range(count):
            open_ledger.commit(make(number))
    return (out / "records.jsonl").read_bytes()


def quarantined(out: Path) -> list[bytes]:
    """What lies in the quarantine."""
    return [path.read_bytes() for path in (out / "quarantine").glob("*") if path.is_file()]


def reopen(out: Path) -> tuple[set[str], list[str]]:
    """Open and repair: the slots that are known, and the warnings."""
    with Ledger(out, fsync=False) as open_ledger:
        return set(open_ledger.current), open_ledger.warnings


# -- what is written is read back ---------------------------------------------------------------


def test_commit_is_read_back(tmp_path: Path) -> None:
    """A record comes back equal, from the same opening and from the next."""
    record = make(1, output={"summary": "Señora\u2028Pérez 😀"}, coverage={"characters": (3, 3)})
    with Ledger(tmp_path) as first:
        first.commit(record)
        assert first.read(first.current["n1.md"]) == record
    with Ledger(tmp_path) as second:
        assert second.read(second.by_key[record.key]) == record
        assert second.warnings == []


def test_last_line_of_a_slot_is_current(tmp_path: Path) -> None:
    """A later record of the same summary name replaces the earlier one as current."""
    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(1))
        open_ledger.commit(make(2, summary="n1.md", source="n1.md"))
        assert open_ledger.current["n1.md"].key == make(2).key
    assert [line["key"] for line in current_lines(tmp_path)] == [make(2).key]


def test_a_record_without_summary_has_a_slot(tmp_path: Path) -> None:
    """A source that can have no summary is known by its name."""
    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(1, summary=None, source="../x.md", status="rejected"))
        assert list(open_ledger.current) == ["//../x.md"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=6))
def test_any_unicode_round_trips(texts: list[tuple[str, str, str]]) -> None:
    """Fault 51: any output is one line of ASCII JSON, and reads back equal."""
    records = [
        make(i, output={"summary": a, "list": [b]}, raw_text=b, source=f"{i}{c}")
        for i, (a, b, c) in enumerate(texts)
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with Ledger(out, fsync=False) as open_ledger:
            for record in records:
                open_ledger.commit(record)
        lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
        assert all(line.isascii() and line.endswith(b"\n") for line in lines)
        assert [Record.model_validate(json.loads(line)) for line in lines] == records
        with Ledger(out, fsync=False) as again:
            assert [again.read(again.by_key[r.key]) for r in records] == records


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\r", "\n"])
def test_line_separators_stay_inside_the_line(tmp_path: Path, separator: str) -> None:
    """Fault 51: whatever some program calls a line end, the record stays one line."""
    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(1, output={"summary": f"a{separator}b"}))
    text = (tmp_path / "records.jsonl").read_text("utf-8")
    assert len(text.splitlines()) == 1
    assert json.loads(text)["output"] == {"summary": f"a{separator}b"}


def test_nan_never_reaches_the_file(tmp_path: Path) -> None:
    """Fault 51: a number that JSON does not have becomes null; the line is valid JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(1, output={"a": float("nan"), "b": [float("inf")]}))
    (line,) = (tmp_path / "records.jsonl").read_text("ascii").splitlines()
    assert json.loads(line, parse_constant=refuse)["output"] == {"a": None, "b": [None]}


# -- repair on opening --------------------------------------------------------------------------


def test_torn_tail_is_moved(tmp_path: Path) -> None:
    """Fault 3: half a last line is copied to the quarantine and cut off; the rest stays."""
    whole = fill(tmp_path, 3)
    first_two = b"".join(whole.splitlines(keepends=True)[:2])
    torn = whole.splitlines(keepends=True)[2][:200]
    (tmp_path / "records.jsonl").write_bytes(first_two + torn)
    slots, warnings = reopen(tmp_path)
    assert slots == {"n0.md", "n1.md"}
    assert (tmp_path / "records.jsonl").read_bytes() == first_two
    assert quarantined(tmp_path) == [torn]
    assert len(warnings) == 1


def test_next_record_is_not_glued_to_a_torn_tail(tmp_path: Path) -> None:
    """Fault 3: what is committed after the repair is a line of its own."""
    whole = fill(tmp_path, 2)
    (tmp_path / "records.jsonl").write_bytes(whole[:-50])
    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(7))
    assert reopen(tmp_path) == ({"n0.md", "n7.md"}, [])


def test_missing_newline_is_added(tmp_path: Path) -> None:
    """Fault 4: a complete last line gets its newline and counts."""
    whole = fill(tmp_path, 2)
    (tmp_path / "records.jsonl").write_bytes(whole[:-1])
    slots, warnings = reopen(tmp_path)
    assert slots == {"n0.md", "n1.md"}
    assert warnings == []
    assert (tmp_path / "records.jsonl").read_bytes() == whole


def test_commit_after_added_newline(tmp_path: Path) -> None:
    """Fault 4: the offset is right after the newline was added."""
    whole = fill(tmp_path, 2)
    (tmp_path / "records.jsonl").write_bytes(whole[:-1])
    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(5))
        assert open_ledger.read(open_ledger.current["n5.md"]) == make(5)


@pytest.mark.parametrize(
    "damage",
    [
        b"not json\n",
        b"\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"schema": "medgemma.record/1"}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["words", "blank", "array", "empty", "bytes", "fields missing", "deep"],
)
def test_damaged_line_is_left_and_warned_about(tmp_path: Path, damage: bytes) -> None:
    """Fault 13: a bad line in the middle is copied, left where it is, and told."""
    lines = fill(tmp_path, 3).splitlines(keepends=True)
    bad = lines[0] + damage + lines[2]
    (tmp_path / "records.jsonl").write_bytes(bad)
    slots, warnings = reopen(tmp_path)
    assert slots == {"n0.md", "n2.md"}
    assert len(warnings) == 1
    assert quarantined(tmp_path) == [damage]
    assert (tmp_path / "records.jsonl").read_bytes() == bad


def test_wrong_value_in_a_line_is_damage(tmp_path: Path) -> None:
    """Fault 13: a line that is JSON but no record is treated like any other damaged line."""
    whole = fill(tmp_path, 2)
    (tmp_path / "records.jsonl").write_bytes(whole.replace(b'"status":"ok"', b'"status":"ko"', 1))
    slots, warnings = reopen(tmp_path)
    assert slots == {"n1.md"}
    assert len(warnings) == 1


def test_unknown_field_of_the_same_schema_is_read(tmp_path: Path) -> None:
    """Fields are added within a version: a line with one more is read, not refused."""
    whole = fill(tmp_path, 1)
    (tmp_path / "records.jsonl").write_bytes(whole.replace(b"{", b'{"added":1,', 1))
    with Ledger(tmp_path) as open_ledger:
        assert open_ledger.read(open_ledger.current["n0.md"]).key == make(0).key


def test_warnings_hold_no_text_of_the_line(tmp_path: Path) -> None:
    """Fault 95: what is told about a damaged line does not quote it."""
    (tmp_path / "records.jsonl").write_bytes(b'{"source": "CANARY"}\n{"source": "CANARY')
    _, warnings = reopen(tmp_path)
    assert len(warnings) == 2
    assert "CANARY" not in " ".join(warnings)


def test_repair_is_idempotent(tmp_path: Path) -> None:
    """Fault 7: repairing twice leaves what repairing once left."""
    whole = fill(tmp_path, 3)
    (tmp_path / "records.jsonl").write_bytes(b"junk\n" + whole[:-9])
    reopen(tmp_path)
    once = (tmp_path / "records.jsonl").read_bytes(), sorted(quarantined(tmp_path))
    reopen(tmp_path)
    assert ((tmp_path / "records.jsonl").read_bytes(), sorted(quarantined(tmp_path))) == once


def test_repair_broken_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 7: a repair that died in mid-copy loses nothing of the torn tail."""
    whole = fill(tmp_path, 2)
    torn = whole.splitlines(keepends=True)[1][:-20]
    (tmp_path / "records.jsonl").write_bytes(whole[:-20])
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", half_then(OSError(errno.EIO, "I/O error")))
        with pytest.raises(OutputError):
            reopen(tmp_path)
    assert reopen(tmp_path)[0] == {"n0.md"}
    assert torn in quarantined(tmp_path)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """Fault 15: a newer ledger is not guessed at, and not changed."""
    newer = fill(tmp_path, 1).replace(b"medgemma.record/1", b"medgemma.record/2")
    (tmp_path / "records.jsonl").write_bytes(newer)
    with pytest.raises(ConfigError):
        reopen(tmp_path)
    with pytest.raises(ConfigError):
        list(current_lines(tmp_path))
    assert (tmp_path / "records.jsonl").read_bytes() == newer


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cutting_anywhere_loses_at_most_the_cut_line(data: st.DataObject) -> None:
    """Faults 3 and 4: whatever byte the file ends at, every complete line is kept."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        whole = fill(out, 4)
        at = data.draw(st.integers(0, len(whole)))
        (out / "records.jsonl").write_bytes(whole[:at])
        slots, _ = reopen(out)
        ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
        kept = sum(end - 1 <= at for end in ends)
        assert slots == {f"n{i}.md" for i in range(kept)}
        assert (out / "records.jsonl").read_bytes() == whole[: ([0, *ends])[kept]]


# -- the lock -----------------------------------------------------------------------------------


def test_second_opener_leaves_at_once(tmp_path: Path) -> None:
    """Fault 16: another run holds the folder."""
    with Ledger(tmp_path), pytest.raises(RunAgainError) as caught:
        reopen(tmp_path)
    assert caught.value.exit_code == 75
    reopen(tmp_path)


def test_failed_opening_lets_go_of_the_lock(tmp_path: Path) -> None:
    """Faults 15 and 16: an opening that was refused does not hold the folder."""
    whole = fill(tmp_path, 1)
    (tmp_path / "records.jsonl").write_bytes(whole.replace(b"record/1", b"record/9"))
    with pytest.raises(ConfigError):
        reopen(tmp_path)
    (tmp_path / "records.jsonl").write_bytes(whole)
    assert reopen(tmp_path)[0] == {"n0.md"}


def test_leftover_lock_file_is_ignored(tmp_path: Path) -> None:
    """Fault 18: a lock file that nobody holds is no lock, and stays for good."""
    (tmp_path / ".lock").write_text("4711\n")
    reopen(tmp_path)
    assert (tmp_path / ".lock").exists()


def test_lock_file_replaced_while_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 19: locking a file that is no longer the lock file is no lock."""
    real = fcntl.flock

    def replaced(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").touch()

    monkeypatch.setattr(locking.fcntl, "flock", replaced)
    with pytest.raises(RunAgainError):
        reopen(tmp_path)


def test_lock_file_removed_while_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 19: nor is locking a file that went away."""
    real = fcntl.flock

    def removed(descriptor: int, operation: int) -> None:
        real(descriptor, operation)
        (tmp_path / ".lock").unlink()

    monkeypatch.setattr(locking.fcntl, "flock", removed)
    with pytest.raises(RunAgainError):
        reopen(tmp_path)


def test_lock_file_removed_under_its_holder(tmp_path: Path) -> None:
    """Fault 19: with the lock file gone there are still no two writers."""
    with Ledger(tmp_path) as first:
        (tmp_path / ".lock").unlink()

        def both_write() -> None:
            with Ledger(tmp_path) as second:
                second.commit(make(1))
                first.commit(make(2))

        with pytest.raises(RunAgainError):
            both_write()


def test_filesystem_that_cannot_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 21: without locks there is no promise, so the folder is refused."""

    def cannot(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking.fcntl, "flock", cannot)
    with pytest.raises(ConfigError):
        reopen(tmp_path)


_ORPHAN = """
import os, sys, time
from pathlib import Path
from medgemma_cli.ledger import Ledger
Ledger(Path(sys.argv[1])).__enter__()
child = os.fork()
if child == 0:
    os.close(1)
    os.close(2)
    time.sleep(30)
    os._exit(0)
print(child, flush=True)
os._exit(0)
"""


def test_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Fault 20: a child that outlives its parent blocks nobody."""
    command = [sys.executable, "-c", _ORPHAN, str(tmp_path)]
    child = int(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=30).stdout)
    try:
        os.kill(child, 0)
        reopen(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)


# -- the disk -----------------------------------------------------------------------------------


def half_then(error: OSError) -> Callable[[int, memoryview], int]:
    """An `os.write` that writes one half of the first bytes and then fails."""
    real, calls = os.write, []

    def write(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise error
        return real(descriptor, bytes(data[: len(data) // 2]))

    return write


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Fault 12: no output folder, said with 73."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError) as caught:
        reopen(tmp_path / "file" / "out")
    assert caught.value.exit_code == 73


def test_records_path_is_a_folder(tmp_path: Path) -> None:
    """Fault 12: a folder where the ledger should be is the same, and leaves no lock behind."""
    (tmp_path / "records.jsonl").mkdir()
    for _ in range(2):
        with pytest.raises(OutputError):
            reopen(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_disk_full_restores_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Faults 8 and 10: after a write that failed halfway the file has its old bytes."""
    before = fill(tmp_path, 2)
    with Ledger(tmp_path) as open_ledger:
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", half_then(OSError(number, "no")))
            with pytest.raises(StorageError) as caught:
                open_ledger.commit(make(9))
        assert caught.value.exit_code == 74
        assert open_ledger.path.read_bytes() == before
        assert "n9.md" not in open_ledger.current
        open_ledger.commit(make(10))
    assert reopen(tmp_path) == ({"n0.md", "n1.md", "n10.md"}, [])


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.write` may write only a part: the rest follows."""
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda to, data: real(to, bytes(data[:7])))
    with Ledger(tmp_path) as open_ledger:
        open_ledger.commit(make(1))
        assert open_ledger.read(open_ledger.current["n1.md"]) == make(1)


_LIMITED = """
import resource, signal, sys
from medgemma_cli.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


def test_file_size_limit(cli: Callable[..., Any], notes: Path, tmp_path: Path) -> None:
    """Fault 10: EFBIG ends the run with 74 and whole lines; without the limit it goes on."""
    args = ("run", notes, "-o", "out", "--engine", "echo")
    limited = cli(4000, *args, python=("-c", _LIMITED))
    assert limited.returncode == 74, limited.stderr
    lines = (tmp_path / "out" / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert 1 <= len(lines) < 4
    assert all(line.endswith(b"\n") and json.loads(line) for line in lines)
    assert cli(*args).returncode == 0
    assert len((tmp_path / "out" / "records.jsonl").read_bytes().splitlines()) == 4


def test_failed_fsync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 11: the kernel may have dropped the pages, so a second fsync would lie."""
    calls = []

    def fails(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with Ledger(tmp_path) as open_ledger:
        monkeypatch.setattr(appending.os, "fsync", fails)
        with pytest.raises(StorageError) as caught:
            open_ledger.commit(make(1))
    assert caught.value.exit_code == 74
    assert len(calls) == 1


def test_every_commit_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is durable when `commit` returns, unless `fsync` is off."""
    calls: list[int] = []
    monkeypatch.setattr(appending.os, "fsync", calls.append)
    with Ledger(tmp_path / "always") as open_ledger:
        open_ledger.commit(make(1))
    assert len(calls) >= 1
    calls.clear()
    with Ledger(tmp_path / "never", fsync=False) as open_ledger:
        open_ledger.commit(make(1))
    assert calls == []


# -- the other ways in --------------------------------------------------------------------------


def test_start_over(tmp_path: Path) -> None:
    """The old ledger lies whole in the quarantine, the new one is empty and takes records."""
    whole = fill(tmp_path, 2)
    with Ledger(tmp_path) as open_ledger:
        folder = open_ledger.start_over()
        assert (tmp_path / folder / "records.jsonl").read_bytes() == whole
        assert open_ledger.current == {} and open_ledger.by_key == {}
        open_ledger.commit(make(5))
        assert open_ledger.read(open_ledger.current["n5.md"]) == make(5)
    assert reopen(tmp_path) == ({"n5.md"}, [])


def test_read_only_writes_nothing(tmp_path: Path) -> None:
    """Looking makes no folder, no lock and no repair."""
    with Ledger(tmp_path / "none", read_only=True) as open_ledger:
        assert open_ledger.current == {}
    assert not (tmp_path / "none").exists()
    whole = fill(tmp_path / "out", 2)
    (tmp_path / "out" / ".lock").unlink()
    (tmp_path / "out" / "records.jsonl").write_bytes(b"junk\n" + whole[:-5])
    with Ledger(tmp_path / "out", read_only=True) as open_ledger:
        assert set(open_ledger.current) == {"n0.md"}
        assert open_ledger.read(open_ledger.current["n0.md"]) == make(0)
    assert os.listdir(tmp_path / "out") == ["records.jsonl"]
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == b"junk\n" + whole[:-5]


def test_read_only_beside_a_writer(tmp_path: Path) -> None:
    """`status` and `--dry-run` may look while a run holds the folder."""
    with Ledger(tmp_path) as writer:
        writer.commit(make(1))
        with Ledger(tmp_path, read_only=True) as reader:
            assert set(reader.current) == {"n1.md"}


def test_current_lines(tmp_path: Path) -> None:
    """One line a slot, in the order of the file, damaged and torn ones passed over."""
    whole = fill(tmp_path, 3)
    again = make(0, status="flagged").model_dump_json(by_alias=True).encode() + b"\n"
    (tmp_path / "records.jsonl").write_bytes(whole + b"junk\n" + again + b'{"torn')
    found = [(line["source"], line["status"]) for line in current_lines(tmp_path)]
    assert found == [("n1.md", "ok"), ("n2.md", "ok"), ("n0.md", "flagged")]
    flagged = current_lines(tmp_path, lambda line: line["status"] == "flagged")
    assert [line["source"] for line in flagged] == ["n0.md"]


def test_current_lines_without_a_ledger(tmp_path: Path) -> None:
    """A folder that no run wrote is said to be none."""
    with pytest.raises(ConfigError):
        list(current_lines(tmp_path))
