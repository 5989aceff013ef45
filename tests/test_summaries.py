"""Summary files: their names, their text, and how they are put in place and kept apart."""

import errno
import hashlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli import files, summaries
from medgemma_cli.errors import DocumentError, StorageError
from medgemma_cli.records import Flag, ModelInfo, Record, TemplateInfo
from medgemma_cli.summaries import output_name, render, state

KEY = "ab" * 32
CREATED = "2026-01-02T03:04:05.000006+00:00"
FLAG = Flag(rule="truncated", severity="review", where="output", why="The answer stops early.")


@pytest.fixture(autouse=True)
def _plain_umask() -> Iterator[None]:
    """The usual umask of a login, whatever this process has."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An existing output folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def record(**changes: Any) -> Record:
    """A record, ok unless changed."""
    plain: dict[str, Any] = {
        "key": KEY,
        "source": "ward/a.txt",
        "origin": "/in/ward/a.txt",
        "summary": "ward/a.txt.md",
        "sha256": "cd" * 32,
        "template": TemplateInfo(name="summarize", hash="ef" * 32),
        "model": ModelInfo(id="google/medgemma", revision="1a2b", precision="bf16", engine="local"),
        "status": "ok",
        "output": {
            "summary": "Stable.",
            "key_findings": [{"statement": "No fever", "quote": "afebrile"}],
            "recommendations": [],
        },
        "coverage": {"characters": (9, 10)},
        "created": CREATED,
        "notice": "Check against the source.",
    }
    return Record(**(plain | changes))


def write(out: Path, name: str, **changes: Any) -> Path:
    """Render a record and write its summary."""
    summaries.write(out, [(name, render(record(**changes)))], fsync=False)
    return out / name


def refused(out: Path, name: str, *, known: bool) -> bool:
    """Whether a path is refused with output_exists."""
    try:
        summaries.check_free(out, name, lambda key: known)
    except DocumentError as error:
        return error.code == "output_exists"
    return False


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relative", "name"),
    [
        ("a.md", "a.md"),
        ("a.txt", "a.txt.md"),
        ("a.MD", "a.MD.md"),
        ("a.markdown", "a.markdown.md"),
        ("ward/sub/a.png", "ward/sub/a.png.md"),
        ("-", "stdin.md"),
        ("a", "a.md"),
        ("x.md/a.txt", "x.md/a.txt.md"),
        ("a\nb\x1b.txt", "a\nb\x1b.txt.md"),
    ],
)
def test_a_name_follows_its_document(relative: str, name: str) -> None:
    """`x.md` stays, any other kind gets `.md` behind its own suffix, folders are kept."""
    assert output_name(relative) == name


def test_names_that_look_alike_are_distinct() -> None:
    """Faults 37, 38 and 39: separators, suffixes, case and normal form all tell files apart."""
    relatives = ["a/b.md", "a__b.md", "a/b.txt", "a_b.md", "A/b.md", "a/é.md", "a/e\u0301.md"]
    assert len({output_name(relative) for relative in relatives}) == len(relatives)


def test_a_salt_tells_the_same_name_apart() -> None:
    """Faults 39 and 99: `b.txt` and `b.txt.md` meet; a salt gives the second a name of its own."""
    assert output_name("b.txt") == output_name("b.txt.md")
    salted = [
        output_name("b.txt"),
        output_name("b.txt.md", salt="/in/b.txt.md"),
        output_name("b.txt.md", salt="/other/b.txt.md"),
    ]
    assert len(set(salted)) == 3
    assert all(name.endswith(".md") for name in salted)
    assert output_name("b.txt.md", salt="/in/b.txt.md") == salted[1]


@pytest.mark.parametrize("size", [252, 253, 255])
def test_a_name_of_255_bytes_is_shortened_with_a_hash(size: int) -> None:
    """Fault 36: what would not fit with its `.md` is cut, ends in a hash, and can be made."""
    relative = "n" * (size - 4) + ".txt"
    name = output_name(relative)
    assert len(name.encode()) <= 255
    assert (name == f"{relative}.md") == (size <= 252)


def test_long_names_that_differ_at_their_end_stay_apart() -> None:
    """Fault 36: the hash is of the whole path."""
    long = "é" * 125
    names = {output_name(f"{long}{end}.txt") for end in ("1", "2")}
    names |= {output_name(f"other/{long}1.txt"), output_name(f"{long}1.txt", salt="/in")}
    assert len({name.rpartition("/")[2] for name in names}) == 4


COMPONENT = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255
).filter(lambda name: name not in {".", ".."})


@given(st.lists(COMPONENT, min_size=1, max_size=3), st.none() | st.text(max_size=20))
def test_the_last_component_fits_a_file_system(parts: list[str], salt: str | None) -> None:
    """Fault 36: at most 255 bytes, in the same folder if that fits, with `.md` at its end."""
    *folders, last = output_name("/".join(parts), salt=salt).split("/")
    assert len(last.encode()) <= 255
    assert last.endswith(".md")
    for folder, part in zip(folders, parts[:-1], strict=True):
        assert len(folder.encode()) <= 255
        assert folder == part or len(part.encode()) > 255


def test_a_folder_that_is_not_utf_8_still_gives_a_path_that_can_be_made(out: Path) -> None:
    r"""Faults 35 and 36: 100 bytes shown as ``\xff`` are 400; a folder's name is shortened, too."""
    name = output_name("\\xff" * 100 + "/a.txt")
    assert write(out, name).is_file()


