"""Loading bytes: limits before reading, files that change, go away or are no files."""

import hashlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import Blob, ReadLimits, decode, load, media_type, reader_version
from medgemma_cli.records import Source

Read = Callable[[int, int], bytes]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Whatever would block on a FIFO is interrupted and fails."""

    def stop(*_: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A small note on disk."""
    path = tmp_path / "note.md"
    path.write_bytes(b"BP 120/80")
    return path


def source(path: Path, error: str | None = None) -> Source:
    """The source of a path."""
    return Source(place=str(path), relative=path.name, origin=str(path), error=error)


def code_of(path: Path, limits: ReadLimits | None = None) -> str:
    """The code with which loading this path ends."""
    with pytest.raises(DocumentError) as caught:
        load(source(path), limits or ReadLimits())
    return caught.value.code


def blob(data: bytes) -> Blob:
    """A blob of these bytes."""
    return Blob(data, hashlib.sha256(data).hexdigest())


def test_the_hash_is_of_the_bytes_read(note: Path) -> None:
    """The blob carries the SHA-256 of exactly its bytes."""
    assert load(source(note), ReadLimits()) == blob(b"BP 120/80")


def test_two_paths_with_the_same_bytes_have_the_same_blob(note: Path, tmp_path: Path) -> None:
    """The path is no part of what was read."""
    (tmp_path / "other.txt").write_bytes(note.read_bytes())
    assert load(source(note), ReadLimits()) == load(source(tmp_path / "other.txt"), ReadLimits())


def test_an_error_of_discovery_is_raised_without_reading(tmp_path: Path) -> None:
    """Fault 33: what discovery refused is not opened."""
    with pytest.raises(DocumentError) as caught:
        load(source(tmp_path / "no.md", "path_escape"), ReadLimits())
    assert caught.value.code == "path_escape"


def test_a_file_that_is_gone_has_vanished(tmp_path: Path) -> None:
    """Fault 27: failed, with the code vanished."""
    assert code_of(tmp_path / "gone.md") == "vanished"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
def test_a_file_without_permission_is_unreadable(note: Path) -> None:
    """A file that may not be opened is failed: unreadable."""
    note.chmod(0)
    assert code_of(note) == "unreadable"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(5, "Input/output error"), "read_error"),
        (PermissionError(13, "Permission denied"), "unreadable"),
        (FileNotFoundError(2, "No such file"), "vanished"),
    ],
)
def test_what_the_system_says_while_reading_becomes_a_code(
    note: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, code: str
) -> None:
    """Fault 27: an error in the middle of reading ends one document, with a code."""

    def fail(descriptor: int, size: int) -> bytes:
        raise error

    monkeypatch.setattr(readers.os, "read", fail)
    assert code_of(note) == code


def changing(path: Path, real: Read, times: int) -> tuple[Read, list[int]]:
    """An `os.read` that lets the file grow under the reader, for so many first calls."""
    calls: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if data:
            calls.append(size)
            if len(calls) <= times:
                with path.open("ab") as file:
                    file.write(b"!")
        return data

    return read, calls


