"""Images in requests: what kind they are by their first bytes, and out of base64."""

import base64
import binascii
import re

# The first bytes of each format, as its specification has them; WebP has its name behind a length.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"BM", ".bmp"),
    (b"RIFF", ".webp"),
)
_DICOM = (128, b"DICM")  # PS3.10, 7.1: behind a preamble of 128 bytes
_DATA_URL = re.compile(r"data:[a-z0-9.+/-]{0,100};base64,", re.IGNORECASE)


def suffix_of(data: bytes) -> str:
    """The ending that a file with these bytes would have; ``.png`` where nothing is known, since
    the reader of images says then what is wrong."""
    at, mark = _DICOM
    if data[at : at + len(mark)] == mark:
        return ".dcm"
    return next((suffix for start, suffix in _SIGNATURES if data.startswith(start)), ".png")


def from_base64(text: str) -> bytes:
    """The bytes of base64, or of a data URL of it. Nothing is ever fetched.

    Raises:
        ValueError: it is neither.
    """
    if text[:5].lower() == "data:":
        match = _DATA_URL.match(text)
        if match is None:
            raise ValueError("an image is base64, or a data URL with base64")
        text = text[match.end() :]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("an image is base64, or a data URL with base64") from None