def test_a_folder_called_quarantine_keeps_its_summaries(out: Path) -> None:
    """Fault 5: what was written is found by the next scan, whatever the input folder is called."""
    name = output_name("quarantine/a.txt")
    write(out, name)
    assert list(summaries.sweep(out)) == [name]


# -- the text ----------------------------------------------------------------------------------


def test_rendering_is_the_same_every_time() -> None:
    """The file is a projection of the record: the same bytes again and again."""
    assert render(record()) == render(record())
    assert render(record()) != render(record(created="2027-01-02T03:04:05.000006+00:00"))


def test_the_provenance_block_carries_key_time_and_hash() -> None:
    """The last line identifies the record and seals what stands above."""
    text = render(record())
    body, _, block = text.rpartition("\n<!-- ")
    digest = hashlib.sha256(body.encode()).hexdigest()
    assert block == f"medgemma.summary/1 key={KEY} created={CREATED} sha256={digest} -->\n"


# -- state -------------------------------------------------------------------------------------


def test_a_summary_just_written_is_current(out: Path) -> None:
    """The file is that of the record with this key and time."""
    assert state(str(write(out, "a.md")), KEY, CREATED) == "current"


@pytest.mark.parametrize(("key", "created"), [("cd" * 32, CREATED), (KEY, "2027-01-01T00:00:00Z")])
def test_a_summary_of_another_record_is_stale(out: Path, key: str, created: str) -> None:
    """Another key, or another time of the same key, is an older projection."""
    assert state(str(write(out, "a.md")), key, created) == "stale"


@pytest.mark.parametrize("edit", ["word", "prefix", "suffix", "cut", "empty", "block"])
def test_a_summary_changed_by_hand_is_altered(out: Path, edit: str) -> None:
    """One byte more, less or other, above or below the block, is noticed."""
    path = write(out, "a.md")
    text = path.read_text()
    edits = {
        "word": text.replace("Stable", "Unwell"),
        "prefix": f" {text}",
        "suffix": f"{text}seen by JM\n",
        "cut": text[:-1],
        "empty": "",
        "block": text.replace("sha256=", "sha256=0"),
    }
    path.write_text(edits[edit])
    assert state(str(path), KEY, CREATED) == "altered"


def test_no_file_is_missing(out: Path) -> None:
    """Nothing at the path, or no folder either, is missing."""
    assert state(str(out / "a.md"), KEY, CREATED) == "missing"
    assert state(str(out / "x" / "a.md"), KEY, CREATED) == "missing"


def test_only_files_with_a_block_are_ours(out: Path) -> None:
    """An altered summary is still ours; a text that mentions the block is not."""
    path = write(out, "a.md")
    path.write_text(path.read_text().replace("Stable", "Unwell"))
    (out / "b.md").write_text(f"{path.read_text()}\nmore\n")
    (out / "c.md").write_text("# notes\n")
    ours = [
        summaries.key_of(out / name) is not None for name in ("a.md", "b.md", "c.md", "none.md")
    ]
    assert ours == [True, False, False, False]


