"""Rich Text through striprtf: the running text, tables with bars between their cells.

Pictures, embedded objects, headers, footers and notes are not read, and text that is marked as
deleted is: each is told of. Nothing that a file links to is opened.
"""

import re

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import Content, ReadLimits

MEDIA_TYPES = {".rtf": "application/rtf"}
VERSION = "rtf/1"
LIBRARIES = ("striprtf",)
_HIGH = re.compile(rb"[\x80-\xff]")
_ESCAPED = re.compile(rb"\\[\\{}]")
# Control words of the RTF specification 1.9.1, and what is told of the text behind them.
_TOLD = {
    "pictures_not_read": rb"\\pict\b",
    "objects_not_read": rb"\\object\b",
    "headers_not_read": rb"\\(?:header|footer)[lrf]?\b",
    "notes_not_read": rb"\\footnote\b",
    "comments_not_read": rb"\\annotation\b",
    "text_boxes_not_read": rb"\\shptxt\b",
    "deleted_text_read": rb"\\deleted\b(?!0)",
}


def read(data: bytes, limits: ReadLimits) -> Content:
    """The text, in the code pages that the file names, else in `--encoding`, else windows-1252.

    Raises:
        DocumentError: ``no_converter``, ``office_corrupt`` (no RTF, or its groups do not close),
            ``encoding``, ``no_text``.
    """
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError:
        raise DocumentError("no_converter") from None
    if not data.lstrip().startswith(rb"{\rtf"):
        raise DocumentError("office_corrupt")
    whole = _ESCAPED.sub(b"", data)
    # Raw bytes may have any braces in them.
    if rb"\bin" not in data and whole.count(b"{") != whole.count(b"}"):
        raise DocumentError("office_corrupt")
    # RTF is ASCII: a byte above it is of the file's code page, as its escape would be.
    ascii_only = _HIGH.sub(lambda found: b"\\'%02x" % found.group()[0], data).decode("ascii")
    try:
        text = rtf_to_text(ascii_only, encoding=limits.encoding or "cp1252", errors="strict")
        # Characters beyond 16 bits come as two halves.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le").strip("\r\n\0 ")
    except (UnicodeError, LookupError):
        raise DocumentError("encoding") from None
    except (ValueError, OverflowError):  # a number out of all bounds
        raise DocumentError("office_corrupt") from None
    if not text.strip():
        raise DocumentError("no_text")
    coverage = {"characters": (len(text), len(text))}
    return Content(text=text, coverage=coverage, degraded=tuple(_told(data)))


def _told(data: bytes) -> list[str]:
    found = {name: len(re.findall(pattern, data)) for name, pattern in _TOLD.items()}
    return [f"{name}:{n}" for name, n in found.items() if n]
