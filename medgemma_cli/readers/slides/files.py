"""The files of a slide: found and hashed piece by piece, since no slide fits in memory.

This runs in the main process; the pixels are decoded by `slides.read`, which opens the same files
again and sees that they are the same.
"""

import hashlib
import os
import stat
from typing import NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.readers.loading import told
from medgemma_cli.readers.slides import tiff

SUFFIXES = (".svs", ".ndpi", ".scn", ".bif", ".mrxs")
_PICTURES = (".tif", ".tiff")
_MIRAX = ".mrxs"
_TRIES = 3
_PIECE = 1 << 22
_MOST_FILES = 4096


class File(NamedTuple):
    """A file as it was when it was hashed; see `same`."""

    place: str
    size: int
    changed: int
    number: int


class SlideFiles(NamedTuple):
    """What is to be opened, and every file that stands behind it."""

    place: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)


def is_slide(place: str) -> bool:
    """Whether a file is to be read as a slide.

    A suffix of slides alone says so, since the first picture of such a file may be its label;
    under the suffixes of pictures the content does.
    """
    suffix = os.path.splitext(place)[1].lower()
    if suffix in SUFFIXES:
        return True
    if suffix not in _PICTURES:
        return False
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return regular and bool(tiff.is_slide(file))
    except (OSError, ValueError):
        return False


def load(place: str, limits: ReadLimits) -> tuple[str, SlideFiles]:
    """The hash of a slide in hexadecimal, and its files.

    Of a slide of one file it is the hash of that; of several (`.mrxs` and its folder), of their
    names and hashes.

    Raises:
        DocumentError: ``vanished``, ``unreadable``, ``read_error``, ``unsupported`` (no regular
            file), ``empty``, ``slide_too_large`` (all files together), ``unstable``.
    """
    with told():
        places = [place, *_companions(place)]
        found, hashes, left = [], [], limits.max_slide_bytes
        for one in places:
            digest, file = _hashed(one, left)
            left -= file.size
            found.append(file)
            hashes.append(digest)
    if found[0].size == 0:
        raise DocumentError("empty")
    files = SlideFiles(place, tuple(found))
    if len(found) == 1:
        return hashes[0], files
    names = [b"", *(os.fsencode(os.path.basename(one)) for one in places[1:])]
    lines = [b"%b %b" % (h.encode(), name) for h, name in zip(hashes, names, strict=True)]
    return hashlib.sha256(b"\n".join(lines)).hexdigest(), files


def _companions(place: str) -> list[str]:
    """The files in the folder beside a `.mrxs` that has its name, in order."""
    stem, suffix = os.path.splitext(place)
    if suffix.lower() != _MIRAX or not os.path.isdir(stem):
        return []
    with os.scandir(stem) as entries:
        names = [e.path for e in entries if e.is_file(follow_symlinks=False)]
    if len(names) > _MOST_FILES:
        raise DocumentError("slide_too_large")
    return sorted(names, key=os.fsencode)


def _hashed(place: str, most: int) -> tuple[str, File]:
    """One file, again (three times at most) if it changes underneath."""
    for _ in range(_TRIES):
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            before = _marked(place, os.fstat(descriptor))
            if before.size > most:
                raise DocumentError("slide_too_large")
            hashing, left = hashlib.sha256(), before.size + 1
            while left > 0 and (piece := file.read(min(left, _PIECE))):
                hashing.update(piece)
                left -= len(piece)
            if left == 1 and _marked(place, os.fstat(descriptor)) == before:
                return hashing.hexdigest(), before
    raise DocumentError("unstable")


def _marked(place: str, status: os.stat_result) -> File:
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError("unsupported")
    return File(place, status.st_size, status.st_mtime_ns, status.st_ino)


def check_same(files: SlideFiles) -> None:
    """See that the files are those that were hashed, as far as size, time and number tell.

    Raises:
        DocumentError: ``vanished``, ``unreadable``, ``read_error``; ``unstable``, one changed.
    """
    with told():
        same = all(_marked(one.place, os.stat(one.place)) == one for one in files.files)
    if not same:
        raise DocumentError("unstable")


def packed(files: SlideFiles) -> dict[str, object]:
    """As JSON takes it: a path may be no text."""
    return {"place": os.fsencode(files.place).hex(), "files": [_plain(f) for f in files.files]}


def _plain(file: File) -> list[object]:
    return [os.fsencode(file.place).hex(), *file[1:]]


def unpacked(made: dict[str, object]) -> SlideFiles:
    """What `packed` made."""
    files = made["files"]
    assert isinstance(files, list)
    every = tuple(File(_path(place), *rest) for place, *rest in files)
    return SlideFiles(_path(made["place"]), every)


def _path(name: object) -> str:
    return os.fsdecode(bytes.fromhex(str(name)))
