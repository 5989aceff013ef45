"""PDF files: what is read, what is not, and what each broken one comes to."""

import contextlib
import hashlib
import time
from collections.abc import Iterator

import pdfs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import Blob, ReadLimits
from medgemma_cli.readers.limits import Content
from medgemma_cli.readers.pdf import LONG_SIDE, read
from medgemma_cli.readers.pool import InProcess, ReaderPool
from medgemma_cli.records import Document, Source

LIMITS = ReadLimits()
NOTE = ("BP 160/95 mmHg (sitting).", "No chest pain.")
WHOLE = pdfs.pdf([pdfs.text(*NOTE), pdfs.scan(), pdfs.text("Follow-up in two weeks.")])


def code_of(data: bytes, limits: ReadLimits = LIMITS) -> str:
    """The code that the bytes end with."""
    with pytest.raises(DocumentError) as caught:
        read(data, limits)
    return caught.value.code


def document_of(content: Content) -> Document:
    """The content as a document."""
    source = Source(place="/in/a.pdf", relative="a.pdf", origin="/in/a.pdf")
    return readers.document(source, Blob(b"", "0" * 64), content)


# -- pages ---------------------------------------------------------------------------------------


def test_pages_of_text() -> None:
    """Text, line ends and all; a blank line between pages; each page's beginning."""
    found = read(pdfs.pdf([pdfs.text(*NOTE), pdfs.text("Café — 5 µg")]), LIMITS)
    assert found.text == "BP 160/95 mmHg (sitting).\nNo chest pain.\n\nCafé — 5 µg"
    assert found.pages == (0, found.text.index("Café"))
    assert (found.coverage, found.degraded, found.images) == ({"pages": (2, 2)}, (), ())


def test_a_scan_between_pages_of_text() -> None:
    """It comes as a picture of its page; the pages around it keep their numbers."""
    found = read(WHOLE, LIMITS)
    (image,) = found.images
    assert (image.page, image.label) == (2, "PAGE 2 of the document")
    assert (image.width, image.height) == (905, LONG_SIDE)
    assert len(image.rgb) == 3 * image.width * image.height
    assert found.coverage == {"pages": (3, 3)}
    document = document_of(found)
    assert document.page_of(0) == document.page_of(found.text.index("chest")) == 1
    assert document.page_of(found.text.index("Follow")) == 3


def test_a_picture_stands_upright_and_in_its_colours() -> None:
    """The dark bar of the scan is at the bottom; turned by the page, it is at the left."""
    turned = pdfs.scan()._replace(more="/Rotate 90")
    plain, side = read(pdfs.pdf([pdfs.scan(), turned]), LIMITS).images
    row = 3 * plain.width
    assert set(plain.rgb[: 3 * 100]) == {90} and set(plain.rgb[-row:]) == {10}
    assert (side.width, side.height) == (plain.height, plain.width)
    assert side.rgb[0] == 10 and side.rgb[3 * side.width - 1] == 90


def test_colour_is_rgb() -> None:
    """Red is red: PDFium's own order of bytes is the other one."""
    page = pdfs.Page(b"1 0 0 rg 0 0 300 842 re f")
    (image,) = read(pdfs.pdf([page]), LIMITS).images
    assert tuple(image.rgb[:3]) == (255, 0, 0) and tuple(image.rgb[-3:]) == (255, 255, 255)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((1e6, 1e6), (1280, 1280)),
        ((1e6, 1), (1280, 1)),
        ((20, 10), (80, 40)),
        ((1, 1), (4, 4)),
    ],
    ids=str,
)
def test_any_size_of_page(size: tuple[float, float], shown: tuple[int, int]) -> None:
    """A picture is bounded, whatever the page measures, and is never empty."""
    page = pdfs.Page(f"0 0 {size[0] / 2} {size[1]} re f".encode(), size=size)
    images = read(pdfs.pdf([page, pdfs.text("x")]), LIMITS).images
    assert [(image.width, image.height) for image in images] == [shown]


