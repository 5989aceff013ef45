"""Word, HTML, RTF and e-mail: what is read, what is told of, and what each broken one comes to."""

import socket
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office_kit import docx, mail, paragraph, part, zipped

from medgemma_cli import readers
from medgemma_cli.errors import FAULTS, DocumentError
from medgemma_cli.readers import Blob, ReadLimits
from medgemma_cli.readers.limits import Content
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.records import Source

DOCX = readers.MEDIA_TYPES[".docx"]
HTML, RTF, MAIL = "text/html", "application/rtf", "message/rfc822"
LIMITS = ReadLimits()
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PLAIN = "Content-Type: text/plain; charset=utf-8\r\n\r\n"
WEB = "Content-Type: text/html; charset=utf-8\r\n\r\n"
SCAN = "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nx"


def read(kind: str, data: bytes, limits: ReadLimits = LIMITS) -> Content:
    """What the reader of a kind finds."""
    return readers.content(kind, data, limits)


def code_of(kind: str, data: bytes, limits: ReadLimits = LIMITS) -> str:
    """The code that the bytes end with."""
    with pytest.raises(DocumentError) as caught:
        read(kind, data, limits)
    return caught.value.code


# -- Word ----------------------------------------------------------------------------------------


def test_word_text_and_tables() -> None:
    """Paragraphs with a blank line between them; a table's cells beside each other."""
    cells = "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in ("Na", "140 mmol/l"))
    found = read(DOCX, docx(f"{paragraph('Left knee.')}<w:tbl><w:tr>{cells}</w:tr></w:tbl>"))
    assert found.text.splitlines()[0] == "Left knee."
    assert found.text.splitlines()[-1].split() == ["Na", "140", "mmol/l"]
    assert found.coverage == {"characters": (len(found.text), len(found.text))}
    assert found.degraded == ()


def test_word_tracked_changes() -> None:
    """Fault 104: what was put in is read, what was taken out is not, and both are told of."""
    run = "<w:r><w:{0}>{1}</w:{0}></w:r>"
    added = f'<w:ins w:id="1">{run.format("t", "5 mg")}</w:ins>'
    gone = f'<w:del w:id="2">{run.format("delText", "50 mg")}</w:del>'
    found = read(DOCX, docx(f"<w:p>{added}{gone}</w:p>"))
    assert (found.text, found.degraded) == ("5 mg", ("tracked_changes:accepted",))


def test_word_tells_what_it_leaves_out() -> None:
    """Headers with words, comments and unknown elements are counted."""
    others = {
        "header1": part("hdr", paragraph("Ward 3")),
        "footer1": part("ftr", "<w:p/>"),
        "comments": part("comments", '<w:comment w:id="1"/><w:comment w:id="2"/>'),
    }
    found = read(DOCX, docx(f"{paragraph('Note')}<w:unheard/>", **others))
    assert set(found.degraded) == {
        "headers_not_read:1",
        "comments_not_read:2",
        "elements_not_read:1",
    }


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (OLE + bytes(64) + "EncryptedPackage".encode("utf-16-le"), "office_encrypted"),
        (OLE + bytes(64), "office_corrupt"),
        (b"PK\x03\x04 nothing more", "office_corrupt"),
        (docx(paragraph("x"))[:-40], "office_corrupt"),
        (docx("<w:broken>"), "office_corrupt"),
        (zipped(other="<a/>"), "office_corrupt"),
        (docx(""), "no_text"),
        (docx("<w:p>" * 5000 + "</w:p>" * 5000), "limit"),
    ],
    ids=["password", "old", "no zip", "cut", "xml", "other", "blank", "deep"],
)
def test_word_damage(data: bytes, code: str) -> None:
    """Fault 101: each broken file has its code."""
    assert code_of(DOCX, data) == code


def test_word_bomb() -> None:
    """Fault 102: XML that would swell over the limit is not unpacked."""
    data = docx(paragraph("x") + " " * 3_000_000)
    assert len(data) < 10_000
    assert code_of(DOCX, data, ReadLimits(max_bytes=2_000_000)) == "limit"


def test_word_entities() -> None:
    """Fault 103: a part that declares entities is refused, in UTF-8 and in UTF-16."""
    evil = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>'
    assert code_of(DOCX, docx(paragraph("x"), styles=evil)) == "office_corrupt"
    assert code_of(DOCX, zipped(document=evil)) == "office_corrupt"


