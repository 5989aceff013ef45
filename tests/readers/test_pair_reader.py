"""Two documents as one: each read by its own reader, and what goes wrong says of which."""

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import pair
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.pool import InProcess
from medgemma_cli.records import Document, Source

HEAD = "---\npatient: P\ndate: 2024-01-01\n---\n"


def source(path: Path, prior: Path | None = None, *, masked: bool = False) -> Source:
    """A file, or two."""
    earlier = None if prior is None else source(prior)
    name = path.name
    return Source(place=str(path), relative=name, origin=str(path), prior=earlier, masked=masked)


@pytest.fixture
def two(tmp_path: Path) -> Source:
    """An earlier and a current note."""
    (tmp_path / "a.md").write_text("Dry cough.\n", "utf-8")
    (tmp_path / "b.txt").write_text("No cough any more.\n", "utf-8")
    return source(tmp_path / "b.txt", tmp_path / "a.md")


def read(asked: Source) -> Document:
    """Both, here and now."""
    blob = readers.load(asked, ReadLimits())
    return pair.submit(InProcess(), asked, blob, ReadLimits()).result()


def test_both_are_read(two: Source) -> None:
    """The current one with the earlier one beside it, and the coverage of both."""
    document = read(two)
    assert document.prior is not None
    assert (document.prior.text, document.text) == ("Dry cough.\n", "No cough any more.\n")
    assert document.coverage == {"characters": (19, 19), "prior_characters": (11, 11)}
    assert document.sha256 != document.prior.sha256


def test_a_mark_depends_on_both_and_their_order(two: Source) -> None:
    """Of one document it is the hash of its bytes, as ever."""
    blob = readers.load(two, ReadLimits())
    assert blob.prior is not None and len(blob.mark) == 64
    other = blob.prior._replace(prior=blob._replace(prior=None))
    assert len({blob.mark, other.mark, blob.sha256, blob.prior.sha256}) == 4
    assert blob.prior.mark == blob.prior.sha256


def test_a_version_names_both_readers(two: Source) -> None:
    """And whether front matter is shown; of one document it is its reader's."""
    assert two.prior is not None
    alone = readers.reader_version("text/markdown")
    assert readers.version(two.prior) == alone
    assert readers.version(two).startswith("pair/1 ") and alone in readers.version(two)
    masked = two.model_copy(update={"masked": True})
    assert readers.version(masked) != readers.version(two)


@pytest.mark.parametrize(("name", "which"), [("a.md", "prior"), ("b.txt", "current")])
@pytest.mark.parametrize(
    ("data", "code"), [(None, "vanished"), (b"", "empty"), (b"\0", "not_text")]
)
def test_what_goes_wrong_says_of_which(
    two: Source, name: str, which: str, data: bytes | None, code: str
) -> None:
    """While the bytes are read, and while they are decoded."""
    path = two.path.parent / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(DocumentError, match=code) as raised:
        read(two)
    assert raised.value.document == which


def test_front_matter_is_blanked_and_nothing_moves(two: Source) -> None:
    """Spaces in its place, line ends kept; in the other document, too."""
    for name in ("a.md", "b.txt"):
        path = two.path.parent / name
        path.write_bytes((HEAD.replace("\n", "\r\n") + path.read_text("utf-8")).encode())
    shown, whole = read(two.model_copy(update={"masked": True})), read(two)
    assert shown.prior is not None and whole.prior is not None
    for masked, plain in ((shown, whole), (shown.prior, whole.prior)):
        at = plain.text.index("cough") - 3
        assert len(masked.text) == len(plain.text) and masked.text[at:] == plain.text[at:]
        assert not masked.text[: masked.text.rindex("\r\n")].strip()
        assert masked.text.count("\n") == plain.text.count("\n")
    assert shown.degraded == (pair.MASKED, f"prior:{pair.MASKED}")
    assert "patient" in whole.text and whole.degraded == ()


@pytest.mark.parametrize(
    "text", ["Dry cough.\n", "---\npatient: P\n", "a\n---\nb: c\n---\n", "---"]
)
def test_what_is_no_front_matter_stays(two: Source, text: str) -> None:
    """None, one that never ends, a rule in the middle."""
    two.path.write_text(text, "utf-8")
    document = read(two.model_copy(update={"masked": True}))
    assert document.text == text and document.degraded == ()


def test_a_long_text_without_an_end_takes_no_time(two: Source) -> None:
    """A megabyte that begins like front matter, with line ends of two characters."""
    two.path.write_bytes(b"---\r\n" + b"a: b\r\n" * 200_000)
    started = time.process_time()
    read(two.model_copy(update={"masked": True}))
    assert time.process_time() - started < 5


class Late:
    """Documents that come when they are told to, in any order, from another thread."""

    ahead = 2

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Document], Source, readers.Blob]] = []

    def submit(self, source: Source, blob: readers.Blob, limits: ReadLimits) -> "Future[Document]":
        """A future that waits."""
        made: Future[Document] = Future()
        self.waiting.append((made, source, blob))
        return made

    def finish(self, at: int) -> None:
        """Let one come."""
        made, source, blob = self.waiting[at]
        made.set_result(readers.decode(source, blob, ReadLimits()))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_they_may_come_in_any_order(two: Source, order: tuple[int, int]) -> None:
    """The pair is ready with the second, once."""
    late = Late()
    made = pair.submit(late, two, readers.load(two, ReadLimits()), ReadLimits())
    late.finish(order[0])
    assert not made.done()
    thread = threading.Thread(target=late.finish, args=(order[1],))
    thread.start()
    assert made.result(10).prior is not None
    thread.join()


def test_a_reading_that_is_stopped_is_told(two: Source) -> None:
    """A future that is cancelled does not leave the pair waiting for ever."""
    late = Late()
    made = pair.submit(late, two, readers.load(two, ReadLimits()), ReadLimits())
    for waiting, _, _ in late.waiting:
        waiting.cancel()
    assert made.exception(10) is not None