def test_a_stamp_does_not_hide_the_scan() -> None:
    """A fax's header is text, and the page is a picture all the same; much text is enough."""
    header = b"BT /F1 9 Tf 20 820 Td (FAX 2024-02-29 12:00 P. 1) Tj ET\n"
    body = b"BT /F1 9 Tf 20 700 Td (" + b"The scan has been recognised. " * 6 + b") Tj ET\n"
    pages = [pdfs.scan(width=600, height=800, over=over) for over in (header, body)]
    found = read(pdfs.pdf(pages), LIMITS)
    assert [image.page for image in found.images] == [1]
    assert "FAX 2024-02-29" in found.text and "recognised" in found.text
    assert found.degraded == ("pictures_not_read:2",)


def test_a_logo_is_no_scan() -> None:
    """A small picture beside a few words changes nothing."""
    found = read(pdfs.pdf([pdfs.scan(over=pdfs.text("Seen today.").content)]), LIMITS)
    assert (found.text, found.images, found.degraded) == ("Seen today.", (), ())


def test_blank_pages_are_read() -> None:
    """Nothing on a page, or one colour alone: seen, and nobody is shown it."""
    white = pdfs.scan(shade=10)
    found = read(pdfs.pdf([pdfs.Page(), pdfs.text("x"), white, pdfs.Page()]), LIMITS)
    assert (found.coverage, found.images, found.text) == ({"pages": (4, 4)}, (), "x")
    assert found.pages == (0, 0, 1, 1) and document_of(found).page_of(0) == 2
    assert code_of(pdfs.pdf([pdfs.Page(), white])) == "no_text"


def test_a_picture_that_cannot_be_decoded_is_no_blank_page() -> None:
    """It draws nothing, and is counted as not read."""
    broken = pdfs.stream(
        b"nonsense",
        "/Type /XObject /Subtype /Image /Width 60000 /Height 60000 /BitsPerComponent 8"
        " /ColorSpace /DeviceRGB /Filter /FlateDecode",
    )
    page = pdfs.Page(b"q 595 0 0 842 0 0 cm /I Do Q", resources="/XObject << /I 3 0 R >>")
    found = read(pdfs.pdf([page, pdfs.text("x")], more=[broken]), LIMITS)
    assert (found.coverage, found.degraded) == ({"pages": (1, 2)}, ("pages_not_read:1",))


def test_a_page_that_cannot_be_loaded_is_counted() -> None:
    """The others are read; if there are no others, the file is damaged."""
    kids = b"/Kids [3 0 R 5 0 R] /Count 2"
    data = pdfs.pdf([pdfs.text("one"), pdfs.text("two")])
    lost = data.replace(kids, b"/Kids [3 0 R 9 0 R] /Count 2")
    assert lost != data
    found = read(lost, LIMITS)
    assert (found.text, found.degraded) == ("one", ("pages_not_read:2",))
    assert found.coverage == {"pages": (1, 2)}
    assert code_of(data.replace(kids, b"/Kids [8 0 R 9 0 R] /Count 2")) == "pdf_corrupt"


def test_pictures_are_bounded_together() -> None:
    """`max_pixels` counts over all pages; what is over it is not drawn, and is counted."""
    three = pdfs.pdf([pdfs.scan(), pdfs.scan(), pdfs.text("x"), pdfs.scan()])
    limits = LIMITS._replace(max_pixels=2 * 905 * 1280)
    found = read(three, limits)
    assert [image.page for image in found.images] == [1, 2]
    assert (found.coverage, found.degraded) == ({"pages": (3, 4)}, ("pages_not_read:4",))
    assert code_of(pdfs.pdf([pdfs.scan()]), LIMITS._replace(max_pixels=99)) == "too_many_pixels"


def test_text_does_not_depend_on_pixels() -> None:
    """Quotes can be found again, whatever was allowed for pictures then."""
    small = read(WHOLE, LIMITS._replace(max_pixels=1))
    assert (small.text, small.pages) == (read(WHOLE, LIMITS).text, read(WHOLE, LIMITS).pages)


