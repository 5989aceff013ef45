"""Which TIFF files are slides: by their pages alone, whatever the bytes are."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_kit import Page, aperio, glass, pyramid, tiff

from medgemma_cli.readers.slides.tiff import is_slide, leads

LARGE = glass(2400, 1800)
SMALL = glass(600, 450)


def found(data: bytes) -> bool | None:
    """Whether these bytes are a slide."""
    return is_slide(io.BytesIO(data))


@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_a_pyramid_of_tiles(big: bool) -> None:
    """A large page in tiles and a smaller one of the same shape, in either kind of file."""
    assert found(tiff(pyramid(LARGE), big=big)) is True


def test_a_pyramid_that_hangs_below() -> None:
    """Levels may be sub-pages of the first page, as OME-TIFF has them."""
    raw = bytearray(tiff(pyramid(LARGE)))
    first = struct.unpack_from("<I", raw, 4)[0]
    count = struct.unpack_from("<H", raw, first)[0]
    link = first + 2 + 12 * count
    second = struct.unpack_from("<I", raw, link)[0]
    struct.pack_into("<I", raw, link, 0)
    assert found(bytes(raw)) is False
    struct.pack_into("<HHII", raw, first + 2, 330, 4, 1, second)  # over the first, NewSubfileType
    assert found(bytes(raw)) is True


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([Page(LARGE)], "one page, though in tiles"),
        ([Page(LARGE, tile=0), Page(LARGE[::4, ::4])], "the large page is in strips"),
        (pyramid(SMALL), "too small: a picture and its preview"),
        ([Page(LARGE), Page(LARGE[::4, ::8])], "the second is of another shape"),
        ([Page(LARGE), Page(LARGE)], "the second is no smaller: two pages of a fax"),
        (pyramid(LARGE[..., 0]), "grey: a radiograph with overviews"),
        ([Page(SMALL, tile=0, words="Aperio Image Library v12")], "a region that was exported"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures_are_no_slides(pages: list[Page], why: str) -> None:
    """What only resembles a slide stays a picture."""
    assert found(tiff(pages)) is False, why


@pytest.mark.parametrize(
    "words", ["Aperio Image Library", '<scn xmlns="http://www.leica-microsystems.com/scn/2010">']
)
def test_makers_are_known(words: str) -> None:
    """A file in tiles that names a maker is one, however small: its first page may be a label."""
    assert found(tiff([Page(SMALL, words=words)])) is True


def test_no_tiff() -> None:
    """Anything else, and a file without its end, is not told."""
    whole = tiff(pyramid(LARGE))
    for data in (
        b"",
        b"II",
        b"II*\0",
        b"MM\0*\0\0\0\x08",
        b"\xff\xd8\xff",
        whole[: len(whole) // 2],
    ):
        assert found(data) is None


def test_the_first_page_leads() -> None:
    """It is the largest of an ordinary slide; of a file that begins with a label it is not."""
    assert leads(io.BytesIO(tiff(pyramid(LARGE))))
    assert leads(io.BytesIO(aperio(LARGE)))
    assert not leads(io.BytesIO(tiff([Page(SMALL), Page(LARGE)])))
    assert not leads(io.BytesIO(b"II*\0"))


def test_pages_in_a_circle_end() -> None:
    """A page that names itself as the next one is met once."""
    raw = bytearray(tiff([Page(SMALL)]))
    first = struct.unpack_from("<I", raw, 4)[0]
    count = struct.unpack_from("<H", raw, first)[0]
    struct.pack_into("<I", raw, first + 2 + 12 * count, first)
    assert found(bytes(raw)) is False


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, *args: Any) -> bytes:
        """As ever."""
        data = super().read(*args)
        self.taken += len(data)
        return data


def test_many_pages_are_not_all_walked() -> None:
    """A thousand pages, each with sub-pages and words without end: a bounded part is read."""
    file = Counted(tiff([Page(np.zeros((4, 4, 3), np.uint8), 0, "x" * 9000)] * 1000))
    assert is_slide(file) is False
    assert file.taken < 1_000_000


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_is_survived(data: st.DataObject) -> None:
    """Whatever bytes of the pages are changed, an answer comes and nothing is raised."""
    raw = bytearray(tiff(pyramid(np.full((16, 16, 3), 9, np.uint8), "Aperio"), big=True))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for damaged in (bytes(raw), bytes(raw[:cut])):
        assert found(damaged) in (True, False, None)
        assert leads(io.BytesIO(damaged)) in (True, False)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]), st.binary(max_size=200))
def test_any_bytes_are_survived(mark: bytes, rest: bytes) -> None:
    """So it is with bytes that only begin as a TIFF does."""
    assert found(mark + rest) in (True, False, None)
