"""Files that come and go, odd names and planted links: each document ends as it must."""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from outcomes import Run, contents, lines

TEXT = "Dry cough since Monday.\n"


def twins(folder: Path, *names: str) -> None:
    """Write a note under each name; skip where the disk takes two of them for one."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"Patient {number} slept well.\n")
    if len(contents(folder)) < len(names):
        pytest.skip("this disk takes the names for one")


def outputs(out: Path, count: int) -> None:
    """So many records, each with a summary of its own that says what its document says."""
    found = lines(out)
    assert len({line["summary"] for line in found}) == len(found) == count
    for line in found:
        page = (out / line["summary"]).read_text("utf-8")
        assert f"key={line['key']} " in page and line["output"]["summary"] in page
    assert len({line["output"]["summary"] for line in found}) == count


# -- files that change ---------------------------------------------------------------------------

# Runs in every Python below the test: each reading of the file finds it changed.
_RESTLESS = """
import os
real = os.read

def read(descriptor, count):
    data = real(descriptor, count)
    try:
        target = os.stat(os.environ["RESTLESS"])
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == (target.st_dev, target.st_ino):
            changed = target.st_mtime_ns + 1_000_000
            os.utime(os.environ["RESTLESS"], ns=(changed, changed))
            with open(os.environ["RESTLESS"] + ".times", "ab") as file:
                file.write(b"." if data else b"")
    except OSError:
        pass
    return data

os.read = read
"""


def test_changed_while_read(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 28: a file that never keeps still is read three times, then failed: unstable."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_RESTLESS)
    (folder / "a.md").write_text(TEXT)
    (folder / "b.md").write_text("No fever.\n")
    places = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {"PYTHONPATH": os.pathsep.join(places), "RESTLESS": str(folder / "a.md")}
    done = run(folder, env=env)
    assert (done.code, done.ended("a.md"), done.ended("b.md")) == (3, "failed/unstable", "ok")
    assert (folder / "a.md.times").read_bytes() == b"..."
    (folder / "a.md.times").unlink()
    again = run(folder)
    assert (again.code, again.ended("a.md")) == (0, "ok")


# -- links and what is no file -------------------------------------------------------------------


def test_link_to_a_file(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 29: a link in a folder is skipped and counted; named outright it is read."""
    (tmp_path / "elsewhere.md").write_text(TEXT)
    (notes / "link.md").symlink_to(tmp_path / "elsewhere.md")
    done = run(notes)
    assert done.code == 0 and "skipped 1: 1 symbolic link" in done.stderr
    assert "link.md" not in done.records and len(done.records) == 4
    named = run(notes / "link.md")
    assert (named.code, named.ended("link.md")) == (0, "ok")


def test_link_loop(run: Run, notes: Path) -> None:
    """Fault 30: folders linked into each other are walked once."""
    (notes / "ward" / "up").symlink_to(notes)
    (notes / "self").symlink_to("self")
    done = run(notes)
    assert done.code == 0 and "skipped 2: 2 symbolic link" in done.stderr
    assert len(done.lines) == 4


def test_linked_folder(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 31: what lies under a linked folder is skipped, unless the link is named."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.md").write_text(TEXT)
    (notes / "link").symlink_to(tmp_path / "elsewhere")
    done = run(notes)
    assert done.code == 0 and "skipped 1: 1 symbolic link" in done.stderr
    assert len(done.records) == 4
    named = run(notes / "link")
    assert (named.code, named.ended("far.md")) == (0, "ok")