def test_a_file_that_keeps_changing_is_unstable(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28: read three times, each time changed: failed, with the code unstable."""
    opened: list[str] = []
    real_open = os.open

    def count(path: str, *rest: int) -> int:
        opened.append(path)
        return real_open(path, *rest)

    def grow(descriptor: int, size: int) -> bytes:
        with note.open("ab") as file:
            file.write(b"!")
        return b""

    monkeypatch.setattr(readers.os, "open", count)
    monkeypatch.setattr(readers.os, "read", grow)
    assert code_of(note) == "unstable"
    assert len(opened) == 3


def test_a_file_that_changes_once_is_read_again(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28: after one change the second reading stands, whole."""
    read, _ = changing(note, os.read, times=1)
    monkeypatch.setattr(readers.os, "read", read)
    loaded = load(source(note), ReadLimits())
    assert loaded.data == note.read_bytes()
    assert loaded.data.startswith(b"BP 120/80!")


def test_a_rewrite_of_the_same_length_is_noticed(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28: the time of change counts, not the size alone."""
    real = os.read
    done: list[bool] = []

    def rewrite(descriptor: int, size: int) -> bytes:
        data = real(descriptor, size)
        if data and not done:
            done.append(True)
            note.write_bytes(b"BP 999/99")
            os.utime(note, ns=(1, 1))
        return data

    monkeypatch.setattr(readers.os, "read", rewrite)
    assert load(source(note), ReadLimits()).data == b"BP 999/99"


def test_a_file_cut_while_it_is_read_is_not_taken_for_whole(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28: a reading that is shorter than the file was is done again."""
    real = os.read
    done: list[bool] = []

    def cut(descriptor: int, size: int) -> bytes:
        if not done:
            done.append(True)
            os.truncate(note, 2)
        return real(descriptor, size)

    monkeypatch.setattr(readers.os, "read", cut)
    assert load(source(note), ReadLimits()).data == b"BP"


def test_short_reads_are_put_together(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One `os.read` may give less than was asked for."""
    real = os.read
    monkeypatch.setattr(readers.os, "read", lambda fd, size: real(fd, min(size, 2)))
    assert load(source(note), ReadLimits()).data == b"BP 120/80"


def test_a_large_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 49: 100 MB over the limit is too_large, and not one byte is read."""
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(100_000_000)

    def fail(descriptor: int, size: int) -> bytes:
        raise AssertionError("the file was read")

    monkeypatch.setattr(readers.os, "read", fail)
    assert code_of(path) == "too_large"


@pytest.mark.parametrize(("limit", "fits"), [(8, False), (9, True), (10, True)])
def test_the_limit_is_exact(note: Path, limit: int, fits: bool) -> None:
    """Fault 49: a file of exactly the limit is read, one byte more is not."""
    limits = ReadLimits(max_bytes=limit)
    if fits:
        assert len(load(source(note), limits).data) == 9
    else:
        assert code_of(note, limits) == "too_large"


def test_a_file_that_grows_over_the_limit_is_refused(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 28 and 49: what grows past the limit while it is read is never taken in whole."""
    read, _ = changing(note, os.read, times=1)
    monkeypatch.setattr(readers.os, "read", read)
    assert code_of(note, ReadLimits(max_bytes=9)) == "too_large"


def test_a_fifo_named_outright_does_not_hang(tmp_path: Path) -> None:
    """Fault 32: a FIFO put in a file's place is refused at once."""
    os.mkfifo(tmp_path / "pipe.md")
    assert code_of(tmp_path / "pipe.md") == "unsupported"


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/"])
def test_devices_and_folders_are_unsupported(path: str) -> None:
    """Fault 32: no device is read, however endless."""
    assert code_of(Path(path)) == "unsupported"


def test_descriptors_are_closed_again(note: Path, tmp_path: Path) -> None:
    """Fault 32: neither a refusal nor a reading leaves a file open."""
    os.mkfifo(tmp_path / "pipe.md")
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    for _ in range(3):
        load(source(note), ReadLimits())
        code_of(tmp_path / "pipe.md")
        code_of(note, ReadLimits(max_bytes=1))
    after = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    assert len(after) == len(before)


def stdin(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads bytes, not decoded text."""
    stdin(b"caf\xe9", monkeypatch)
    assert load(source(Path("-")), ReadLimits()).data == b"caf\xe9"


def test_standard_input_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 49: standard input over the limit is too_large."""
    stdin(b"0123456789", monkeypatch)
    assert code_of(Path("-"), ReadLimits(max_bytes=9)) == "too_large"


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.png", "a.tiff"])
def test_no_bytes_are_empty(tmp_path: Path, name: str) -> None:
    """Fault 43: 0 bytes of any kind are rejected: empty."""
    with pytest.raises(DocumentError) as caught:
        decode(source(tmp_path / name), blob(b""), ReadLimits())
    assert caught.value.code == "empty"
    assert caught.value.fault.status == "rejected"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.md", "text/markdown"),
        ("A.MARKDOWN", "text/markdown"),
        ("a.txt", "text/plain"),
        ("a.JPG", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.tif", "image/tiff"),
        ("a.webp", "image/webp"),
        ("-", "text/plain"),
    ],
)
def test_the_media_type_is_of_the_suffix(name: str, kind: str) -> None:
    """The kind goes by the name, in any case; standard input is plain text."""
    assert media_type(source(Path(name))) == kind


def test_text_and_images_have_readers_of_their_own_version() -> None:
    """The reader's version, part of the key, differs between text and images."""
    assert reader_version("text/plain") != reader_version("image/png")


def test_a_document_says_what_it_was_made_of(note: Path) -> None:
    """Hash, size, kind, text and coverage are those of the bytes."""
    document = decode(source(note), blob(b"BP\r\n120"), ReadLimits())
    assert document.sha256 == hashlib.sha256(b"BP\r\n120").hexdigest()
    assert (document.bytes, document.media_type) == (7, "text/markdown")
    assert document.text == "BP\r\n120"
    assert document.coverage == {"characters": (7, 7)}


def test_text_named_as_an_image_and_an_image_named_as_text(tmp_path: Path) -> None:
    """Faults 45 and 66: the content must be of the kind that the name says."""
    with pytest.raises(DocumentError, match="format"):
        decode(source(tmp_path / "a.png"), blob(b"just words"), ReadLimits())
    with pytest.raises(DocumentError, match="not_text"):
        decode(source(tmp_path / "a.md"), blob(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), ReadLimits())
