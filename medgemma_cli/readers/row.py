"""A row of a table: its text, its image, or both. What it says is found by `readers.tables`.

A row's bytes are its own text alone, or a NUL, a head, the text and the image: so that its hash
knows nothing of the table around it.
"""

import json
import os
from typing import Any

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import dicom, image, request, text
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.readers.loading import load_file
from medgemma_cli.readers.slides.files import is_slide
from medgemma_cli.records import Row

TEXT = "text/x-table-row"
IMAGE = "image/x-table-row"
MEDIA_TYPES: dict[str, str] = {}
VERSION = f"row/1 {text.VERSION} {image.VERSION} {dicom.VERSION}"
LIBRARIES = dicom.LIBRARIES
_IMAGES: dict[str, str] = {**image.MEDIA_TYPES, **dicom.MEDIA_TYPES}
_READERS: dict[str, Any] = {
    **dict.fromkeys(image.MEDIA_TYPES.values(), image),
    **dict.fromkeys(dicom.MEDIA_TYPES.values(), dicom),
}


def kind(row: Row) -> str:
    """The media type of a row."""
    if row.request:
        return request.KIND
    return IMAGE if row.image else TEXT


def load(row: Row, folder: str, limits: ReadLimits) -> bytes:
    """The bytes of a row of a table in this folder; its image is read here.

    Raises:
        DocumentError: ``encoding`` (half a character), ``not_text`` (a NUL), ``too_large``,
            ``image_path`` (a URL, or out of the folder, over links too), ``image_missing``,
            ``unsupported``, or as `load_file`.
    """
    try:
        data = row.text.encode()
    except UnicodeEncodeError:
        raise DocumentError("encoding") from None
    if b"\0" in data:
        raise DocumentError("not_text")
    if len(data) > limits.max_bytes:
        raise DocumentError("too_large")
    if not row.image:
        return data
    place = _inside(folder, row.image)
    media_type = _IMAGES.get(os.path.splitext(place)[1].lower())
    # The first picture of a slide may be its label.
    if media_type is None or is_slide(place):
        raise DocumentError("unsupported")
    try:
        pixels = load_file(place, limits.max_bytes)
    except DocumentError as error:
        raise DocumentError("image_missing" if error.code == "vanished" else error.code) from None
    head = json.dumps({"image": media_type, "text": len(data)})
    return b"\0%b\n%b%b" % (head.encode("ascii"), data, pixels)


def _inside(folder: str, name: str) -> str:
    try:
        top, place = os.path.realpath(folder), os.path.realpath(os.path.join(folder, name))
    except (OSError, ValueError):  # a NUL, or a name that is no name
        raise DocumentError("image_path") from None
    if "://" in name or os.path.isabs(name) or os.path.commonpath([top, place]) != top:
        raise DocumentError("image_path")
    return place


def read(data: bytes, limits: ReadLimits) -> Content:
    """The text of a row, which was decoded with its table, and its image.

    Raises:
        DocumentError: a code of the image's reader or of the text's.
    """
    limits = limits._replace(encoding=None)
    if not data.startswith(b"\0"):
        return text.read(data, limits)
    line, _, rest = data[1:].partition(b"\n")
    head = json.loads(line)
    words, pixels = rest[: head["text"]], rest[head["text"] :]
    if not pixels:
        raise DocumentError("empty")
    found: Content = _READERS[head["image"]].read(pixels, limits)
    if not words.strip():
        return found
    written = text.read(words, limits)
    return found._replace(text=written.text, coverage={**written.coverage, **found.coverage})
