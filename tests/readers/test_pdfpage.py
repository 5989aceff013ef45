"""The text of a page: what it says, in its order, and nothing where it says nothing."""

import pdfs
import pytest

from medgemma_cli.readers import ReadLimits
from medgemma_cli.readers.pdf import read

LINES = (b"first line", b"second line", b"third line")
SHOWN = "first line\nsecond line\nthird line"


def read_text(data: bytes) -> str:
    """The text of a file."""
    return read(data, ReadLimits()).text


def turned(matrix: bytes, more: str) -> bytes:
    """A file of three lines that are written along a matrix."""
    lines = b"".join(b"(" + line + b") Tj T*\n" for line in LINES)
    content = b"BT /F1 12 Tf " + matrix + b" Tm 14 TL\n" + lines + b"ET"
    return pdfs.pdf([pdfs.Page(content, more=more)])


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize(
    "matrix",
    [b"1 0 0 1 50 700", b"0 1 -1 0 100 100", b"-1 0 0 -1 500 700", b"0 -1 1 0 100 700"],
    ids=["upright", "left", "down", "right"],
)
def test_lines_keep_their_order(matrix: bytes, rotate: int) -> None:
    """However text and page are turned: lines apart, from the first to the last."""
    assert read_text(turned(matrix, f"/Rotate {rotate}")) == SHOWN


def test_what_is_cropped_away_is_not_read() -> None:
    """Nobody sees it on the page, so nothing may be quoted of it; a picture lacks it, too."""
    lines = ("kept one", "kept two", "cropped three", "cropped four")
    for more in ("", "/Rotate 90"):
        page = pdfs.text(*lines, more=f"{more} /CropBox [0 760 595 842]")
        assert read_text(pdfs.pdf([page])) == "kept one\nkept two"


def test_text_beside_the_page_is_not_read() -> None:
    """Also where nothing is cropped."""
    content = pdfs.text("seen").content + pdfs.text("unseen", at=(50, 900)).content
    assert read_text(pdfs.pdf([pdfs.Page(content)])) == "seen"


def test_from_right_to_left() -> None:
    """Hebrew is drawn from the left and read in its own order, numbers in theirs."""
    assert read_text(pdfs.glyphs("שלום עולם"[::-1])) == "שלום עולם"


@pytest.mark.parametrize(
    ("drawn", "said"),
    [("ﬁndings, ﬂow, ﬀ, ﬃ", "findings, flow, ff, ffi"), ("😀 µg ≥5 Ω", "😀 µg ≥5 Ω")],
)
def test_signs(drawn: str, said: str) -> None:
    """Ligatures are letters; what lies beyond the first plane is one character."""
    assert read_text(pdfs.glyphs(drawn)) == said


def test_divided_words_keep_their_hyphen() -> None:
    """PDFium joins the halves; a range of doses is no word and stays on its lines."""
    page = pdfs.text("We gave metfor-", "min, a dose of 5-", "10 mg, for non-", "Hodgkin lymphoma.")
    assert read_text(pdfs.pdf([page])) == (
        "We gave metfor-min, a dose of 5-\n10 mg, for non-Hodgkin lymphoma."
    )


def test_the_order_is_the_files() -> None:
    """Row by row, cells share a line; a table that was written column by column is read so."""
    rows = b"(Sodium) Tj 300 0 Td (140 mmol/l) Tj -300 -14 Td (Potassium) Tj 300 0 Td (4.1 mmol/l)"
    columns = b"(Sodium) Tj 0 -14 Td (Potassium) Tj 300 14 Td (140 mmol/l) Tj 0 -14 Td (4.1 mmol/l)"
    first, second = (
        read_text(pdfs.pdf([pdfs.Page(b"BT /F1 12 Tf 50 700 Td " + table + b" Tj ET")]))
        for table in (rows, columns)
    )
    assert first == "Sodium 140 mmol/l\nPotassium 4.1 mmol/l"
    assert second == "Sodium\nPotassium\n140 mmol/l\n4.1 mmol/l"


def test_what_cannot_be_shown_is_marked() -> None:
    """A character without a meaning among many is U+FFFD, and not taken out: 5?mg is not 5mg."""
    for bad in ("\0", "\x03", "\ufffd", "\ud800"):
        said = read_text(pdfs.glyphs(f"Give 5{bad}mg of it every day"))
        assert said == "Give 5\ufffdmg of it every day", repr(bad)


@pytest.mark.parametrize(
    ("drawn", "mapped"),
    [("Patient", False), ("\ue001\ue002\ue003 ab", True), ("\ufffd\ufffd\ufffdabc", True)],
    ids=["unmapped", "private", "replaced"],
)
def test_garbage_is_no_text(drawn: str, mapped: bool) -> None:
    """A font that does not say what it shows: the page is a picture, its text is not used."""
    found = read(pdfs.glyphs(drawn, mapped=mapped), ReadLimits())
    assert found.text == "" and [image.page for image in found.images] == [1]


def test_a_few_odd_signs_are_no_garbage() -> None:
    """Bullets of a symbol font stand before the lines of a list."""
    found = read(
        pdfs.glyphs("\uf0b7 Aspirin 100 mg daily \uf0b7 Ramipril 5 mg daily"), ReadLimits()
    )
    assert "Aspirin 100 mg" in found.text and found.images == ()
