"""`Source` → bytes → `Document`. One module a format; `decode` picks it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from medgemma_cli.errors import DocumentError, NoInputError
from medgemma_cli.readers import (
    dicom,
    docx,
    image,
    mail,
    pdf,
    request,
    row,
    rtf,
    slides,
    text,
    web,
)
from medgemma_cli.readers.dicom import series as slices
from medgemma_cli.readers.dicom import terms
from medgemma_cli.readers.dicom.series import Series
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.readers.loading import load_file, sha256
from medgemma_cli.readers.slides import files as slide_files
from medgemma_cli.readers.slides.files import SlideFiles
from medgemma_cli.records import Document, Source, Which

__all__ = [
    "SUFFIXES",
    "Blob",
    "ReadLimits",
    "aborts",
    "about",
    "content",
    "decode",
    "document",
    "load",
    "media_type",
    "reader_version",
    "version",
]

_MODULES: tuple[Any, ...] = (text, image, pdf, dicom, docx, web, rtf, mail, slides)
MEDIA_TYPES: dict[str, str] = {
    suffix: kind for module in _MODULES for suffix, kind in module.MEDIA_TYPES.items()
}
SUFFIXES = frozenset(MEDIA_TYPES)
_READERS = {kind: module for module in _MODULES for kind in module.MEDIA_TYPES.values()}
_READERS[dicom.SERIES] = dicom
_READERS.update({row.TEXT: row, row.IMAGE: row, request.KIND: request})


class Blob(NamedTuple):
    """The bytes of one source as they were read, with their SHA-256 in hexadecimal.

    Of a series there are none: its files are read again, one by one, when they are decoded. Nor
    are there of a slide, which its reader opens itself. Those of a pair's earlier document are
    `prior`.
    """

    data: bytes
    sha256: str
    series: Series | None = None
    slide: SlideFiles | None = None
    prior: "Blob | None" = None

    @property
    def size(self) -> int:
        """Bytes of the source, of all its files."""
        apart = self.series or self.slide
        return len(self.data) if apart is None else apart.bytes

    @property
    def mark(self) -> str:
        """What stands for all of them in a key: the SHA-256, of a pair that of both in order."""
        if self.prior is None:
            return self.sha256
        return sha256(f"{self.prior.sha256} {self.sha256}".encode("ascii"))


def media_type(source: Source, blob: Blob | None = None) -> str:
    """The media type by file suffix; standard input is plain text.

    Whether a TIFF is a slide its content says: what was read of it, or, without, what is there.
    """
    if source.row is not None:
        return row.kind(source.row)
    if source.parts:
        return dicom.SERIES
    slide = slide_files.is_slide(source.place) if blob is None else blob.slide is not None
    if slide:
        return slides.KIND
    return MEDIA_TYPES.get(os.path.splitext(source.place)[1].lower(), "text/plain")


@lru_cache
def reader_version(kind: str) -> str:
    """Name and version of the reader of a media type, and of its libraries: part of every key."""
    reader = _READERS[kind]
    return " ".join([reader.VERSION, *_versions(getattr(reader, "LIBRARIES", ()))])


def _versions(libraries: tuple[str, ...]) -> Iterator[str]:
    """Those that are there: another one, or another version, may make other pixels."""
    from importlib import metadata

    for name in libraries:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield f"{name}/{metadata.version(name)}"


def version(source: Source, blob: Blob | None = None) -> str:
    """The version of the reader of a source, of a pair of both, and of how they are joined."""
    own = reader_version(media_type(source, blob))
    if source.prior is None:
        return own
    joined = "pair/1 masked" if source.masked else "pair/1"
    earlier = media_type(source.prior, blob.prior if blob else None)
    return f"{joined} {reader_version(earlier)} {own}"


@contextlib.contextmanager
def about(which: Which) -> Iterator[None]:
    """What goes wrong inside concerns this document of a pair."""
    try:
        yield
    except DocumentError as error:
        raise DocumentError(error.code, which) from None


def aborts(kind: str) -> bool:
    """Whether the library of a media type ends its process where it gets no more memory."""
    return bool(getattr(_READERS[kind], "ABORTS", False))


def load(source: Source, limits: ReadLimits) -> Blob:
    """Read the bytes of a source, again (three times at most) if they change underneath.

    Raises:
        DocumentError: the source's own error, ``vanished``, ``unreadable``, ``read_error``,
            ``unsupported`` (not a regular file), ``too_large`` (before reading) or ``unstable``;
            of a row, as `row.load`; of a slide, as `slides.files.load`; of a pair, with the
            document that it is about.
    """
    if source.prior is not None and not source.error:
        with about("prior"):
            prior = load(source.prior, limits)
        with about("current"):
            return load(source.model_copy(update={"prior": None}), limits)._replace(prior=prior)
    if source.error:
        raise DocumentError(source.error)
    if source.row is not None:
        data = row.load(source.row, os.path.dirname(source.place), limits)
        return Blob(data, sha256(data))
    if source.parts:
        digest, parts = slices.load(source.parts, limits)
        return Blob(b"", digest, parts)
    if slide_files.is_slide(source.place):
        digest, files = slide_files.load(source.place, limits)
        return Blob(b"", digest, slide=files)
    if source.place == "-":
        if sys.stdin is None:
            raise NoInputError("Standard input is closed.", "Pipe a document into it.")
        data = sys.stdin.buffer.read(limits.max_bytes + 1)
        if len(data) > limits.max_bytes:
            raise DocumentError("too_large")
    else:
        data = load_file(source.place, limits.max_bytes)
    return Blob(data, sha256(data))


def decode(source: Source, blob: Blob, limits: ReadLimits) -> Document:
    """The document in the bytes.

    Raises:
        DocumentError: a code of the reader, see its module.
    """
    if blob.slide is not None:
        return document(source, blob, slides.read(blob.slide, limits))
    if blob.series is None:
        return document(source, blob, content(media_type(source, blob), blob.data, limits))
    with slices.files(blob.series, limits) as files:
        found = dicom.read_series(files, blob.series.shown, limits)
    return document(source, blob, found)


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
    if blob.series is not None:
        content = blob.series.over(content)
    kind = media_type(source, blob)
    images = terms.captioned(content.images, content.header, content.coverage)
    if content.slide is not None:
        images = slides.captioned(images, content.slide, content.coverage[slides.UNIT][1])
    return Document(
        source=source,
        sha256=blob.sha256,
        bytes=blob.size,
        media_type=kind,
        text=content.text,
        images=images,
        coverage=content.coverage,
        degraded=content.degraded,
        pages=content.pages,
        header=content.header,
        request=request.parse(blob.data).request if kind == request.KIND else None,
        slide=content.slide,
    )