# -- HTML ----------------------------------------------------------------------------------------


def test_web_shows_what_a_browser_shows() -> None:
    """No scripts, comments or hidden text; the text around them stays; tables in columns."""
    page = """<html><head><title>t</title><style>x</style></head><body><!-- c -->One
    <?xml:namespace x ?>two<script>three()</script><p style="display:none">four</p>
    <table><tr><td>Na<td>140</tr><tr><td>K<td>4.1</tr></table>"""
    found = read(HTML, page.encode())
    assert found.text == "One two\nNa  140\nK   4.1"


@pytest.mark.parametrize("sign", ["\x01", "\x0b", "\x0c", "\x1c", "\x1f", "\ufffe", "\uffff"])
def test_web_with_signs_that_xml_has_not(sign: str) -> None:
    """They stand for nothing that is seen; beside a table they ended the reader once."""
    page = f"<p>Dry{sign}cough<table><tr><td>Na<td>140</table>{sign}ul><li>a<li>b</ul>"
    text = read(HTML, page.encode()).text
    assert text.split() == ["Dry", "cough", "Na", "140", "ul>", "*", "a", "*", "b"]


def test_web_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 105: pictures and frames are counted; no socket is made."""
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("a socket"))
    page = b'<link href="http://x/a.css"><p>One<img src="http://x/y.png"><iframe src="http://x/">'
    assert read(HTML, page).degraded == ("pictures_not_read:1", "frames_not_read:1")


@pytest.mark.parametrize("label", ["iso-8859-1", "windows-1252", "latin1"])
def test_web_declared_encoding(label: str) -> None:
    """Latin-1 means windows-1252, as the standard says."""
    page = f'<meta http-equiv="Content-Type" content="text/html; charset={label}"><p>5 € Señora'
    assert read(HTML, page.encode("cp1252")).text == "5 € Señora"


def test_web_option_over_declaration() -> None:
    """`--encoding` is what the user knows."""
    page = '<meta charset="utf-8"><p>Señora'.encode("cp1252")
    assert read(HTML, page, ReadLimits(encoding="cp1252")).text == "Señora"
    assert code_of(HTML, page) == "encoding"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<p>Se\xf1ora", "encoding"),
        (b"<meta charset=klingon><p>x", "encoding"),
        (b"<p>a\0b", "not_text"),
        ("<p>a\0b".encode("utf-16"), "not_text"),
        (b"<p> </p><script>x</script>", "no_text"),
        (b"<!-- x -->", "no_text"),
        (b"<div>" * 3000 + b"deep", "limit"),
    ],
)
def test_web_damage(data: bytes, code: str) -> None:
    """Fault 106: each page that cannot be read whole has its code."""
    assert code_of(HTML, data) == code


# -- RTF -----------------------------------------------------------------------------------------


def test_rich_text() -> None:
    """Code page, Unicode with its stand-in, pairs of halves, braces, tables."""
    data = (
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}\f0 Caf\'e9 \u8364?5 \{b\}\par "
        b"raw \xe9" + rb"\par Na\cell 140\cell\row\u-10179?\u-8704?}"
    )
    assert read(RTF, data).text == "Café €5 {b}\nraw é\nNa|140|\n😀"


def test_rich_text_tells_what_it_leaves_out() -> None:
    """Pictures and headers are not read, deleted text is."""
    found = read(RTF, rb"{\rtf1 {\header H}{\pict ff}One {\deleted two}}")
    assert found.text == "One two"
    assert found.degraded == ("pictures_not_read:1", "headers_not_read:1", "deleted_text_read:1")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"plain words", "office_corrupt"),
        (rb"{\rtf1 cut {\b short", "office_corrupt"),
        (rb"{\rtf1 }", "no_text"),
        (rb"{\rtf1\ansi\ansicpg1252 \'81}", "encoding"),
        (rb"{\rtf1 \u-10179?}", "encoding"),
    ],
)
def test_rich_text_damage(data: bytes, code: str) -> None:
    """Fault 107: each broken file has its code."""
    assert code_of(RTF, data) == code


# -- e-mail --------------------------------------------------------------------------------------


def test_mail() -> None:
    """What stands in its head, a blank line, its text; an encoded subject is decoded."""
    head = "From: Ann <a@example.org>\r\nX-Spam: no\r\nSubject: =?utf-8?q?Caf=C3=A9?=\r\n"
    found = read(MAIL, f"{head}{PLAIN}Knee: Señora.\r\n".encode())
    assert found.text == "From: Ann <a@example.org>\nSubject: Café\n\nKnee: Señora."


def test_mail_attachments_are_counted() -> None:
    """Fault 108: files and mails within it are not opened."""
    inner = "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nsecret"
    found = read(MAIL, mail(f"{PLAIN}One", SCAN, inner, f"{PLAIN}Two"))
    assert found.text.endswith("\n\nOne\n\nTwo")
    assert found.coverage["attachments"] == (0, 2)
    assert found.degraded == ("attachments_not_opened:2",)


def test_mail_alternatives() -> None:
    """The plain form; the other one where that is blank."""
    both = mail(f"{WEB}<p>As <b>HTML</b>", f"{PLAIN}As text", kind="multipart/alternative")
    assert read(MAIL, both).text.endswith("\n\nAs text")
    one = mail(f"{PLAIN} ", f"{WEB}<p>As <b>HTML</b>", kind="multipart/alternative")
    assert read(MAIL, one).text.endswith("\n\nAs HTML")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no head at all", "office_corrupt"),
        (mail(f"{PLAIN}One")[:-10], "office_corrupt"),
        (mail(f"{PLAIN[:-2]}Content-Transfer-Encoding: base64\r\n\r\nQUJ"), "office_corrupt"),
        (mail(SCAN), "no_text"),
        (mail("Content-Type: text/plain; charset=utf-\0\0\r\n\r\nOne"), "encoding"),
        (mail("Content-Type: text/plain; charset=klingon\r\n\r\nx"), "encoding"),
        (b"Subject: a\n\nSe\xf1ora", "encoding"),
        (b"Subject: a\nContent-Type: application/pkcs7-mime\n\nAAAA", "office_encrypted"),
        (mail(PLAIN, kind="multipart/encrypted"), "office_encrypted"),
    ],
)
def test_mail_damage(data: bytes, code: str) -> None:
    """Fault 109: each one that cannot be read whole has its code."""
    assert code_of(MAIL, data) == code


# -- all of them ---------------------------------------------------------------------------------

GOOD = {
    DOCX: docx(paragraph("Left knee.")),
    HTML: b"<p>Left knee.",
    RTF: rb"{\rtf1 Left knee.}",
    MAIL: mail(f"{WEB}<p>Left knee.", SCAN),
}


@pytest.mark.parametrize(("kind", "module"), [(DOCX, "mammoth"), (HTML, "lxml"), (RTF, "striprtf")])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, kind: str, module: str) -> None:
    """Fault 110: the code says what to install."""
    for name in [n for n in sys.modules if n.partition(".")[0] in (module, "inscriptis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.striprtf", None)
    assert code_of(kind, GOOD[kind]) == "no_converter"


def test_in_reader_processes() -> None:
    """Every kind is read in a process with limits, as it is here."""
    with ReaderPool(1) as pool:
        for suffix, kind in ((".docx", DOCX), (".htm", HTML), (".rtf", RTF), (".eml", MAIL)):
            source = Source(place=f"/in/a{suffix}", relative="a", origin="/in/a")
            found = pool.submit(source, Blob(GOOD[kind], "0" * 64), LIMITS).result(60)
            assert (found.media_type, found.text) == (kind, read(kind, GOOD[kind]).text)


@given(st.data(), st.sampled_from(sorted(GOOD)))
@settings(max_examples=150, deadline=None)
def test_mutated(data: st.DataObject, kind: str) -> None:
    """Bytes changed anywhere: a text, or a code."""
    changed = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    found: Content | None
    try:
        found = read(kind, bytes(changed), ReadLimits(max_bytes=1_000_000))
    except DocumentError as error:
        code = error.code
        found = None
    assert found.text.strip() if found else FAULTS[code].status == "rejected"


def test_versions_are_part_of_keys() -> None:
    """Another release of a converter may make another text."""
    assert "mammoth/" in readers.reader_version(DOCX)
    assert "striprtf/" in readers.reader_version(RTF)
