"""The images of examples: hashed when they are read, decoded when they are shown."""

from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.records import Document, Image, Source
from medgemma_cli.tuning.refusals import Bad, BadExample, reason


class Picture(NamedTuple):
    """An image file, and the SHA-256 of its bytes as they were when it was checked."""

    path: Path
    sha256: str


def picture(path: Any, folder: Path) -> Picture:
    """The image file of a path, read once for its hash.

    Raises:
        BadExample: it is none. DocumentError: it cannot be read.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise BadExample("an image has no path")
    source = _source(folder / path)
    known = Path(source.place).suffix.lower() in readers.SUFFIXES
    if not known or not readers.media_type(source).startswith("image/"):
        raise BadExample("an image is of no kind that is read here")
    return Picture(folder / path, readers.load(source, readers.ReadLimits()).sha256)


def _source(path: Path) -> Source:
    return Source(place=str(path), relative=path.name, origin=str(path))


def look(shown: Picture) -> Image:
    """The pixels of an image, decoded in this process: its bytes are those that were checked.

    Raises:
        DocumentError: as its reader says; ``unstable``, the file is another than before.
    """
    source, limits = _source(shown.path), readers.ReadLimits()
    blob = readers.load(source, limits)
    if blob.sha256 != shown.sha256:
        raise DocumentError("unstable")
    (image,) = readers.decode(source, blob, limits).images
    return image


def unreadable(shown: Iterable[tuple[int, Picture]]) -> list[Bad]:
    """The lines whose images cannot be decoded; each image is tried once, in another process.

    Args:
        shown: images with the numbers of their lines.
    """
    bad: dict[int, Bad] = {}
    seen: set[Picture] = set()
    with ReaderPool() as pool:
        for number, one in shown:
            try:
                if one not in seen and len(_decoded(pool, one).result().images) != 1:
                    raise DocumentError("format")
                seen.add(one)
            except DocumentError as error:
                bad.setdefault(number, Bad(number, reason(error)))
    return list(bad.values())


def _decoded(pool: ReaderPool, shown: Picture) -> "Future[Document]":
    source, limits = _source(shown.path), readers.ReadLimits()
    return pool.submit(source, readers.load(source, limits), limits)
