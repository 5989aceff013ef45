"""Whole-slide images made here, byte by byte, for tests: nothing in them is of a person."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.records import Document, Image, Source

GLASS = (243, 243, 243)
STAIN = (180, 90, 150)
LIMITS = ReadLimits()
APERIO = "Aperio Image Library v12\r\n{width}x{height} |AppMag = {power}|MPP = {mpp}{more}"
_SHORT, _LONG, _ASCII, _RATIONAL, _LONG8 = 3, 4, 2, 5, 16
_SIZES = {_SHORT: 2, _LONG: 4, _ASCII: 1, _RATIONAL: 8, _LONG8: 8}
_CODES = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}


class Page(NamedTuple):
    """A page of a TIFF file: (rows, columns, 3) of uint8, or grey (rows, columns)."""

    pixels: np.ndarray
    tile: int = 256
    words: str = ""
    reduced: bool = False
    per_centimetre: int = 0


def tiff(pages: Sequence[Page], *, big: bool = False) -> bytes:
    """The file of these pages, uncompressed; in strips where `tile` is 0."""
    out = io.BytesIO()
    out.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else b"II*\0\0\0\0\0")
    link = 8 if big else 4
    for page in pages:
        link = _page(out, page, link, big=big)
    return out.getvalue()


def _page(out: io.BytesIO, page: Page, link: int, *, big: bool) -> int:
    offset = _LONG8 if big else _LONG
    rows, columns = page.pixels.shape[:2]
    pieces = list(_tiles(page.pixels, page.tile)) if page.tile else [page.pixels.tobytes()]
    places = []
    for piece in pieces:
        places.append(out.tell())
        out.write(piece)
    colour = page.pixels.ndim == 3
    tags: list[tuple[int, int, Any]] = [
        (254, _LONG, [int(page.reduced)]),
        (256, _LONG, [columns]),
        (257, _LONG, [rows]),
        (258, _SHORT, [8, 8, 8] if colour else [8]),
        (259, _SHORT, [1]),
        (262, _SHORT, [2 if colour else 1]),
        *([(270, _ASCII, page.words.encode() + b"\0")] if page.words else []),
        (277, _SHORT, [3 if colour else 1]),
        *([] if page.tile else [(273, offset, places), (278, _LONG, [rows])]),
        *([] if page.tile else [(279, offset, [len(piece) for piece in pieces])]),
        *([(322, _LONG, [page.tile]), (323, _LONG, [page.tile])] if page.tile else []),
        *([(324, offset, places)] if page.tile else []),
        *([(325, offset, [len(piece) for piece in pieces])] if page.tile else []),
    ]
    if page.per_centimetre:
        tags += [(n, _RATIONAL, [page.per_centimetre, 1]) for n in (282, 283)]
        tags.append((296, _SHORT, [3]))
    return _directory(out, sorted(tags, key=lambda tag: tag[0]), link, big=big)


def _tiles(pixels: np.ndarray, side: int) -> list[bytes]:
    rows, columns = pixels.shape[:2]
    found = []
    for y in range(0, rows, side):
        for x in range(0, columns, side):
            piece = pixels[y : y + side, x : x + side]
            whole = np.full((side, side, *pixels.shape[2:]), 255, np.uint8)
            whole[: piece.shape[0], : piece.shape[1]] = piece
            found.append(whole.tobytes())
    return found


def _directory(out: io.BytesIO, tags: list[tuple[int, int, Any]], link: int, *, big: bool) -> int:
    """Write it, and where it is at `link`; where the next one's place is to be written."""
    wide, number = (8, "Q") if big else (4, "I")
    entries = []
    for tag, kind, value in tags:
        count = len(value) // (2 if kind == _RATIONAL else 1)
        data = _packed(kind, value)
        if len(data) > wide:
            place = out.tell()
            out.write(data)
            data = struct.pack(f"<{number}", place)
        entries.append(struct.pack(f"<HH{number}", tag, kind, count) + data.ljust(wide, b"\0"))
    at = out.tell()
    out.write(struct.pack("<Q" if big else "<H", len(entries)) + b"".join(entries))
    following = out.tell()
    out.write(bytes(wide))
    out.seek(link)
    out.write(struct.pack(f"<{number}", at))
    out.seek(0, io.SEEK_END)
    return following


def _packed(kind: int, value: Any) -> bytes:
    if kind == _ASCII:
        return bytes(value)
    code = "I" if kind == _RATIONAL else _CODES[kind]
    return struct.pack(f"<{len(value)}{code}", *value)


def glass(width: int = 4096, height: int = 3072, *pieces: tuple[int, int, int, int]) -> np.ndarray:
    """A slide of glass with pieces of tissue: left, top, right, bottom."""
    made = np.full((height, width, 3), GLASS, np.uint8)
    for left, top, right, bottom in pieces:
        made[top:bottom, left:right] = STAIN
    return made


def pyramid(pixels: np.ndarray, words: str = "", *, levels: int = 2, **about: Any) -> list[Page]:
    """Pages of a slide, each a quarter of the length of the one before."""
    first = Page(pixels, words=words, **about)
    return [first, *(Page(pixels[:: 4**i, :: 4**i], reduced=True) for i in range(1, levels))]


def aperio(
    pixels: np.ndarray, *, mpp: object = 0.5, power: object = 20, more: str = "", levels: int = 2
) -> bytes:
    """An Aperio slide of these pixels, with its label and a photograph of the glass."""
    height, width = pixels.shape[:2]
    words = APERIO.format(width=width, height=height, power=power, mpp=mpp, more=more)
    first, *others = pyramid(pixels, words, levels=levels)
    thumbnail = Page(pixels[::16, ::16], tile=0, words="Aperio Image Library v12")
    label = Page(np.full((60, 80, 3), (0, 0, 255), np.uint8), 0, "Aperio\r\nlabel 80x60")
    macro = Page(np.full((60, 80, 3), (0, 255, 0), np.uint8), 0, "Aperio\r\nmacro 80x60")
    return tiff([first, thumbnail, *others, label, macro])


def source(place: Path) -> Source:
    """A file as discovery finds it."""
    return Source(place=str(place), relative=place.name, origin=str(place))


def document(place: Path, limits: ReadLimits = LIMITS) -> Document:
    """A slide, decoded here."""
    found = source(place)
    return readers.decode(found, readers.load(found, limits), limits)


def code(place: Path, limits: ReadLimits = LIMITS) -> str:
    """The code that a file ends with, or `ok`."""
    try:
        document(place, limits)
    except DocumentError as error:
        return error.code
    return "ok"


def array(image: Image) -> np.ndarray:
    """An image as (rows, columns, 3)."""
    return np.frombuffer(image.rgb, np.uint8).reshape(image.height, image.width, 3)
