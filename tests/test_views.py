"""The sheet of what the model saw: what is on it, how large it may be, and how it is known."""

import hashlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image as Pillow

from medgemma_cli import views
from medgemma_cli.records import Image

KEY, OTHER = "a" * 64, "b" * 64
COLOURS = [(200, 0, 0), (0, 160, 0), (0, 0, 220), (190, 190, 0), (0, 170, 170)]


def image(number: int, width: int = 64, height: int = 64, label: str = "") -> Image:
    """A picture of one colour."""
    colour = bytes(COLOURS[number % len(COLOURS)])
    return Image(width=width, height=height, rgb=colour * (width * height), label=label)


def opened(data: bytes) -> Pillow.Image:
    """A sheet as any program sees it."""
    found = Pillow.open(io.BytesIO(data))
    found.load()
    assert found.format == "JPEG"
    return found


def near(pixel: object, number: int) -> bool:
    """Whether a pixel of a JPEG has the colour of this picture."""
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < 12 for a, b in zip(pixel, COLOURS[number], strict=True))


def test_pictures_stand_in_order() -> None:
    """Row by row from the top left, each in the middle of its place."""
    found = opened(views.sheet([image(n, 512, 512) for n in range(5)], KEY))
    assert found.width == 2046  # three columns
    side = 682
    for number in range(5):
        row, column = divmod(number, 3)
        middle = (column * side + side // 2, 24 + row * (side + 16) + side // 2)
        assert near(found.getpixel(middle), number)


def test_proportions_stay() -> None:
    """A wide picture is made smaller and not squeezed; a small one is not made larger."""
    found = opened(views.sheet([image(0, 3000, 300)], KEY))
    column = [y for y in range(found.height) if near(found.getpixel((512, y)), 0)]
    assert 98 <= len(column) <= 106 and found.width == 1024
    found = opened(views.sheet([image(1, 10, 10)], KEY))
    assert sum(near(found.getpixel((x, 24 + 512)), 1) for x in range(found.width)) in range(6, 15)


def test_indices_are_drawn() -> None:
    """Below each picture stands a number: sheets of other numbers are other pictures there."""
    first = opened(views.sheet([image(0, label="SLICE 1")], KEY))
    again = opened(views.sheet([image(0, label="SLICE 1")], KEY))
    other = opened(views.sheet([image(0, label="SLICE 8")], KEY))
    words = (0, 24 + 1020, 1024, first.height)
    dark = [sum(p < 100 for p in one.convert("L").crop(words).tobytes()) for one in (first, other)]
    assert first.tobytes() == again.tobytes() and min(dark) > 20
    assert first.crop(words).tobytes() != other.crop(words).tobytes()
    assert first.crop((0, 24, 1024, 1040)).tobytes() == other.crop((0, 24, 1024, 1040)).tobytes()


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("SLICE 12", "SLICE 12"),
        ("FRAME 2", "FRAME 2"),
        ("PATCH 125", "PATCH 125"),
        ("PAGE 3 of the document", "PAGE 3"),
        ("", "IMAGE 5"),
    ],
)
def test_captions_are_those_of_the_prompt(label: str, words: str) -> None:
    """So that what an answer names can be found; a picture without words has its number."""
    assert views.caption(image(0, label=label), 4) == words


@pytest.mark.parametrize("count", [1, 2, 85, 125, 400, 3000])
def test_sheets_are_bounded(count: int) -> None:
    """However many pictures: 2048 pixels wide at most, 400 shown, a few megabytes."""
    noise = os.urandom(3 * 96 * 96)
    data = views.sheet([Image(width=96, height=96, rgb=noise)] * count, KEY)
    found = opened(data)
    assert found.width <= 2048 and found.height <= 3800
    assert len(data) < 5_000_000


def test_a_sheet_is_known() -> None:
    """The comment has the key, and a hash of all that follows; any program still opens it."""
    data = views.sheet([image(0)], KEY)
    comment = opened(data).info["comment"]
    assert comment.startswith(f"medgemma.views/1 key={KEY} sha256=".encode())
    rest = data[4 + len(comment) + 2 :]
    assert hashlib.sha256(rest).hexdigest().encode() in comment


def test_states(tmp_path: Path) -> None:
    """Current, of another record, changed, not ours, not there; a FIFO blocks nobody."""
    path = tmp_path / "a.views.jpg"
    assert (views.state(path, KEY), views.key_of(path)) == ("missing", None)
    data = views.sheet([image(0)], KEY)
    path.write_bytes(data)
    assert (views.state(path, KEY), views.key_of(path)) == ("current", KEY)
    assert views.state(path, OTHER) == "stale"
    path.write_bytes(data + b"\0")
    assert (views.state(path, KEY), views.key_of(path)) == ("altered", KEY)
    path.write_bytes(data[:100])
    assert views.state(path, KEY) == "altered"
    plain = io.BytesIO()
    opened(data).save(plain, "JPEG")
    for other in (plain.getvalue(), b"", b"mine", data[1:]):
        path.write_bytes(other)
        assert (views.state(path, KEY), views.key_of(path)) == ("altered", None)
    path.unlink()
    os.mkfifo(path)
    assert (views.state(path, KEY), views.key_of(path)) == ("altered", None)


@pytest.mark.parametrize(
    ("summary", "name"),
    [
        ("a.md", "a.views.jpg"),
        ("a.png.md", "a.png.views.jpg"),
        ("ward/b.tif.md", "ward/b.tif.views.jpg"),
        ("x.md.md", "x.md.views.jpg"),
        ("stdin.md", "stdin.views.jpg"),
    ],
)
def test_names(summary: str, name: str) -> None:
    """Beside the summary, under its name."""
    assert views.name_of(summary) == name


def test_long_names() -> None:
    """A name that would be too long for the system is cut and ends in a hash; twins stay two."""
    names = {views.name_of(f"ward/{'é' * 120}{letter}.md") for letter in "ab"}
    assert len(names) == 2
    for name in names:
        assert len(name.removeprefix("ward/").encode()) <= 255
        assert name.endswith(views.SUFFIX)


def test_sheets_are_found(tmp_path: Path) -> None:
    """In every folder but the quarantine, and no links."""
    for name in ("a.views.jpg", "ward/b.views.jpg", "quarantine/c.views.jpg", "d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.views.jpg").symlink_to(tmp_path / "d.jpg")
    assert sorted(views.walk(tmp_path)) == ["a.views.jpg", "ward/b.views.jpg"]
