"""The folder of a tuning: whose it is, what of it is whole, what a full disk comes to."""

import errno
import json
from pathlib import Path

import pytest

from medgemma_cli.errors import ConfigError, OutputError, RunAgainError, StorageError
from medgemma_cli.tuning import book as books
from medgemma_cli.tuning.book import Book
from medgemma_cli.tuning.curve import Curve

TOLD = {"identity": "i", "state": "training"}


def written(out: Path, **told: object) -> Path:
    """A folder with a training.json."""
    with Book(out) as book:
        book.write(TOLD | told, Curve())
    return out


def make(folder: Path, *, whole: bool) -> None:
    """A checkpoint's folder, marked whole or not."""
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": 2.0}]}')
    if whole:
        (folder / "whole").write_bytes(b"")


def test_the_same_command_goes_on(tmp_path: Path) -> None:
    """The same identity is taken, another one refused with 78."""
    with Book(written(tmp_path / "out")) as book:
        book.check_same("i")
        with pytest.raises(ConfigError, match="other settings"):
            book.check_same("j")


def test_one_writer(tmp_path: Path) -> None:
    """A second one is sent away with 75."""
    with Book(tmp_path), pytest.raises(RunAgainError), Book(tmp_path):
        pass


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    """Nobody's files are mixed with an adapter's; a lock alone, or what a kill left, is nothing."""
    (tmp_path / ".lock").touch()
    (tmp_path / ".medgemma-0.tmp").touch()
    with Book(tmp_path):
        pass
    (tmp_path / "records.jsonl").touch()
    with pytest.raises(ConfigError, match="something else"), Book(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "medgemma.training/2"}', "[" * 100_000])
def test_a_damaged_folder(tmp_path: Path, text: str) -> None:
    """78: what cannot be read is not trained over."""
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(ConfigError, match="damaged"), Book(tmp_path):
        pass


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """73, before anything is loaded."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), Book(tmp_path / "file" / "out"):
        pass


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    """What a kill cut short is taken away, or it would be gone on from."""
    book = Book(tmp_path)
    assert book.last() is None
    for step, whole in ((9, True), (10, True), (11, False)):
        make(book.checkpoint(step), whole=whole)
    assert book.last() == 10
    assert {path.name for path in book.checkpoints.iterdir()} == {"checkpoint-9", "checkpoint-10"}
    assert book.history(10) == [{"step": 1, "loss": 2.0}]


def test_sealing(tmp_path: Path) -> None:
    """A sealed checkpoint is whole; clearing takes all of them."""
    book = Book(tmp_path)
    make(book.checkpoint(3), whole=False)
    book.seal(3)
    assert book.last() == 3
    book.clear()
    assert book.last() is None


def test_done_needs_the_adapter(tmp_path: Path) -> None:
    """The word alone is not enough: somebody may have taken the files away."""
    with Book(written(tmp_path, state="done")) as book:
        assert not book.done
        book.finish(b"{}", b"weights")
        assert book.done
        assert json.loads((tmp_path / "training.json").read_text())["state"] == "done"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """74, and the file that was there still stands."""

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Book(written(tmp_path)) as book:
        before = (tmp_path / "training.json").read_bytes()
        monkeypatch.setattr(books, "replace_files", full)
        with pytest.raises(StorageError, match="No space left"):
            book.write(TOLD, Curve(((1, 1.0),)))
        assert (tmp_path / "training.json").read_bytes() == before
