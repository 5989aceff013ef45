"""Markdown and plain text. UTF-8, or what a byte order mark or `--encoding` says; never a guess."""

import codecs

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import Content, ReadLimits

VERSION = "text/1"
MEDIA_TYPES = {".md": "text/markdown", ".markdown": "text/markdown", ".txt": "text/plain"}

# Longest first: the UTF-32 mark begins with the UTF-16 one.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_SAMPLE = 8192


def mark_of(data: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning says, if there is one."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def read(data: bytes, limits: ReadLimits) -> Content:
    """Decode the bytes; line ends stay as they are, so that offsets point into what was read.

    Raises:
        DocumentError: ``not_text`` (NUL bytes, or a tenth of control characters),
            ``encoding`` (not what it should be), ``no_text`` (white space only).
    """
    encoding = mark_of(data)
    if encoding is None:
        encoding = limits.encoding or "utf-8"
        single_byte = not encoding.lower().startswith(("utf-16", "utf_16", "utf-32", "utf_32"))
        if single_byte and _is_binary(data):
            raise DocumentError("not_text")
    try:
        text = data.decode(encoding)
        if limits.encoding is not None:
            text.encode()  # some codecs make lone surrogates, which no JSON holds
    except UnicodeError:
        # `from None`: the original quotes the bytes.
        raise DocumentError("encoding") from None
    if not text.strip():
        raise DocumentError("no_text")
    return Content(text=text, coverage={"characters": (len(text), len(text))})


def _is_binary(data: bytes) -> bool:
    if b"\0" in data:
        return True
    sample = data[:_SAMPLE]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls * 10 > len(sample)
