"""The key file is private, and a key is compared whole."""

import os
from pathlib import Path

import pytest

from medgemma_cli.errors import ConfigError
from medgemma_cli.serve.keys import matches, read_key

KEY = "k" * 32


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A key file."""
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_first_line_is_the_key(tmp_path: Path) -> None:
    """White space around it does not count."""
    assert read_key(write(tmp_path, f"  {KEY} \nsecond\n")) == KEY.encode()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_others_may_not_read_it(tmp_path: Path, mode: int) -> None:
    """A file that a group or anybody may read is refused, with how to mend it."""
    with pytest.raises(ConfigError) as caught:
        read_key(write(tmp_path, KEY, mode))
    assert "chmod 600" in caught.value.next_step


@pytest.mark.parametrize("text", ["", "\n" + KEY, "short", "k" * 15, "a b" * 10, "ä" * 30])
def test_no_good_key(tmp_path: Path, text: str) -> None:
    """Empty, short, with spaces or not ASCII; the message does not say what stood there."""
    with pytest.raises(ConfigError) as caught:
        read_key(write(tmp_path, text))
    assert not text.strip() or text.strip() not in caught.value.message


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    """What is no file is refused, and a pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError):
            read_key(path)


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ([(b"authorization", b"Bearer " + KEY.encode())], True),
        ([(b"authorization", b"bearer " + KEY.encode())], True),
        ([(b"x-api-key", KEY.encode())], True),
        ([], False),
        ([(b"authorization", b"Bearer ")], False),
        ([(b"authorization", KEY.encode())], False),
        ([(b"authorization", b"Bearer " + KEY.encode() + b"k")], False),
        ([(b"x-api-key", KEY.encode()[:-1])], False),
        ([(b"x-api-key", b"\xff\xfe")], False),
    ],
)
def test_only_the_key_matches(headers: list[tuple[bytes, bytes]], good: bool) -> None:
    """In either header; not a part of it, not more, not nothing."""
    assert matches(headers, KEY.encode()) is good