def test_fifo_and_device(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 32: a FIFO in a folder is skipped; FIFO and device, named, are refused. None hangs."""
    os.mkfifo(notes / "pipe.md")
    done = run(notes)
    assert done.code == 0 and "skipped 1: 1 special file" in done.stderr
    assert len(done.records) == 4
    (tmp_path / "zero.md").symlink_to("/dev/zero")
    named = run(notes / "pipe.md", tmp_path / "zero.md")
    assert named.code == 3
    assert named.ended("pipe.md") == named.ended("zero.md") == "rejected/unsupported"


# -- names ---------------------------------------------------------------------------------------


def test_control_characters_in_a_name(
    run: Run, folder: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    """Fault 34: newline and ESC in a name are ok, and shown as escapes wherever it is shown."""
    (folder / "new\nline.md").write_text(TEXT)
    (folder / "esc\x1b[2J.md").write_bytes(b"")
    done = run(folder, "-v")
    assert done.code == 3
    assert (done.ended("new\nline.md"), done.ended("esc\x1b[2J.md")) == ("ok", "rejected/empty")
    failed = cli("status", "out", "--failed").stdout
    page = (tmp_path / "out" / done.records["new\nline.md"]["summary"]).read_text("utf-8")
    assert "ok: new\\x0aline.md\n" in done.stderr
    assert failed.startswith("esc\\x1b[2J.md\tempty\t") and failed.count("\n") == 1
    assert page.startswith("# new\\\\x0aline.md\n")
    assert "\x1b" not in done.stderr + failed + page


def test_name_that_is_not_utf_8(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 35: a Latin-1 name is ok; its byte is an escape in the record and the summary."""
    path = os.path.join(os.fsencode(folder), b"caf\xe9.md")
    try:
        with open(path, "wb") as file:
            file.write(TEXT.encode())
    except OSError:
        pytest.skip("this disk takes no such name")
    done = run(folder, "-v")
    assert (done.code, done.ended("caf\\xe9.md")) == (0, "ok")
    outputs(tmp_path / "out", 1)


def test_longest_name(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 36: a name of 255 bytes is ok; its summary's is shortened and ends in a hash."""
    name = "x" * 251 + ".txt"
    (folder / name).write_text(TEXT)
    done = run(folder)
    assert (done.code, done.ended(name)) == (0, "ok")
    summary = done.records[name]["summary"]
    assert re.fullmatch(r"x+~[0-9a-f]{12}\.md", summary) and len(summary) == 255
    outputs(tmp_path / "out", 1)


def test_twins_in_normal_form(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 37: a composed and a decomposed name are two documents with two outputs."""
    twins(folder, *(unicodedata.normalize(form, "é.md") for form in ("NFC", "NFD")))
    assert run(folder).code == 0
    outputs(tmp_path / "out", 2)


def test_twins_in_case(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 38: upper and lower case are two documents with two outputs."""
    twins(folder, "Note.md", "note.md")
    assert run(folder).code == 0
    outputs(tmp_path / "out", 2)


def test_names_that_might_meet(run: Run, folder: Path, tmp_path: Path) -> None:
    """Fault 39: separators and suffixes keep outputs apart, also where one is another's name."""
    twins(folder, "a/b.md", "a__b.md", "a/b.txt", "a/b.txt.md")
    assert run(folder).code == 0
    outputs(tmp_path / "out", 4)
    again = run(folder)
    assert again.code == 0 and "nothing to do; 4 documents" in again.stderr


# -- what stands at an output path ---------------------------------------------------------------


def test_link_at_an_output_path(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 40: a planted link is replaced by the summary; its target is not touched."""
    (tmp_path / "out").mkdir()
    (tmp_path / "target").write_text("mine\n")
    (tmp_path / "out" / "a.md").symlink_to(tmp_path / "target")
    done = run(notes)
    assert (done.code, done.ended("a.md")) == (0, "ok")
    assert (tmp_path / "target").read_text() == "mine\n"
    assert not (tmp_path / "out" / "a.md").is_symlink()
    outputs(tmp_path / "out", 4)


def test_output_inside_the_input(cli: Callable[..., Any], notes: Path) -> None:
    """Fault 41: summaries of the last run are no documents of this one."""
    for told in ("4 generated", "nothing to do; 4 documents"):
        done = cli("run", notes, "-o", notes / "out", "--engine", "echo")
        assert done.returncode == 0 and told in done.stderr
    outputs(notes / "out", 4)


def test_foreign_file(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 98: a file that was not written here stays; its document is failed: output_exists."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.md").write_text("mine\n")
    for again in ((), (), ("--retry-failed",), ("--force",)):
        done = run(notes, *again)
        assert (done.code, done.ended("a.md")) == (3, "failed/output_exists")
        assert (tmp_path / "out" / "a.md").read_text() == "mine\n"
    (tmp_path / "out" / "a.md").unlink()
    done = run(notes, "--retry-failed", "--max-attempts", "9")
    assert (done.code, done.ended("a.md")) == (0, "ok")


def test_two_roots(run: Run, tmp_path: Path) -> None:
    """Fault 99: the same name under two folders is two outputs, in whatever order they come."""
    twins(tmp_path, "one/a.md", "two/a.md")
    assert run("one", "two").code == 0
    outputs(tmp_path / "out", 2)
    for paths in (("two", "one"), ("two",), ("one",)):
        again = run(*paths)
        assert again.code == 0 and "nothing to do" in again.stderr
    outputs(tmp_path / "out", 2)


def test_settings_there_and_back(run: Run, notes: Path, tmp_path: Path) -> None:
    """Fault 100: settings A, B, then A: A's records and summaries are back without inference."""
    run(notes)
    first = {name: line["output"] for name, line in run(notes).records.items()}
    assert "4 generated" in run(notes, "-t", "general").stderr
    back = run(notes)
    assert back.code == 0
    assert "4 reused" in back.stderr and "generated" not in back.stderr
    assert {name: line["output"] for name, line in back.records.items()} == first
    for line in back.records.values():
        assert line["reused"]
        assert f"key={line['key']} " in (tmp_path / "out" / line["summary"]).read_text("utf-8")
