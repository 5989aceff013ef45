"""PDF through PDFium: a page's text layer where it has one that can be used, else a picture of it.

Covers text, scans, pages of both, form fields and what annotations draw on the page. JavaScript
is never run (the build has no engine for it), attachments are never opened, no link is followed,
and the rights that an owner's password takes away are not looked at. Does not cover pictures on
pages with text, comments behind their icons, attachments and XFA forms: each is told of.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from medgemma_cli.display import ranges
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import pdfpage
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.records import Image

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

MEDIA_TYPES = {".pdf": "application/pdf"}
VERSION = "pdf/1"
LIBRARIES = ("pypdfium2",)
ABORTS = True  # PDFium ends its process where it gets no more memory
LONG_SIDE = 1280  # pixels: then the short side of A4 has the 896 that Gemma's vision tower takes
_FINEST = 4.0  # pixels a point, for tiny pages
_TAIL = 1024  # bytes in which the end mark must stand (ISO 32000-1, annex H, note 3.4.4)
_SCARCE = 100  # visible characters: a fax's header, a scanner's stamp
_PASSWORD, _SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY
_XFA = 2  # FORMTYPE_XFA_FULL


class _Leaf(NamedTuple):
    """What was found on one page; it was not read if it could not be loaded or shown."""

    text: str = ""
    image: Image | None = None
    read: bool = True
    pictures: bool = False
    comments: int = 0
    over: bool = False


def read(data: bytes, limits: ReadLimits) -> Content:
    """Each page as text or as a picture, at most `limits.max_pixels` of pictures in all.

    Raises:
        DocumentError: ``pdf_corrupt`` (no whole PDF, no page that can be loaded),
            ``pdf_encrypted`` (opens with a password only), ``limit`` (over `limits.max_pages`),
            ``too_many_pixels`` (no page read, pictures being over the limit), ``no_text`` (all
            pages are blank).
    """
    with _opened(data) as file:
        total = len(file)
        if total > limits.max_pages:
            raise DocumentError("limit")
        notes, units = _about(file)
        if file.get_formtype():
            file.init_forms()
        leaves = list(_leaves(file, limits.max_pixels))
    if not any(leaf.read for leaf in leaves):
        over = any(leaf.over for leaf in leaves)
        raise DocumentError("too_many_pixels" if over else "pdf_corrupt")
    if not any(leaf.text or leaf.image for leaf in leaves):
        raise DocumentError("no_text")
    text, pages = _joined([leaf.text for leaf in leaves])
    read_pages = sum(leaf.read for leaf in leaves)
    return Content(
        text=text,
        pages=pages,
        images=tuple(leaf.image for leaf in leaves if leaf.image is not None),
        coverage={"pages": (read_pages, total), **units},
        degraded=(*notes, *_told(leaves)),
    )


@contextlib.contextmanager
def _opened(data: bytes) -> "Iterator[PdfDocument]":
    from pypdfium2 import PdfDocument, PdfiumError, raw

    # PDFium mends much; of a file that was cut short it would give what is left as the whole.
    data = data.rstrip(b"\0\t\n\f\r ")
    if b"%%EOF" not in data[-_TAIL:]:
        raise DocumentError("pdf_corrupt")
    # Where PDFium fails without a reason, it repeats the last one: not that of another file.
    raw.FPDF_LoadMemDocument64(b"", 0, None)
    try:
        file = PdfDocument(data)
    except PdfiumError as error:
        sealed = getattr(error, "err_code", None) in (_PASSWORD, _SECURITY)
        raise DocumentError("pdf_encrypted" if sealed else "pdf_corrupt") from None
    try:
        yield file
    finally:
        file.close()


def _about(file: "PdfDocument") -> tuple[list[str], dict[str, tuple[int, int]]]:
    """What is told of the whole file: notes, and units of which nothing is read."""
    from pypdfium2 import raw

    notes, units = [], {}
    if not raw.FPDF_DocumentHasValidCrossReferenceTable(file):
        notes.append("xref_rebuilt")
    if attached := file.count_attachments():
        units["attachments"] = (0, attached)
    if file.get_formtype() == _XFA:
        units["xfa_forms"] = (0, 1)
    return notes, units


def _leaves(file: "PdfDocument", max_pixels: int) -> Iterator[_Leaf]:
    from pypdfium2 import PdfiumError

    left = max_pixels
    for number in range(1, len(file) + 1):
        try:
            with _page(file, number - 1) as (page, comments):
                leaf = _leaf(page, number, left)._replace(comments=comments)
        except PdfiumError:
            leaf = _Leaf(read=False)
        left -= leaf.image.width * leaf.image.height if leaf.image else 0
        yield leaf


@contextlib.contextmanager
def _page(file: "PdfDocument", index: int) -> "Iterator[tuple[PdfPage, int]]":
    """A page with form fields and annotations drawn into it, in memory; comments left behind.

    Raises:
        PdfiumError: it cannot be loaded.
    """
    from pypdfium2 import raw

    page, comments = file[index], 0
    try:
        if raw.FPDFPage_GetAnnotCount(page) > 0:
            comments = pdfpage.comments(page)
            raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)
            page.close()
            page = file[index]
        yield page, comments
    finally:
        page.close()


def _leaf(page: "PdfPage", number: int, pixels: int) -> _Leaf:
    """Read one page.

    Raises:
        PdfiumError: it cannot be drawn.
    """
    layer = pdfpage.text(page)
    found = _Leaf(layer or "")
    pictures = list(pdfpage.pictures(page))
    large = any(map(pdfpage.is_large, pictures))
    visible = sum(not character.isspace() for character in found.text)
    if visible >= _SCARCE or (visible and not large):
        return found._replace(pictures=large)
    if not pdfpage.has_objects(page):
        return found
    scale, width, height = _scale(*page.get_size())
    if width * height > pixels:
        return found._replace(read=False, over=True)
    shown = page.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")
    if all(low == high for low, high in shown.getextrema()):
        # One colour: a blank page, unless it holds what could not be drawn.
        return found._replace(read=layer is not None and all(map(pdfpage.is_whole, pictures)))
    label = f"PAGE {number} of the document"
    rgb = shown.tobytes()
    image = Image(width=shown.width, height=shown.height, rgb=rgb, page=number, label=label)
    return found._replace(image=image)


def _scale(width: float, height: float) -> tuple[float, int, int]:
    """Pixels a point, and the size in pixels, of a page of this size in points."""
    scale = min(LONG_SIDE / max(width, height), _FINEST)
    return scale, max(math.ceil(width * scale), 1), max(math.ceil(height * scale), 1)


def _joined(texts: list[str]) -> tuple[str, tuple[int, ...]]:
    """The pages with a blank line between them, over which no quote runs; where each begins."""
    starts, at = [], 0
    for text in texts:
        starts.append(at)
        at += len(text) + 2 if text else 0
    joined = "\n\n".join(text for text in texts if text)
    return joined, tuple(min(start, len(joined)) for start in starts)


def _told(leaves: list[_Leaf]) -> Iterator[str]:
    """Notes on pages."""
    unread = [number for number, leaf in enumerate(leaves, 1) if not leaf.read]
    pictured = [number for number, leaf in enumerate(leaves, 1) if leaf.pictures]
    if unread:
        yield f"pages_not_read:{ranges(unread)}"
    if pictured:
        yield f"pictures_not_read:{ranges(pictured)}"
    if comments := sum(leaf.comments for leaf in leaves):
        yield f"comments_not_read:{comments}"
