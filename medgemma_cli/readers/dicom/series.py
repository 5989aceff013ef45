"""The slices of a CT or MR series: which files they are, in which order, and which are shown.

A folder's files of one SeriesInstanceUID are one document. This runs in the main process and sees
headers through `tags` alone; pixels are decoded in `volume`.
"""

import contextlib
import hashlib
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.dicom import tags, terms
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.readers.loading import load_file, sha256

SUFFIXES = (".dcm", ".dicom")
MOST = 85  # slices shown, as in Google's notebook on CT with MedGemma 1.5
_MODALITIES = (b"CT", b"MR")
_MARK = re.compile(r"series-[0-9a-f]{12}\.dcm")
_PARALLEL = 0.01  # how far the direction cosines of slices that belong together may differ
_MOST_SHAPES = 64


class Slice(NamedTuple):
    """A file that is sent to be decoded; `shown` is whether the model sees it."""

    place: str
    sha256: str
    shown: bool


class Series(NamedTuple):
    """What is read of a series: the slices to send in order, and what became of the others.

    `total` counts the slices of the series, without copies; `bytes` those of all its files.
    """

    slices: tuple[Slice, ...]
    total: int
    bytes: int
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> list[bool]:
        """For each slice to send, whether the model sees it."""
        return [one.shown for one in self.slices]

    def over(self, content: Content) -> Content:
        """What was decoded, beside what was never sent."""
        coverage = {terms.SERIES: (len(content.images), self.total)}
        return content._replace(coverage=coverage, degraded=(*self.notes, *content.degraded))


class _Found(NamedTuple):
    place: str
    sha256: str
    size: int
    header: dict[int, bytes]


def groups(places: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of files in one folder, those that belong together: by a mark that stands for the series.

    The mark is made of a hash of the SeriesInstanceUID, which is an identifier and stays inside.
    A series has two files at least; what cannot be opened belongs to none.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for place in places:
        if mark := _mark(_header(place)):
            found[mark].append(place)
    return {mark: tuple(files) for mark, files in found.items() if len(files) > 1}


def files_of(origin: str) -> tuple[str, ...]:
    """The files of a series by the path that its record has, as they are now; none if it is none.

    Raises:
        OSError: the folder cannot be read.
    """
    folder, name = os.path.split(origin)
    if not _MARK.fullmatch(name) or os.path.lexists(origin) or not os.path.isdir(folder):
        return ()
    with os.scandir(folder) as entries:
        files = [
            entry.path
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES)
            and not entry.name.startswith(".")
            and entry.is_file(follow_symlinks=False)
        ]
    return groups(sorted(files, key=os.fsencode)).get(name, ())


def _header(place: str) -> dict[int, bytes]:
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            return tags.scan(file)
    except OSError:
        return {}


def _mark(header: dict[int, bytes]) -> str:
    """``series-….dcm`` for a slice of CT or MR; empty for anything else."""
    uid = header.get(tags.SERIES, b"")
    one_frame = _number(header.get(tags.FRAMES)) in (None, 1.0)
    if not uid or not one_frame or header.get(tags.MODALITY) not in _MODALITIES:
        return ""
    return f"series-{hashlib.sha256(uid).hexdigest()[:12]}.dcm"


def load(places: Sequence[str], limits: ReadLimits) -> tuple[str, Series]:
    """Read every file of a series, one at a time; its hash, and what is to be shown of it.

    The hash is of the sorted hashes of the files: names and order of files have no part in it.

    Raises:
        DocumentError: as `load_file` for any of the files; ``unstable``, one is of another series
            by now; ``too_many_pixels``, not even one slice is within the limit.
    """
    found = []
    for place in places:
        data = load_file(place, limits.max_bytes)
        found.append(_Found(place, sha256(data), len(data), tags.scan(io.BytesIO(data))))
    if len({_mark(one.header) for one in found}) != 1:
        raise DocumentError("unstable")
    identity = hashlib.sha256("\n".join(sorted(one.sha256 for one in found)).encode())
    return identity.hexdigest(), _planned(found, limits)