def test_three_hundred_pages() -> None:
    """All of them, within seconds; each page's offset leads to it."""
    lines = [f"Line {i}: temperature 37.{i % 10} degrees, pulse {60 + i}." for i in range(40)]
    pages = [pdfs.text(f"Day {day}", *lines) for day in range(1, 301)]
    started = time.process_time()
    found = read(pdfs.pdf(pages), LIMITS)
    assert time.process_time() - started < 20
    assert found.coverage == {"pages": (300, 300)} and len(found.pages) == 300
    document = document_of(found)
    for day in (1, 2, 150, 300):
        at = found.text.index(f"Day {day}\n")
        assert found.pages[day - 1] == at and document.page_of(at + 3000 % 1500) == day


# -- forms, comments, attachments ----------------------------------------------------------------


def _field(name: str, at: int, more: str) -> str:
    rect = f"/Rect [100 {at} 400 {at + 20}]"
    return f"/Subtype /Widget /FT /Tx /T ({name}) /DA (/Helv 12 Tf 0 g) {rect} {more}"


def test_what_a_form_was_filled_with_is_read() -> None:
    """With the look that the file has for it, or without one; hidden fields are not."""
    data = pdfs.form(
        _field("a", 600, "/V (x) /AP << /N 3 0 R >> /F 4"),
        _field("b", 500, "/V (No known allergies) /F 4"),
        _field("c", 400, "/V (hidden value) /F 2"),
    )
    assert read(data, LIMITS).text == "Form:\nAllergic to penicillin\nNo known allergies"


def test_words_on_the_page_are_read_and_comments_are_told_of() -> None:
    """Free text stands on the page; a note behind its icon, or on a highlight, does not."""
    marked = "/Rect [10 40 30 60] /QuadPoints [10 60 30 60 10 40 30 40]"
    data = pdfs.form(
        "/Subtype /FreeText /Contents (Stop warfarin) /DA (/Helv 12 Tf 0 g) "
        "/Rect [100 600 400 620] /AP << /N 3 0 R >>",
        "/Subtype /Text /Contents (behind an icon) /Rect [10 10 30 30]",
        f"/Subtype /Highlight /Contents (why) {marked}",
        f"/Subtype /Highlight {marked}",
        "/Subtype /Link /Contents (a link) /Rect [10 80 30 90]",
    )
    found = read(data, LIMITS)
    assert "Allergic to penicillin" in found.text and "icon" not in found.text
    assert found.degraded == ("comments_not_read:2",)


def test_attachments_are_counted_and_left() -> None:
    """A file in the file is nothing that was read."""
    inner = pdfs.stream(b"inner secret", "/Type /EmbeddedFile")
    spec = b"<< /Type /Filespec /F (a.txt) /EF << /F 3 0 R >> >>"
    names = "/Names << /EmbeddedFiles << /Names [(a.txt) 4 0 R] >> >>"
    found = read(pdfs.pdf([pdfs.text("x")], more=[inner, spec], catalog=names), LIMITS)
    assert (found.text, found.coverage) == ("x", {"pages": (1, 1), "attachments": (0, 1)})


def test_scripts_do_nothing() -> None:
    """What a file would run when it is opened is not run."""
    script = "/OpenAction << /S /JavaScript /JS (this.getField('a').value = 'changed';) >>"
    assert read(pdfs.pdf([pdfs.text("x")], catalog=script), LIMITS).text == "x"


def test_a_form_of_xml_is_told_of() -> None:
    """An XFA form shows a page that says "please wait": the form itself is not read."""
    data = pdfs.form(_field("a", 600, "/F 4"), catalog="/XFA 3 0 R >> /NeedsRendering true /Z <<")
    assert read(data, LIMITS).coverage["xfa_forms"] == (0, 1)


# -- broken and hostile files --------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_cut_short(share: float) -> None:
    """Fault 54: never what is left of a file as if it were the whole."""
    assert code_of(WHOLE[: int(len(WHOLE) * share)]) == "pdf_corrupt"


def test_cut_short_after_an_earlier_end() -> None:
    """A file that was added to has several ends; the last one counts."""
    added = WHOLE + b"9 0 obj\n" + b"x" * 5000
    assert code_of(added) == "pdf_corrupt"
    assert read(WHOLE + bytes(9000) + b"\r\n", LIMITS) == read(WHOLE, LIMITS)


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7\n%%EOF", b"Just words. %%EOF", b"%%EOF", pdfs.pdf([])], ids=len
)
def test_no_document(data: bytes) -> None:
    """No PDF at all, an empty one, and one of no pages."""
    assert code_of(data) == "pdf_corrupt"


