"""`Source` → bytes → `Document`. One module a format; `decode` picks it."""

import hashlib
import os
import stat
import sys
from functools import lru_cache
from typing import Any, NamedTuple

from medgemma_cli.errors import DocumentError, NoInputError
from medgemma_cli.readers import image, pdf, text
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.records import Document, Source

__all__ = [
    "SUFFIXES",
    "Blob",
    "ReadLimits",
    "aborts",
    "content",
    "decode",
    "document",
    "load",
    "media_type",
    "reader_version",
]

_MODULES: tuple[Any, ...] = (text, image, pdf)
MEDIA_TYPES: dict[str, str] = {
    suffix: kind for module in _MODULES for suffix, kind in module.MEDIA_TYPES.items()
}
SUFFIXES = frozenset(MEDIA_TYPES)
_READERS = {kind: module for module in _MODULES for kind in module.MEDIA_TYPES.values()}
_TRIES = 3


class Blob(NamedTuple):
    """The bytes of one source as they were read, with their SHA-256 in hexadecimal."""

    data: bytes
    sha256: str


def media_type(source: Source) -> str:
    """The media type by file suffix; standard input is plain text."""
    return MEDIA_TYPES.get(os.path.splitext(source.place)[1].lower(), "text/plain")


@lru_cache
def reader_version(kind: str) -> str:
    """Name and version of the reader of a media type, and of its libraries: part of every key."""
    from importlib.metadata import version

    reader = _READERS[kind]
    libraries = (f"{name}/{version(name)}" for name in getattr(reader, "LIBRARIES", ()))
    return " ".join([reader.VERSION, *libraries])


def aborts(kind: str) -> bool:
    """Whether the library of a media type ends its process where it gets no more memory."""
    return bool(getattr(_READERS[kind], "ABORTS", False))


def load(source: Source, limits: ReadLimits) -> Blob:
    """Read the bytes of a source, again (three times at most) if they change underneath.

    Raises:
        DocumentError: the source's own error, ``vanished``, ``unreadable``, ``read_error``,
            ``unsupported`` (not a regular file), ``too_large`` (before reading) or ``unstable``.
    """
    if source.error:
        raise DocumentError(source.error)
    if source.place == "-":
        if sys.stdin is None:
            raise NoInputError("Standard input is closed.", "Pipe a document into it.")
        data = sys.stdin.buffer.read(limits.max_bytes + 1)
        if len(data) > limits.max_bytes:
            raise DocumentError("too_large")
        return Blob(data, hashlib.sha256(data).hexdigest())
    try:
        for _ in range(_TRIES):
            data, still = _read_once(source, limits.max_bytes)
            if still:
                return Blob(data, hashlib.sha256(data).hexdigest())
    except FileNotFoundError:
        raise DocumentError("vanished") from None
    except PermissionError:
        raise DocumentError("unreadable") from None
    except OSError:
        raise DocumentError("read_error") from None
    raise DocumentError("unstable")


def _read_once(source: Source, max_bytes: int) -> tuple[bytes, bool]:
    # O_NONBLOCK so that a FIFO put in the file's place cannot hang the run.
    descriptor = os.open(source.place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise DocumentError("unsupported")
        if before.st_size > max_bytes:
            raise DocumentError("too_large")
        chunks = []
        remaining = max_bytes + 1
        while remaining > 0 and (chunk := os.read(descriptor, min(remaining, 1 << 20))):
            chunks.append(chunk)
            remaining -= len(chunk)
        data = b"".join(chunks)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return data, same and len(data) == after.st_size


def decode(source: Source, blob: Blob, limits: ReadLimits) -> Document:
    """The document in the bytes.

    Raises:
        DocumentError: a code of the reader, see its module.
    """
    return document(source, blob, content(media_type(source), blob.data, limits))


def content(kind: str, data: bytes, limits: ReadLimits) -> Content:
    """What the reader of a media type finds in the bytes.

    Raises:
        DocumentError: ``empty``, or a code of the reader, see its module.
    """
    if not data:
        raise DocumentError("empty")
    found: Content = _READERS[kind].read(data, limits)
    return found


def document(source: Source, blob: Blob, content: Content) -> Document:
    """What was found, with where it was found."""
    return Document(
        source=source,
        sha256=blob.sha256,
        bytes=len(blob.data),
        media_type=media_type(source),
        text=content.text,
        images=content.images,
        coverage=content.coverage,
        degraded=content.degraded,
        pages=content.pages,
    )
