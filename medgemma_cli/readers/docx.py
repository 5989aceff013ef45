"""Word files through Mammoth and Inscriptis: paragraphs, lists, tables, text boxes and notes.

Macros are never run, nothing that a file links to is opened, no entity is resolved. Tracked
changes are read as accepted. Pictures, headers and footers, comments and embedded files are not
read: each is told of.
"""

import io
import re
import zipfile
from typing import Any

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import web
from medgemma_cli.readers.limits import Content, ReadLimits

MEDIA_TYPES = {".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}
VERSION = "docx/1"
LIBRARIES = ("mammoth", *web.LIBRARIES)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # MS-CFB: what a password makes of a .docx
_SEALED = "EncryptedPackage".encode("utf-16-le")  # the stream that has it, MS-OFFCRYPTO 2.3
_XML = (".xml", ".rels")
_MOST_PARTS = 10_000
_CHANGES = re.compile(rb"<w:(?:ins|del|moveFrom|moveTo) ")
_WORDS = re.compile(rb"<w:t[ >]")


def read(data: bytes, limits: ReadLimits) -> Content:
    """The text, of at most `limits.max_bytes` of XML unpacked.

    Raises:
        DocumentError: ``no_converter``, ``office_encrypted``, ``office_corrupt``, ``limit`` (it
            swells, or is nested too deeply), ``no_text``.
    """
    if data.startswith(_OLE):
        raise DocumentError("office_encrypted" if _SEALED in data else "office_corrupt")
    try:
        parts = _parts(data, limits.max_bytes)
    except RuntimeError:  # a part asks for a password
        raise DocumentError("office_encrypted") from None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, KeyError):
        raise DocumentError("office_corrupt") from None
    except Exception as error:  # zlib.error, and lzma's
        if type(error).__name__ not in ("error", "LZMAError"):
            raise
        raise DocumentError("office_corrupt") from None
    markup, notes = _converted(data)
    text, _ = web.convert(markup)
    if not text.strip():
        raise DocumentError("no_text")
    coverage = {"characters": (len(text), len(text))}
    if attached := sum(name.startswith("word/embeddings/") for name in parts):
        coverage["attachments"] = (0, attached)
        notes.append(f"attachments_not_opened:{attached}")
    return Content(text=text, coverage=coverage, degraded=(*notes, *_told(parts)))


def _parts(data: bytes, most: int) -> dict[str, bytes]:
    """The XML parts, each whole and within bounds; of other parts the names alone.

    Raises:
        DocumentError: ``limit``; ``office_corrupt``, one declares entities (no Word file does).
        zipfile.BadZipFile, OSError, …: as `zipfile` raises them.
    """
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        xml = [entry for entry in entries if entry.filename.lower().endswith(_XML)]
        # `zipfile` never unpacks more of a part than its entry says.
        if len(entries) > _MOST_PARTS or sum(entry.file_size for entry in xml) > most:
            raise DocumentError("limit")
        for entry in entries:
            found[entry.filename] = archive.read(entry) if entry in xml else b""
    for part in found.values():
        # In UTF-16 there is a NUL beside every letter.
        if b"<!DOCTYPE" in (bare := part.replace(b"\0", b"")) or b"<!ENTITY" in bare:
            raise DocumentError("office_corrupt")
    if "word/document.xml" not in found and "[Content_Types].xml" not in found:
        raise DocumentError("office_corrupt")
    return found


def _converted(data: bytes) -> tuple[str, list[str]]:
    """The file as HTML, with notes.

    Raises:
        DocumentError: ``no_converter``, ``office_corrupt``, ``limit``.
    """
    try:
        import mammoth
    except ImportError:
        raise DocumentError("no_converter") from None
    pictures: list[None] = []

    def leave_out(image: Any) -> list[Any]:
        pictures.append(None)
        return []

    try:
        result = mammoth.convert_to_html(
            io.BytesIO(data),
            convert_image=leave_out,
            include_embedded_style_map=False,  # a file's own could hide paragraphs
            external_file_access=False,
        )
    except RecursionError:
        raise DocumentError("limit") from None
    except (MemoryError, DocumentError):
        raise
    except Exception:  # Mammoth has no errors of its own: a damaged part ends in any kind
        raise DocumentError("office_corrupt") from None
    notes = [f"pictures_not_read:{len(pictures)}"] if pictures else []
    unknown = sum("unrecognised element" in message.message for message in result.messages)
    return result.value, [*notes, *([f"elements_not_read:{unknown}"] if unknown else [])]


def _told(parts: dict[str, bytes]) -> list[str]:
    """Notes on parts that have words and are not read, and on tracked changes."""
    notes = []
    heads = [name for name in parts if re.fullmatch(r"word/(?:header|footer)\d*\.xml", name)]
    if headers := sum(bool(_WORDS.search(parts[name])) for name in heads):
        notes.append(f"headers_not_read:{headers}")
    if comments := parts.get("word/comments.xml", b"").count(b"<w:comment "):
        notes.append(f"comments_not_read:{comments}")
    if _CHANGES.search(parts.get("word/document.xml", b"")):
        notes.append("tracked_changes:accepted")
    return notes
