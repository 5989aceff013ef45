"""One page of a PDF: its text as the text layer has it, its pictures and its comments.

PDFium makes the lines, the spaces and the order of scripts that run from right to left, writes
ligatures as letters, and joins a word that a hyphen divides at the end of a line; the hyphen stays.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypdfium2 import PdfImage, PdfPage, PdfTextPage

_GARBAGE = 0.2  # the share of visible characters from which a text layer cannot be used
_SAMPLE = 200
_LARGE = 250_000  # pixels: more than a logo has
_MOST_OBJECTS = 20_000
_UNREADABLE = {"Cc", "Cn", "Co", "Cs"}
_LINE_ENDS = dict.fromkeys(map(ord, "\v\f\x1c\x1d\x1e\x85"), "\n")
_DIVIDED = "\ufffe"  # PDFium's mark for the hyphen of a divided word, and for NUL
# Widgets are drawn on the page, and so is free text; links and pop-ups have nothing to read.
_LINK, _FREE_TEXT, _POPUP, _ATTACHED, _WIDGET = 2, 3, 16, 17, 20  # FPDF_ANNOT_…


def text(page: "PdfPage") -> str | None:
    """The text that is visible within the page's bounds; None where it is mostly garbage.

    Line ends are ``\\n``; a character that cannot be shown becomes U+FFFD.
    """
    from pypdfium2 import PdfiumError

    try:
        layer = page.get_textpage()
    except PdfiumError:
        return None
    turned = page.get_rotation()
    if (upright := _upright(layer, turned)) != turned:
        # PDFium takes lines from top to bottom as the page is shown, also those that stand.
        layer.close()
        page.set_rotation(upright)
        layer = page.get_textpage()
        page.set_rotation(turned)
    found = _plain(_visible(layer, page, upright))
    usable = not (_is_garbage(found) or _is_unmapped(layer))
    layer.close()
    return found if usable else None


def _upright(layer: "PdfTextPage", otherwise: int) -> int:
    """The rotation of the page, in degrees, in which most of its characters stand upright."""
    from pypdfium2 import raw

    turns: Counter[int] = Counter()
    for at in _sampled(layer):
        angle = raw.FPDFText_GetCharAngle(layer, at)
        if angle >= 0:
            turns[round(angle * 2 / math.pi) * 90 % 360] += 1
    return turns.most_common(1)[0][0] if turns else otherwise


def _sampled(layer: "PdfTextPage") -> Iterator[int]:
    """Places of characters that the file has, spread over all."""
    from pypdfium2 import raw

    count = layer.count_chars()
    places = range(0, count, max(count // _SAMPLE, 1)) if count > 0 else range(0)
    return (at for at in places if raw.FPDFText_IsGenerated(layer, at) != 1)


def _visible(layer: "PdfTextPage", page: "PdfPage", upright: int) -> str:
    """All of the text, or what of it is not cropped away.

    PDFium's own text is taken where nothing speaks against it: that is ten times as fast.
    """
    every = layer.get_text_range(errors="replace")
    # Bounded text loses line ends of rotated pages: it only tells whether something is outside.
    whole = _count(every) <= _count(layer.get_text_bounded(errors="replace"))
    # What has no code is left out: "5?mg" would become "5mg".
    whole = whole and len(every.encode("utf-16-le", "surrogatepass")) == 2 * layer.count_chars()
    if whole and _DIVIDED not in every and not _has_forms(page):
        return str(every)
    return "".join(_pieced(layer, page.get_bbox(), across=upright % 180 == 0))


def _count(text: str) -> int:
    return sum(not character.isspace() for character in text)


def _has_forms(page: "PdfPage") -> bool:
    """Whether text may stand in form XObjects: PDFium compares places inside of different ones."""
    from pypdfium2 import raw

    objects = islice(page.get_objects(max_depth=1), _MOST_OBJECTS)
    return any(thing.type == raw.FPDF_PAGEOBJ_FORM for thing in objects)


class _Box(NamedTuple):
    """Bounds in points, from the left and the bottom of the page."""

    left: float
    bottom: float
    right: float
    top: float

    def holds(self, other: "_Box") -> bool:
        """Whether the middle of another box is inside."""
        x, y = (other.left + other.right) / 2, (other.bottom + other.top) / 2
        return self.left <= x <= self.right and self.bottom <= y <= self.top

    def beside(self, other: "_Box", *, across: bool) -> bool:
        """Whether both may be on one line, which runs across the page or along it."""
        if across:
            return self.bottom < other.top and other.bottom < self.top
        return self.left < other.right and other.left < self.right


def _pieced(layer: "PdfTextPage", bounds: tuple[float, ...], *, across: bool) -> Iterator[str]:
    """Character by character: those within bounds; lines end where the next is not beside."""
    from pypdfium2 import PdfiumError, raw

    last: _Box | None = None
    gap, inside = "", _Box(*bounds)
    for at in range(layer.count_chars()):
        code = raw.FPDFText_GetUnicode(layer, at)
        if raw.FPDFText_IsGenerated(layer, at) == 1:
            gap += chr(code)
            continue
        try:
            # By the font's height: a crop takes a line or leaves it.
            box = _Box(*layer.get_charbox(at, loose=True))
        except PdfiumError:
            continue
        if not inside.holds(box):
            continue
        if last is not None:
            same = last.beside(box, across=across)
            yield gap if same or "\n" in gap else "\n"
        yield "-" if raw.FPDFText_IsHyphen(layer, at) == 1 else chr(code)
        last, gap = box, ""


def _plain(text: str) -> str:
    """With ``\\n`` for line ends and U+FFFD for what no file of text may hold."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LINE_ENDS)
    return "".join(map(_shown, text)).strip()


