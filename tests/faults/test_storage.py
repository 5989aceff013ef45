"""Kills, full disks and damaged ledgers: the folder is whole, and the next run finishes it."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import ECHO, Run, assert_whole, contents, lines

MOUNT = 'mount -t tmpfs -o "size=$SIZE" tmpfs "$DISK"\n'


@pytest.fixture
def mounted(tmp_path: Path, clean_env: dict[str, str]) -> Callable[..., str]:
    """Run a shell script beside a small disk of its own at `DISK`; `$@` is the command.

    The disk goes with the script, so that what is to be looked at must be copied out.
    """
    probe = ["unshare", "-rm", "sh", "-ec", MOUNT]
    env = {**clean_env, "SIZE": "64k", "DISK": str(tmp_path)}
    allowed = shutil.which("unshare") is not None and (
        subprocess.run(probe, env=env, capture_output=True, timeout=60, check=False).returncode == 0
    )
    if not allowed:
        pytest.skip("mounting a small disk is not allowed here")

    def script(text: str, disk: Path, size: str) -> str:
        disk.mkdir(parents=True)
        start = ["unshare", "-rm", "sh", "-ec", MOUNT + text, "sh"]
        done = subprocess.run(
            [*start, sys.executable, "-m", "medgemma_cli"],
            cwd=tmp_path,
            env={**clean_env, "SIZE": size, "DISK": str(disk)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return script


def codes(text: str) -> list[int]:
    """The exit codes that a script printed."""
    return [int(word) for word in text.split()]


# -- killed while repairing ----------------------------------------------------------------------

# Runs the command and kills itself before the so-manieth change of a file.
_KILLED = """
import os, signal, sys
left = int(sys.argv.pop(1))

def counted(name):
    real = getattr(os, name)
    def patched(*args, **settings):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **settings)
    setattr(os, name, patched)

for name in ("write", "fsync", "ftruncate", "truncate", "replace", "rename", "unlink", "mkdir"):
    counted(name)

from medgemma_cli.cli import main
main()
"""


def test_killed_while_repairing(
    run: Run, cli: Callable[..., Any], notes: Path, tmp_path: Path
) -> None:
    """Fault 7: whatever step a repair was killed at, the next one comes to the same."""
    run(notes)
    path = tmp_path / "out" / "records.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    torn = whole[3][:-100]
    path.write_bytes(whole[0] + b"junk\n" + whole[1] + whole[2] + torn)
    shutil.copytree(tmp_path / "out", tmp_path / "damaged")
    ends = set()
    for step in range(1, 10):
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "damaged", tmp_path / "out")
        killed = cli(step, "run", notes, "-o", "out", *ECHO, python=("-c", _KILLED))
        ends.add(killed.returncode)
        done = cli("run", notes, "-o", "out", *ECHO)
        assert done.returncode == 0, done.stderr
        raw = path.read_bytes().splitlines(keepends=True)
        assert raw[:4] == [whole[0], b"junk\n", whole[1], whole[2]]
        assert [json.loads(line)["key"] for line in raw[4:]] == [json.loads(whole[3])["key"]]
        kept = contents(tmp_path / "out" / "quarantine").values()
        assert torn in kept and b"junk\n" in kept
        path.write_bytes(b"".join(line for line in raw if line != b"junk\n"))
        assert_whole(tmp_path / "out", 4)
    assert -signal.SIGKILL in ends


# -- full disks ----------------------------------------------------------------------------------

_FULL = """
run() { "$@" run ../notes -o out --engine echo 2>> ../log; }
cd "$DISK"
"$@" run ../notes/a.md -o out --engine echo 2>> ../log
cp -r out ../before
dd if=/dev/zero of=ballast bs=1k 2> /dev/null || true
truncate -s "-${LEFT}k" ballast
run "$@" && echo 0 || echo $?
cp -r out ../full
rm ballast
run "$@" && echo 0 || echo $?
cp -r out ../after
"""


@pytest.mark.parametrize("left", [0, 4, 8])
def test_disk_full_on_append(
    mounted: Callable[..., str], notes: Path, tmp_path: Path, left: int
) -> None:
    """Fault 8: with no room for a line the run ends with 74 and whole lines; room, and it goes on.

    The room left is in kilobytes: each is used up at another step.
    """
    text = _FULL.replace("${LEFT}", str(left))
    assert codes(mounted(text, tmp_path / "disk", "1m")) == [74, 0]
    before, full = lines(tmp_path / "before"), lines(tmp_path / "full")
    assert full[: len(before)] == before
    raw = (tmp_path / "full" / "records.jsonl").read_bytes()
    assert raw.endswith(b"\n") and raw.count(b"\n") == len(full)
    assert not list((tmp_path / "full").rglob("*.tmp"))
    after = lines(tmp_path / "after")
    assert after[: len(full)] == full and len(after) == 4
    assert_whole(tmp_path / "after", 4)


_FULL_FOLDER = """
dd if=/dev/zero of="$DISK/.ballast" bs=1k 2> /dev/null || true
"$@" run notes -o out --engine echo 2>> log && echo 0 || echo $?
cp -r out full
rm "$DISK/.ballast" full/ward/.ballast
"$@" run notes -o out --engine echo 2> again && echo 0 || echo $?
cp -r out after
"""


def test_disk_full_on_summary(mounted: Callable[..., str], notes: Path, tmp_path: Path) -> None:
    """Fault 9: no room for a summary is 74; its record stands, and makes it when there is room."""
    assert codes(mounted(_FULL_FOLDER, tmp_path / "out" / "ward", "16k")) == [74, 0]
    full = lines(tmp_path / "full")
    assert [line["source"] for line in full] == ["a.md", "b.txt", "c.md", "ward/d.md"]
    assert list((tmp_path / "full" / "ward").iterdir()) == []
    told = (tmp_path / "again").read_text()
    # Of a group in which one found no room none was put in place.
    assert re.search(r"[1-4] summaries rebuilt", told) and "generated" not in told
    assert lines(tmp_path / "after") == full
    assert_whole(tmp_path / "after", 4)


_LIMITED = """
import resource, sys
from medgemma_cli.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
main()
"""


@pytest.mark.parametrize("size", [1000, 4000, 9000])
def test_file_too_big(
    cli: Callable[..., Any], run: Run, notes: Path, tmp_path: Path, size: int
) -> None:
    """Fault 10: EFBIG is 74 with whole lines; without the limit the rest is done."""
    limited = cli(size, "run", notes, "-o", "out", *ECHO, python=("-c", _LIMITED))
    assert limited.returncode == 74, limited.stderr
    before = lines(tmp_path / "out")
    assert len(before) < 4
    done = run(notes)
    assert done.code == 0 and done.lines[: len(before)] == before
    assert len(done.lines) == 4
    assert_whole(tmp_path / "out", 4)


_NO_QUOTA = """
import errno, os
real = os.write
calls = 0

