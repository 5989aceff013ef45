"""Whether a TIFF file is a whole slide: a pyramid of tiles in colour, or a scanner's own kind.

A name does not tell: a hospital's scans are `.tif` as pictures are. This walks the file's
directories in the main process, so it is plain: no recursion, bounds on everything, no pixel is
read. Tags: TIFF 6.0; BigTIFF as libtiff has it.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_LEAST_PIXELS = 2048 * 2048  # a picture with a preview has fewer; every scanner's slide has more
_WIDTH, _HEIGHT, _PHOTOMETRIC, _DESCRIPTION, _SOFTWARE = 256, 257, 262, 270, 305
_TILE, _SUB, _XMP, _NDPI = 322, 330, 700, 65420
_COLOUR = (2, 6)  # RGB, YCbCr
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4, 16: 8, 18: 8}  # bytes a value of these types has
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MOST_PAGES = 64
_MOST_ENTRIES = 4096
_MOST_BYTES = 4096  # of a value
_REDUCED = 0.75  # how large a further level is at most
_ASPECT = 0.05  # by how much its aspect may differ, for rounding
# In description, software or XMP. The first page of two of them is a photograph of the glass.
_MAKERS = (b"Aperio", b"leica-microsystems.com/scn", b"iScan", b"Philips DP", b"3D Histech")


class Page(NamedTuple):
    """One picture of the file: pixels, whether in tiles and in colour, whether a maker of scanners
    is named, and whether it is Hamamatsu's kind, which has no tiles.
    """

    width: int
    height: int
    tiled: bool
    colour: bool
    named: bool
    ndpi: bool

    @property
    def pixels(self) -> int:
        """How many."""
        return self.width * self.height


def is_slide(file: BinaryIO) -> bool | None:
    """Whether it is one; None where the file is no TIFF, or cannot be walked.

    A slide has a page in tiles and in colour, of 2048 x 2048 pixels at least, and a second, smaller
    one of the same aspect; or it has tiles and names a maker of scanners.
    """
    try:
        pages = list(_pages(file))
    except (struct.error, OSError, ValueError, OverflowError):
        return None
    if not pages:
        return None
    bases = [page for page in pages if page.tiled and page.colour]
    if any(page.ndpi for page in pages) or (bases and any(page.named for page in pages)):
        return True
    base = max(bases, key=lambda page: page.pixels, default=None)
    if base is None or base.pixels < _LEAST_PIXELS:
        return False
    return any(_is_level(page, base) for page in pages)


def leads(file: BinaryIO) -> bool:
    """Whether the first page is the largest: then it is no label and no photograph of the glass."""
    try:
        first, *others = _pages(file)
    except (struct.error, OSError, ValueError, OverflowError):
        return False
    return all(page.pixels <= first.pixels for page in others)


def _is_level(page: Page, base: Page) -> bool:
    if page.height < 1 or page.width < 1 or page.width > _REDUCED * base.width:
        return False
    return abs(page.width * base.height / (page.height * base.width) - 1) < _ASPECT


class _Form(NamedTuple):
    """How numbers stand in the file."""

    order: str
    big: bool

    def number(self, data: bytes) -> int:
        """Of 1, 2, 4 or 8 bytes."""
        if len(data) not in _CODES:
            raise ValueError  # the file ends here
        return int(struct.unpack(self.order + _CODES[len(data)], data)[0])


def _pages(file: BinaryIO) -> Iterator[Page]:
    """Every page, and the reduced ones that hang below it.

    Raises:
        ValueError, struct.error, OSError: what is there makes no sense.
    """
    file.seek(0)
    head = file.read(16)
    orders = {b"II": "<", b"MM": ">"}
    if head[:2] not in orders:
        return
    form = _Form(orders[head[:2]], head[2:4] in (b"+\0", b"\0+"))
    if not form.big and head[2:4] not in (b"*\0", b"\0*"):
        return
    waiting = [form.number(head[8:16] if form.big else head[4:8])]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_PAGES:
        at = waiting.pop(0)
        if at == 0 or at in seen:
            continue
        seen.add(at)
        page, below, following = _page(file, form, at)
        waiting += [*below, following]
        yield page


def _page(file: BinaryIO, form: _Form, at: int) -> tuple[Page, list[int], int]:
    """The page at an offset, the offsets of those below it, and of the next one."""
    file.seek(at)
    wide = 8 if form.big else 4
    count = form.number(file.read(8 if form.big else 2))
    if not 0 < count <= _MOST_ENTRIES:
        raise ValueError
    size = 4 + 2 * wide
    block = file.read(count * size)
    following = form.number(file.read(wide))
    found: dict[int, tuple[int, bytes]] = {}
    for start in range(0, count * size, size):
        entry = block[start : start + size]
        tag, kind = form.number(entry[:2]), form.number(entry[2:4])
        if kind in _SIZES:
            found[tag] = (kind, _value(file, form, kind, entry[4:], tag))
    numbers = {tag: _numbers(form, *value) for tag, value in found.items()}
    words = b" ".join(found[t][1] for t in (_DESCRIPTION, _SOFTWARE, _XMP) if t in found)
    page = Page(
        width=(numbers.get(_WIDTH) or [0])[0],
        height=(numbers.get(_HEIGHT) or [0])[0],
        tiled=_TILE in found,
        colour=(numbers.get(_PHOTOMETRIC) or [0])[0] in _COLOUR,
        named=any(maker in words for maker in _MAKERS),
        ndpi=_NDPI in found,
    )
    return page, numbers.get(_SUB, []), following


def _value(file: BinaryIO, form: _Form, kind: int, rest: bytes, tag: int) -> bytes:
    """The bytes of a value, the first ones of a long one; of what is not asked for those here."""
    wide = len(rest) // 2
    size = form.number(rest[:wide]) * _SIZES[kind]
    if size <= wide:
        return rest[wide : wide + size]
    if tag not in (_DESCRIPTION, _SOFTWARE, _XMP, _SUB):
        return b""
    file.seek(form.number(rest[wide:]))
    return file.read(min(size, _MOST_BYTES))


def _numbers(form: _Form, kind: int, value: bytes) -> list[int]:
    size = _SIZES[kind]
    return [form.number(value[i : i + size]) for i in range(0, len(value) - size + 1, size)][:64]
