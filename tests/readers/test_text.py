"""The text reader: UTF-8 or what was said, never a guess."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.text import read


def code_of(data: bytes, encoding: str | None = None) -> str:
    """The code with which the reader refuses these bytes."""
    with pytest.raises(DocumentError) as caught:
        read(data, ReadLimits(encoding=encoding))
    return caught.value.code


@pytest.mark.parametrize("data", [b" ", b"\n\r\n\t ", " \u2003".encode(), codecs.BOM_UTF8])
def test_white_space_alone_is_no_text(data: bytes) -> None:
    """Fault 44: white space, also a byte order mark alone, is rejected: no_text."""
    assert code_of(data) == "no_text"


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01\0\0\0",
        b"note with one \0 in it",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"PK\x03\x04\x14\0\0\0",
        bytes(range(1, 32)) * 4,
    ],
)
def test_binary_is_not_text(data: bytes) -> None:
    """Fault 45: NUL bytes, or many control characters, are rejected: not_text."""
    assert code_of(data) == "not_text"


@pytest.mark.parametrize(
    "data", [b"page one\x0cpage two", b"\x1b[1mBold\x1b[0m report", b"a\tb\r\n"]
)
def test_terminal_exports_are_text(data: bytes) -> None:
    """Fault 45: form feeds, tabs and colour codes of old systems do not make a note binary."""
    assert read(data, ReadLimits()).text == data.decode()


def test_a_byte_order_mark_is_stripped() -> None:
    """Fault 46: the mark is no part of the text; offsets begin after it."""
    content = read(codecs.BOM_UTF8 + b"BP 120/80", ReadLimits())
    assert content.text == "BP 120/80"
    assert content.coverage == {"characters": (9, 9)}


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_utf_16_with_its_mark_is_read(mark: bytes, encoding: str) -> None:
    """Fault 47: UTF-16 and UTF-32 are read where a byte order mark says so."""
    text = "Señora, 5 µg 🩺\r\n"
    assert read(mark + text.encode(encoding), ReadLimits()).text == text


def test_utf_16_cut_in_the_middle_is_refused() -> None:
    """Fault 47: half a character at the end is not dropped silently."""
    assert code_of(codecs.BOM_UTF16_LE + b"a\0b") == "encoding"


def test_utf_16_without_a_mark_is_not_guessed() -> None:
    """Fault 45: without a mark it looks binary; the reader does not guess."""
    assert code_of("note".encode("utf-16-le")) == "not_text"


@pytest.mark.parametrize("data", [b"Se\xf1ora", b"caf\xe9 ", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5"])
def test_what_is_not_utf_8_is_refused(data: bytes) -> None:
    """Fault 48: Latin-1, surrogates and over-long forms are rejected: encoding."""
    assert code_of(data) == "encoding"


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"Se\xf1ora", "latin-1", "Señora"),
        (b"5 \x80", "cp1252", "5 €"),
        ("µg".encode("utf-16-le"), "utf-16-le", "µg"),
        (b"plain", "utf-8", "plain"),
    ],
)
def test_a_named_encoding_is_used(data: bytes, encoding: str, text: str) -> None:
    """Fault 48: with --encoding the same bytes are read as what they are."""
    assert read(data, ReadLimits(encoding=encoding)).text == text


def test_a_mark_outweighs_the_named_encoding() -> None:
    """Fault 46: one UTF-8 file with a mark among Latin-1 files is still read right."""
    data = codecs.BOM_UTF8 + "Señora".encode()
    assert read(data, ReadLimits(encoding="latin-1")).text == "Señora"


def test_a_named_encoding_that_does_not_fit_is_refused() -> None:
    """Fault 48: bytes that the named encoding lacks are rejected, not replaced."""
    assert code_of(b"caf\x81", "cp1252") == "encoding"


@pytest.mark.parametrize(("data", "encoding"), [(b"xn--a-..", "idna"), (b"a+2AA-b", "utf-7")])
def test_what_a_rare_codec_makes_of_bytes_is_text_or_refused(data: bytes, encoding: str) -> None:
    """Fault 48: a codec's own failure, or a lone surrogate it leaves, ends one document."""
    assert code_of(data, encoding) == "encoding"


def test_the_refusal_does_not_quote_the_bytes() -> None:
    """Fault 95: no text of the document hangs on the error or its causes."""
    with pytest.raises(DocumentError) as caught:
        read(b"Margaret Quill caf\xe9", ReadLimits())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "Quill" not in str(caught.value)


def test_line_ends_and_separators_stay() -> None:
    """Fault 51: U+2028, U+0085 and CRLF stay, so that offsets point into what was read."""
    text = "one\r\ntwo\u2028three\u2029four\x85five\n"
    content = read(text.encode(), ReadLimits())
    assert content.text == text
    assert content.coverage == {"characters": (len(text), len(text))}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_any_text_without_controls_comes_back(text: str) -> None:
    """Whatever UTF-8 can hold and has no control characters is read unchanged."""
    assert read(f"x{text}".encode(), ReadLimits()).text == f"x{text}"