def _planned(found: list[_Found], limits: ReadLimits) -> Series:
    distinct = _distinct(found)
    kept, notes = _alike(distinct)
    ordered, order = _ordered(kept)
    shape = _shape(ordered[0].header)
    most = min(MOST, limits.max_pixels // max(shape.rows * shape.columns, 1))
    if most < 1:
        raise DocumentError("too_many_pixels")
    shown = set(evenly(len(ordered), most))
    # Grey of MR spans the whole acquisition, so all of it is looked at.
    whole = ordered[0].header[tags.MODALITY] == b"MR"
    slices = [Slice(one.place, one.sha256, i in shown) for i, one in enumerate(ordered)]
    copies = len(found) - len(distinct)
    if copies:
        notes = [*notes, f"slices_twice:{copies}"]
    sent = tuple(one for one in slices if whole or one.shown)
    size = sum(one.size for one in found)
    return Series(sent, len(distinct), size, (*notes, *order))


def evenly(total: int, most: int) -> list[int]:
    """`most` of the numbers below `total`, evenly, the first and the last among them."""
    if total <= most:
        return list(range(total))
    if most == 1:
        return [total // 2]
    # Round half up, in whole numbers.
    return [(2 * i * (total - 1) + most - 1) // (2 * (most - 1)) for i in range(most)]


def _distinct(found: list[_Found]) -> list[_Found]:
    """Without further files of the same bytes or the same SOP instance; in a settled order."""
    seen: set[object] = set()
    kept = []
    for one in sorted(found, key=lambda one: one.sha256):
        marks = {one.sha256, one.header.get(tags.INSTANCE) or one.sha256}
        if not marks & seen:
            kept.append(one)
        seen |= marks
    return kept


def _alike(found: list[_Found]) -> tuple[list[_Found], list[str]]:
    """Without localizers, then those of the commonest size and direction; what was left out."""
    slices = [one for one in found if b"LOCALIZER" not in _type(one.header)]
    notes = []
    if not slices:
        slices = found
    elif len(slices) < len(found):
        notes.append(f"left_out:localizer:{len(found) - len(slices)}")
    kept = _commonest(slices)
    if len(kept) < len(slices):
        notes.append(f"left_out:shape:{len(slices) - len(kept)}")
    return kept, notes


def _type(header: dict[int, bytes]) -> list[bytes]:
    return [value.strip() for value in header.get(tags.IMAGE_TYPE, b"").upper().split(b"\\")]


class _Shape(NamedTuple):
    rows: int
    columns: int
    directions: tuple[float, ...]

    def like(self, other: "_Shape") -> bool:
        """The same size, and parallel."""
        if self[:2] != other[:2] or len(self.directions) != len(other.directions):
            return False
        pairs = zip(self.directions, other.directions, strict=True)
        return all(abs(a - b) < _PARALLEL for a, b in pairs)


def _shape(header: dict[int, bytes]) -> _Shape:
    rows, columns = (
        int.from_bytes(header.get(tag, b""), "little") for tag in (tags.ROWS, tags.COLUMNS)
    )
    return _Shape(rows, columns, _numbers(header.get(tags.ORIENTATION), 6))


def _commonest(slices: list[_Found]) -> list[_Found]:
    """The largest group of one shape; the first of equals, in the order given."""
    alike: list[tuple[_Shape, list[_Found]]] = []
    for one in slices:
        shape = _shape(one.header)
        members = next((those for like, those in alike if like.like(shape)), None)
        if members is not None:
            members.append(one)
        elif len(alike) < _MOST_SHAPES:
            alike.append((shape, [one]))
    return max(alike, key=lambda group: len(group[1]))[1]


def _ordered(slices: list[_Found]) -> tuple[list[_Found], list[str]]:
    """By position along the normal of the slices; where that is missing, by their numbers."""
    directions = _numbers(slices[0].header.get(tags.ORIENTATION), 6)
    positions = [_numbers(one.header.get(tags.POSITION), 3) for one in slices]
    numbers = [_number(one.header.get(tags.NUMBER)) for one in slices]
    if directions and all(positions):
        normal = _cross(directions[:3], directions[3:])
        keys = [sum(a * b for a, b in zip(p, normal, strict=True)) for p in positions]
        notes: list[str] = []
    elif None not in numbers:
        keys, notes = [number or 0.0 for number in numbers], ["order:instance_number"]
    else:
        keys, notes = [0.0] * len(slices), ["order:unknown"]
    full = [(key, n or 0.0, one.sha256) for key, n, one in zip(keys, numbers, slices, strict=True)]
    return [
        one for _, one in sorted(zip(full, slices, strict=True), key=lambda pair: pair[0])
    ], notes


def _cross(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _number(value: bytes | None) -> float | None:
    numbers = _numbers(value, 1)
    return numbers[0] if numbers else None


def _numbers(value: bytes | None, count: int) -> tuple[float, ...]:
    """So many finite numbers of a decimal string; none at all where it is anything else."""
    try:
        numbers = tuple(float(text) for text in (value or b"").split(b"\\"))
    except ValueError:
        return ()
    # Larger ones would overflow when they are multiplied.
    good = len(numbers) == count and all(math.isfinite(n) and abs(n) < 1e9 for n in numbers)
    return numbers if good else ()


@contextlib.contextmanager
def files(series: Series, limits: ReadLimits) -> Iterator[Iterator[bytes]]:
    """The bytes of each slice to send, read again; none, from the first that cannot be had on.

    Raises:
        DocumentError: at the end, as `load_file` for that one, whatever was made of the others;
            ``unstable`` where it has other bytes than before.
    """
    failures: list[str] = []
    try:
        yield _again(series, limits, failures)
    except DocumentError as error:
        raise DocumentError((failures or [error.code])[0]) from None
    if failures:
        raise DocumentError(failures[0])


def _again(series: Series, limits: ReadLimits, failures: list[str]) -> Iterator[bytes]:
    for one in series.slices:
        data = b""
        if not failures:
            try:
                data = load_file(one.place, limits.max_bytes)
                if sha256(data) != one.sha256:
                    raise DocumentError("unstable")
            except DocumentError as error:
                failures.append(error.code)
                data = b""
        yield data