@pytest.mark.parametrize("old", [b"startxref\n", b"\nxref\n"])
def test_a_damaged_table_is_mended_and_told(old: bytes) -> None:
    """The pages are found by looking through the file."""
    found = read(WHOLE.replace(old, old + b"9"), LIMITS)
    assert found.text == read(WHOLE, LIMITS).text
    assert found.degraded == ("xref_rebuilt",)


def test_a_password_is_needed() -> None:
    """Fault 52: nothing of it is read."""
    assert code_of(pdfs.pdf([pdfs.text("x")], user=b"secret")) == "pdf_encrypted"


def test_an_owners_password_is_not() -> None:
    """Fault 53: whoever may read it may read it here."""
    assert read(pdfs.pdf([pdfs.text(*NOTE)], user=b""), LIMITS).text == "\n".join(NOTE)


def test_one_file_is_not_told_of_as_the_one_before() -> None:
    """PDFium keeps its last reason: a file without pages has no password because another has."""
    assert code_of(pdfs.pdf([pdfs.text("x")], user=b"secret")) == "pdf_encrypted"
    assert code_of(pdfs.pdf([])) == "pdf_corrupt"


def test_too_many_pages() -> None:
    """Fault 57: over the limit nothing is read."""
    assert code_of(pdfs.same_page(20_000)) == "limit"
    assert code_of(pdfs.same_page(4), LIMITS._replace(max_pages=3)) == "limit"
    assert code_of(pdfs.same_page(3), LIMITS._replace(max_pages=3)) == "no_text"


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b"/Count 3", b"/Count 99999999"),
        WHOLE.replace(b"/Kids [", b"/Kids [2 0 R "),
        pdfs.pdf([pdfs.text("x", more="/Z " + "[" * 50_000 + "]" * 50_000)]),
        pdfs.pdf([pdfs.Page(b"[" * 100_000), pdfs.text("x")]),
    ],
    ids=["count", "loop", "deep", "open"],
)
def test_lies_and_depths(data: bytes) -> None:
    """A wrong count, a tree in a circle, nesting without end: what can be read is read."""
    with contextlib.suppress(DocumentError):
        assert read(data, LIMITS).text


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    """One reader process, with a second for each document."""
    with ReaderPool(1, seconds=1) as reading:
        yield reading


def outcome(pool: ReaderPool | InProcess, data: bytes, limits: ReadLimits = LIMITS) -> object:
    """The document, or the code that it ends with."""
    source = Source(place="/in/a.pdf", relative="a.pdf", origin="/in/a.pdf")
    blob = Blob(data, hashlib.sha256(data).hexdigest())
    try:
        return pool.submit(source, blob, limits).result(60)
    except DocumentError as error:
        return error.code


def test_the_same_from_a_process(pool: ReaderPool) -> None:
    """Text, pages, pictures with number and label: as if read here."""
    assert outcome(pool, WHOLE) == outcome(InProcess(), WHOLE)
    assert isinstance(outcome(pool, WHOLE), Document)


def test_hangs(pool: ReaderPool) -> None:
    """Fault 58: a page that would be drawn for hours ends at its time; the next file is read."""
    assert outcome(pool, pdfs.nested(12, 10)) == "timeout"
    assert isinstance(outcome(pool, WHOLE), Document)


def test_swells() -> None:
    """Fault 56: a page that unpacks to more than there may be; the next file is read."""
    limits = ReadLimits(max_bytes=1_000_000, max_pixels=1_200_000)
    with ReaderPool(1, seconds=30) as pool:
        assert outcome(pool, pdfs.swelling(200), limits) == "limit"
        assert isinstance(outcome(pool, pdfs.pdf([pdfs.text("x")]), limits), Document)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutations(data: st.DataObject) -> None:
    """A few bytes changed: a document or a code, and text that JSON can hold."""
    made = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(made) - 1))
        made[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        found = read(bytes(made), LIMITS)
    except DocumentError:
        return
    assert found.text.encode() is not None
    assert (
        sorted(found.pages) == list(found.pages) and len(found.pages) == found.coverage["pages"][1]
    )
