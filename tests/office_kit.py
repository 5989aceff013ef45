"""Office files, written here part by part."""

import io
import zipfile

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}" Target="word/document.xml"/></Relationships>',
}


def paragraph(text: str) -> str:
    """A paragraph of one run."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def part(name: str, inside: str) -> str:
    """A part of WordprocessingML."""
    return f'<w:{name} xmlns:w="{_WORD}">{inside}</w:{name}>'


def docx(body: str, **others: str) -> bytes:
    """A Word file; `others` are further parts under word/, by name without suffix."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _PARTS.items():
            archive.writestr(name, text)
        archive.writestr("word/document.xml", part("document", f"<w:body>{body}</w:body>"))
        for name, text in others.items():
            archive.writestr(f"word/{name}.xml", text)
    return made.getvalue()


def zipped(**parts: str) -> bytes:
    """An archive of other parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in parts.items():
            archive.writestr(f"word/{name}.xml", text)
    return made.getvalue()


def mail(*parts: str, kind: str = "multipart/mixed") -> bytes:
    """A mail of several parts, each with its own head."""
    inside = "".join(f"--b\r\n{one}\r\n" for one in parts)
    head = f"From: Ann <a@example.org>\r\nSubject: Clinic\r\nContent-Type: {kind}; boundary=b\r\n"
    return f"{head}\r\n{inside}--b--\r\n".encode()