def test_a_document_cannot_forge_a_block(out: Path) -> None:
    """Fault 98: an answer that holds a provenance block does not move the real one."""
    block = f"\n<!-- medgemma.summary/1 key={'0' * 64} created=x sha256={'0' * 64} -->\n"
    path = write(out, "a.md", output={"summary": f"text{block}", "list": [block]})
    assert state(str(path), KEY, CREATED) == "current"
    assert path.read_text().count("<!--") == 1


# -- which paths may be written ----------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_free_path_is_free(out: Path, known: bool) -> None:
    """Nothing stands there, also where folders are still to be made."""
    assert not refused(out, "new/sub/a.md", known=known)


@pytest.mark.parametrize("known", [True, False])
def test_a_foreign_file_is_refused_and_untouched(out: Path, known: bool) -> None:
    """Fault 98: a file that was not written here is output_exists, even where one of ours was."""
    (out / "a.md").write_text("my own notes")
    assert refused(out, "a.md", known=known)
    assert (out / "a.md").read_text() == "my own notes"


def test_our_own_file_may_be_replaced_only_when_the_ledger_knows_it(out: Path) -> None:
    """Fault 98: a summary of another output folder, copied here, is foreign to this ledger."""
    write(out, "a.md")
    assert not refused(out, "a.md", known=True)
    assert refused(out, "a.md", known=False)


def test_a_folder_or_fifo_at_the_path_is_refused(out: Path) -> None:
    """Fault 98: what is no file is not replaced, and not opened."""
    (out / "a.md").mkdir()
    os.mkfifo(out / "b.md")
    assert refused(out, "a.md", known=True)
    assert refused(out, "b.md", known=True)


def test_a_foreign_file_in_the_place_of_a_folder_is_refused(out: Path) -> None:
    """Fault 98: `OUT/ward` is a file: the documents of `ward/` fail, the run does not."""
    (out / "ward").write_text("my own notes")
    assert refused(out, "ward/a.md", known=False)
    assert (out / "ward").read_text() == "my own notes"


def test_a_symlink_planted_at_the_path_is_replaced(out: Path, tmp_path: Path) -> None:
    """Fault 40: the link goes, its target is neither read nor written."""
    target = tmp_path / "target.md"
    target.write_text("precious")
    (out / "a.md").symlink_to(target)
    assert not refused(out, "a.md", known=False)
    path = write(out, "a.md")
    assert not path.is_symlink()
    assert state(str(path), KEY, CREATED) == "current"
    assert target.read_text() == "precious"


def test_a_dangling_symlink_at_the_path_is_replaced(out: Path, tmp_path: Path) -> None:
    """Fault 40: nothing is made where a dangling link points."""
    (out / "a.md").symlink_to(tmp_path / "nowhere.md")
    assert not refused(out, "a.md", known=False)
    assert write(out, "a.md").is_file()
    assert not (tmp_path / "nowhere.md").exists()


@pytest.mark.parametrize("name", ["ward/a.md", "ward/new/a.md"])
def test_a_symlinked_folder_that_leads_out_is_refused(out: Path, tmp_path: Path, name: str) -> None:
    """Fault 40: OUT/ward → elsewhere: nothing is written elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (out / "ward").symlink_to(tmp_path / "elsewhere")
    assert refused(out, name, known=True)


def test_a_name_that_only_begins_like_out_is_outside(out: Path, tmp_path: Path) -> None:
    """Fault 40: `out-other` is not inside `out`."""
    (tmp_path / "out-other").mkdir()
    (out / "ward").symlink_to(tmp_path / "out-other")
    assert refused(out, "ward/a.md", known=True)


def test_out_itself_may_be_a_link(out: Path, tmp_path: Path) -> None:
    """Fault 40: an output folder given through a link is the user's own choice."""
    (tmp_path / "link").symlink_to(out)
    assert not refused(tmp_path / "link", "ward/a.md", known=False)


# -- writing -----------------------------------------------------------------------------------


