"""Files are replaced whole or not at all, together or not, wherever they lie."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli import files
from medgemma_cli.files import replace_file, replace_files


def temporary(folder: Path) -> list[Path]:
    """What is left of writing."""
    return list(folder.rglob(f"{files.TEMPORARY}*"))


def test_several_at_once(tmp_path: Path) -> None:
    """Each in its place, with folders made on the way; readable by their owner alone."""
    pairs = [(tmp_path / "a.md", b"a"), (str(tmp_path / "ward" / "x" / "b.md"), b"b" * 100_000)]
    for fsync in (True, False):
        replace_files(pairs, fsync=fsync)
        for path, data in pairs:
            assert Path(path).read_bytes() == data
            assert os.stat(path).st_mode & 0o777 == 0o600
    assert (tmp_path / "ward" / "x").stat().st_mode & 0o777 == 0o700
    assert temporary(tmp_path) == []


def test_none_at_all(tmp_path: Path) -> None:
    """Nothing to do is nothing done."""
    replace_files([])
    assert list(tmp_path.iterdir()) == []


def test_beside_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-o .`: a bare name has its temporary file beside it, too, and its folder is synced."""
    opened: list[str] = []
    real = os.open

    def watched(path: Any, *args: Any) -> int:
        opened.append(os.path.dirname(os.path.abspath(path)))
        return real(path, *args)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "open", watched)
    replace_file("a.md", b"a")
    assert (tmp_path / "a.md").read_bytes() == b"a"
    assert set(opened) == {str(tmp_path), str(tmp_path.parent)}  # the folder itself, at last


def test_a_link_is_replaced(tmp_path: Path) -> None:
    """Fault 40: what a link leads to is not touched."""
    (tmp_path / "target").write_text("mine")
    (tmp_path / "a.md").symlink_to(tmp_path / "target")
    replace_file(tmp_path / "a.md", b"a")
    assert not (tmp_path / "a.md").is_symlink()
    assert (tmp_path / "target").read_text() == "mine"


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_call_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """Faults 6, 9: of every file the old bytes stand or the new ones, and no litter."""
    paths = [tmp_path / f"{n}.md" for n in range(3)]
    for path in paths:
        path.write_bytes(b"old")
    real, left = getattr(os, call), [at]

    def failing(*args: Any, **settings: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return real(*args, **settings)
        if call == "close":
            real(*args)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OSError, match="Input/output"):
            replace_files([(path, b"new") for path in paths])
    states = [path.read_bytes() for path in paths]
    assert set(states) <= {b"old", b"new"}
    assert call == "replace" or states == [b"old"] * 3
    assert temporary(tmp_path) == []


def test_pairs_that_cannot_be_made(tmp_path: Path) -> None:
    """What fails while the contents are made leaves nothing, either."""

    def pairs() -> Iterator[tuple[Path, bytes]]:
        yield tmp_path / "a.md", b"a"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        replace_files(pairs())
    assert list(tmp_path.iterdir()) == []


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call may write a part only."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    replace_file(tmp_path / "a.md", b"0123456789" * 5)
    assert (tmp_path / "a.md").read_bytes() == b"0123456789" * 5