def write(descriptor, data):
    global calls
    if b'"schema":"medgemma.record/1"' in bytes(data):
        calls += 1
        if calls == 2:
            real(descriptor, bytes(data[:100]))
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
    elif calls == 2:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    return real(descriptor, data)

os.write = write
from medgemma_cli.cli import main
main()
"""


def test_no_quota_left(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 10: EDQUOT in the middle of a line is 74; the half line is cut off again."""
    done = run(notes, python=("-c", _NO_QUOTA))
    assert done.code == 74 and len(done.lines) == 1
    again = run(notes)
    assert again.code == 0 and again.lines[:1] == done.lines
    assert not (tmp_path / "out" / "quarantine").exists()
    assert_whole(tmp_path / "out", 4)


_NO_FSYNC = """
import errno, os, sys
real = os.fsync
tried = 0

def fsync(descriptor):
    global tried
    try:
        wanted, given = os.stat("out/records.jsonl"), os.fstat(descriptor)
        records = wanted.st_size > 0 and wanted.st_ino == given.st_ino
    except FileNotFoundError:
        records = False
    if records:
        tried += 1
        with open("tried", "w") as file:
            file.write(str(tried))
        raise OSError(errno.EIO, "Input/output error")
    real(descriptor)

os.fsync = os.fdatasync = fsync
from medgemma_cli.cli import main
main()
"""


def test_fsync_fails(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 11: an fsync of the ledger that fails is 74; it is not tried again."""
    done = run(notes, python=("-c", _NO_FSYNC))
    assert done.code == 74 and (tmp_path / "tried").read_text() == "1"
    assert "4 documents: 4 ok" in run(notes).stderr
    assert_whole(tmp_path / "out", 4)


_READ_ONLY = """
mount -o remount,ro "$DISK"
"$@" run notes -o "$DISK/out" --model model --device cpu 2> log && echo 0 || echo $?
"""


def test_read_only_output(mounted: Callable[..., str], notes: Path, tmp_path: Path) -> None:
    """Fault 12: a folder that cannot be written is 73, before the model is loaded."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "gemma3_text"}')
    (model / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    assert codes(mounted(_READ_ONLY, tmp_path / "disk", "64k")) == [73]
    told = (tmp_path / "log").read_text()
    assert "cannot be written" in told and "loading" not in told


# -- damaged and missing ledgers -----------------------------------------------------------------


def test_damaged_line(run: Run, cli: Callable[..., Any], notes: Path, tmp_path: Path) -> None:
    """Fault 13: a bad line in the middle goes to the quarantine, its document is done again: 0."""
    run(notes)
    path = tmp_path / "out" / "records.jsonl"
    raw = path.read_bytes().splitlines(keepends=True)
    bad = b"#" + raw[1][1:]
    path.write_bytes(raw[0] + bad + raw[2] + raw[3])
    done = cli("run", notes, "-o", "out", *ECHO)
    assert done.returncode == 0
    assert "warning" in done.stderr and "1 generated, 3 unchanged" in done.stderr
    assert list(contents(tmp_path / "out" / "quarantine").values()) == [bad]
    after = path.read_bytes().splitlines(keepends=True)
    assert after[:4] == [raw[0], bad, raw[2], raw[3]]
    assert [json.loads(line)["source"] for line in after[4:]] == ["b.txt"]


def test_ledger_gone(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 14: summaries without their ledger are 78; `--fresh` moves them and starts again."""
    run(notes)
    (tmp_path / "out" / "records.jsonl").unlink()
    before = contents(tmp_path / "out")
    assert run(notes).code == 78
    left = contents(tmp_path / "out")
    assert {name: left[name] for name in before} == before
    fresh = run(notes, "--fresh")
    assert fresh.code == 0 and "4 generated" in fresh.stderr
    pages = sorted(data for name, data in before.items() if name.endswith(".md"))
    moved = contents(tmp_path / "out" / "quarantine")
    assert sorted(data for name, data in moved.items() if name.endswith(".md")) == pages
    assert len(pages) == 4
    assert_whole(tmp_path / "out", 4)