def test_files_are_private_from_the_start(out: Path) -> None:
    """Fault 96: under umask 022, files are 0600 and new folders 0700."""
    path = write(out, "ward/sub/a.md")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_file_replaced_becomes_private(out: Path) -> None:
    """Fault 96: the mode of what stood there is not taken over."""
    path = write(out, "a.md")
    path.chmod(0o644)
    write(out, "a.md")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failed_write_leaves_the_old_file(
    out: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    """Fault 9: disk full at any step: exit 74, the old file stands, no temporary is left."""
    path = write(out, "a.md")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(StorageError) as caught:
        summaries.write(out, [("a.md", render(record(status="flagged", flags=(FLAG,))))])
    assert caught.value.exit_code == 74
    assert path.read_bytes() == before
    assert os.listdir(out) == ["a.md"]


def test_a_failed_first_write_leaves_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 9: no half-made summary is ever seen."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(StorageError):
        write(out, "ward/a.md")
    assert os.listdir(out / "ward") == []


def test_the_text_is_whole_before_it_has_its_name(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 6: at the rename the temporary file is complete, private, and beside its place."""
    real = os.replace
    seen: list[tuple[bytes, int, Path]] = []

    def watch(source: Path, target: Path) -> None:
        path = Path(source)
        seen.append((path.read_bytes(), stat.S_IMODE(path.stat().st_mode), path.parent))
        real(source, target)

    monkeypatch.setattr(files.os, "replace", watch)
    path = write(out, "ward/a.md")
    assert seen == [(path.read_bytes(), 0o600, path.parent)]


def test_short_writes_are_continued(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One `os.write` may take only a part."""
    real = os.write
    monkeypatch.setattr(files.os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    assert write(out, "a.md").read_text() == render(record())


def test_both_file_and_folder_are_synced(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 5: with fsync, the file is durable before its name, and the name after."""
    real, kinds = os.fsync, []

    def watch(descriptor: int) -> None:
        kinds.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", watch)
    summaries.write(out, [("a.md", "x")])
    assert kinds == [False, True]


# -- scanning and retiring ---------------------------------------------------------------------


def test_a_scan_names_markdown_and_sweeps_temporary_files(out: Path) -> None:
    """Fault 6: what a kill left is removed, at any depth; everything else stays."""
    write(out, "a.md")
    write(out, "ward/b.txt.md")
    litter = [out / ".medgemma-12ab.tmp", out / "ward" / ".medgemma-34cd.tmp"]
    keep = [out / "other.tmp", out / ".medgemma-notes", out / "records.jsonl"]
    for path in [*litter, *keep]:
        path.write_text("x")
    assert sorted(summaries.sweep(out)) == ["a.md", "ward/b.txt.md"]
    assert not any(path.exists() for path in litter)
    assert all(path.exists() for path in keep)
    assert sorted(summaries.sweep(out)) == ["a.md", "ward/b.txt.md"]


def test_a_scan_leaves_linked_folders_alone(out: Path, tmp_path: Path) -> None:
    """Fault 6: nothing is swept outside OUT; of the quarantine only what was not finished."""
    (tmp_path / "far").mkdir()
    (out / "link").symlink_to(tmp_path / "far")
    (out / "quarantine").mkdir()
    litter = [tmp_path / "far" / ".medgemma-1.tmp", out / "quarantine" / ".medgemma-2.tmp"]
    for path in litter:
        path.write_text("x")
        (path.parent / "a.md").write_text("x")
    assert list(summaries.sweep(out)) == []
    assert [path.exists() for path in litter] == [True, False]
    assert (out / "quarantine" / "a.md").exists()


def test_a_fifo_among_the_summaries_does_not_hang(out: Path) -> None:
    """Fault 32: a FIFO called `x.md` in OUT is met at every start and must not block it."""
    os.mkfifo(out / "x.md")

    def stop(*_: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        ours = [name for name in summaries.sweep(out) if summaries.key_of(out / name)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ours == []


def test_retiring_moves_our_summaries_and_no_others(out: Path) -> None:
    """Fault 14: with --fresh the old summaries go to the quarantine, a user's notes stay."""
    write(out, "a.md")
    write(out, "ward/b.md")
    (out / "mine.md").write_text("my own notes")
    moved = summaries.retire(out, ["a.md", "mine.md", "ward/b.md"], "quarantine/old")
    assert moved == ["a.md", "ward/b.md"]
    assert state(str(out / "quarantine" / "old" / "ward" / "b.md"), KEY, CREATED) == "current"
    assert (out / "mine.md").read_text() == "my own notes"
    assert sorted(path.name for path in out.glob("*.md")) == ["mine.md"]
    assert stat.S_IMODE((out / "quarantine").stat().st_mode) == 0o700