def _shown(character: str) -> str:
    kept = character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
    return character if kept else "\ufffd"


def _is_garbage(text: str) -> bool:
    """Whether a fifth of what is visible are signs without a meaning: private use, unassigned."""
    visible = [character for character in text if not character.isspace()]
    bad = sum(c == "\ufffd" or unicodedata.category(c) in _UNREADABLE for c in visible)
    return bad > _GARBAGE * len(visible)


def _is_unmapped(layer: "PdfTextPage") -> bool:
    """Whether a fifth of the characters are guesses: their font does not say what they mean."""
    from pypdfium2 import raw

    places = list(_sampled(layer))
    bad = sum(raw.FPDFText_HasUnicodeMapError(layer, at) == 1 for at in places)
    return bool(bad > _GARBAGE * len(places))


def has_objects(page: "PdfPage") -> bool:
    """Whether anything is drawn on a page."""
    from pypdfium2 import raw

    return bool(raw.FPDFPage_CountObjects(page) > 0)


def pictures(page: "PdfPage") -> "Iterator[PdfImage]":
    """The raster images of a page."""
    from pypdfium2 import raw

    return islice(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]), _MOST_OBJECTS)


def is_large(picture: "PdfImage") -> bool:
    """Whether it is more than a logo."""
    from pypdfium2 import PdfiumError

    try:
        width, height = picture.get_px_size()
    except PdfiumError:
        return True
    return bool(width * height >= _LARGE)


def is_whole(picture: "PdfImage") -> bool:
    """Whether it can be decoded."""
    from pypdfium2 import PdfiumError

    try:
        picture.get_bitmap().close()
    except PdfiumError:
        return False
    return True


def comments(page: "PdfPage") -> int:
    """How many annotations have words that stand behind them and not on the page."""
    from pypdfium2 import raw

    found = 0
    for at in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, at)
        if not annotation:
            continue
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        # Two bytes are the end of an empty text.
        worded = raw.FPDFAnnot_GetStringValue(annotation, b"Contents", None, 0) > 2
        drawn = raw.FPDFAnnot_GetAP(annotation, raw.FPDF_ANNOT_APPEARANCEMODE_NORMAL, None, 0) > 2
        behind = kind not in (_LINK, _POPUP, _WIDGET) and not (kind == _FREE_TEXT and drawn)
        found += kind == _ATTACHED or (worded and behind)
        raw.FPDFPage_CloseAnnot(annotation)
    return found
