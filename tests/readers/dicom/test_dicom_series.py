"""CT and MR series: which files, which order, which slices, and their pixels."""

import hashlib
import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_kit import LIMITS, ROOT, file, rgb, slice_of, write

from medgemma_cli import readers
from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.dicom.series import evenly, files_of, groups, load
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.readers.pool import ReaderPool
from medgemma_cli.records import Document, Source

WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    """One reader process."""
    with ReaderPool(1) as reading:
        yield reading


def source(places: list[str]) -> Source:
    """A series of these files."""
    place = os.path.join(os.path.dirname(places[0]), "series-0123456789ab.dcm")
    return Source(place=place, relative="s", origin=place, parts=tuple(places))


def document(places: list[str], limits: ReadLimits = LIMITS) -> Document:
    """A series, decoded here."""
    found = source(places)
    return readers.decode(found, readers.load(found, limits), limits)


def plane(value: float) -> np.ndarray:
    """A slice of one value."""
    return np.full((4, 5), value)


def firsts(made: Document) -> list[int]:
    """The red of each image's first pixel."""
    return [image.rgb[0] for image in made.images]


def mr(values: Any, position: float, **elements: Any) -> bytes:
    """An MR slice of stored values."""
    made = {
        "modality": "MR",
        "SeriesInstanceUID": f"{ROOT}4",
        "SOPInstanceUID": f"{ROOT}5.{position}",
        "ImagePositionPatient": [0, 0, position],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    }
    return file(np.asarray(values, np.uint16), **(made | elements))


def exact(value: int, low: int, high: int) -> int:
    """Clipped and scaled to 0 to 255 in fractions; halves go to the even number."""
    return round(Fraction(255 * (min(max(value, low), high) - low), high - low))


def test_ct_windows_are_exact(tmp_path: Path) -> None:
    """Every Hounsfield unit from -1100 to 2000, over slices: each channel is its own window."""
    units = np.arange(-1024, 2048).reshape(3, 32, 32)
    made = document(write(tmp_path, (slice_of(one, i) for i, one in enumerate(units))))
    assert made.coverage == {"slices": (3, 3)} and made.degraded == ()
    assert made.header == {"modality": "CT", "rendering": "ct-windows"}
    for one, image in zip(units, made.images, strict=True):
        shown = np.frombuffer(image.rgb, np.uint8).reshape(32, 32, 3)
        for channel, window in enumerate(WINDOWS):
            wanted = [exact(int(value), *window) for value in one.ravel()]
            assert shown[..., channel].ravel().tolist() == wanted


def test_order_is_of_positions(tmp_path: Path) -> None:
    """Not of names, and not of instance numbers."""
    units = {30.0: 300, -2.5: -600, 7.25: 0}
    files = [
        slice_of(plane(hu), z, InstanceNumber=number)
        for number, (z, hu) in enumerate(units.items())
    ]
    made = document(write(tmp_path, files))
    assert firsts(made) == [exact(hu, -1024, 1024) for hu in (-600, 0, 300)]


def test_order_along_the_normal(tmp_path: Path) -> None:
    """Sagittal slices are sorted along x, whatever their z."""
    files = [
        slice_of(
            plane(hu),
            hu,
            ImagePositionPatient=[x, 5, -hu],
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        )
        for x, hu in ((9, 200), (-9, 400), (0, 300))
    ]
    # The normal of these two directions is -x.
    assert firsts(document(write(tmp_path, files))) == [
        exact(v, -1024, 1024) for v in (200, 300, 400)
    ]


def test_order_of_numbers_without_positions(tmp_path: Path) -> None:
    """And a settled order without either; both are noted."""
    lost = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    files = [slice_of(plane(n), n, InstanceNumber=10 - n, **lost) for n in (0, 1, 2)]
    made = document(write(tmp_path / "a", files))
    assert made.degraded == ("order:instance_number",)
    assert firsts(made) == [exact(n, -1024, 1024) for n in (2, 1, 0)]
    none = [slice_of(plane(n), n, InstanceNumber=None, **lost) for n in (0, 1, 2)]
    made = document(write(tmp_path / "b", none))
    assert made.degraded == ("order:unknown",)
    again = document(write(tmp_path / "c", reversed(none)))
    assert firsts(made) == firsts(again) and made.sha256 == again.sha256


def test_85_slices_at_most(tmp_path: Path) -> None:
    """Evenly, the first and the last among them; the labels count those that are shown."""
    made = document(write(tmp_path, (slice_of(plane(10 * n), n) for n in range(100))))
    assert len(made.images) == 85 and made.coverage == {"slices": (85, 100)}
    reds = firsts(made)
    assert (reds[0], reds[-1]) == (exact(0, -1024, 1024), exact(990, -1024, 1024))
    assert [image.label for image in made.images] == [f"SLICE {k}" for k in range(1, 86)]
    assert made.images[0].introduction.startswith("85 of 100 slices of one series")
    assert not any(image.introduction for image in made.images[1:])


@pytest.mark.parametrize("total", [1, 2, 84, 85, 86, 100, 169, 170, 1000, 4321])
@pytest.mark.parametrize("most", [1, 2, 3, 16, 85])
def test_evenly(total: int, most: int) -> None:
    """So many at most, rising, both ends among them, gaps alike to one."""
    chosen = evenly(total, most)
    assert len(chosen) == min(total, most) and chosen == sorted(set(chosen))
    if most > 1:
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        gaps = {b - a for a, b in pairwise(chosen)}
        assert max(gaps, default=1) - min(gaps, default=1) <= 1


def test_fewer_slices_within_fewer_pixels(tmp_path: Path) -> None:
    """The limit on pixels takes slices away, evenly; not even one is too many pixels."""
    places = write(tmp_path, (slice_of(plane(n), n) for n in range(9)))
    made = document(places, ReadLimits(max_pixels=3 * 20))
    assert made.coverage == {"slices": (3, 9)}
    with pytest.raises(DocumentError, match="too_many_pixels"):
        load(places, ReadLimits(max_pixels=19))


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """Fault 121: localizers, slices of another size or direction, copies; none of them silently."""
    files = [slice_of(plane(n), n) for n in range(4)]
    scout = slice_of(plane(500), 90, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    larger = slice_of(np.full((8, 8), 500), 91)
    tilted = slice_of(plane(500), 92, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    made = document(write(tmp_path, [*files, scout, files[2], larger, tilted]))
    assert made.coverage == {"slices": (4, 7)}
    assert made.degraded == ("left_out:localizer:1", "left_out:shape:2", "slices_twice:1")
    assert firsts(made) == [exact(n, -1024, 1024) for n in range(4)]


def test_the_same_instance_twice(tmp_path: Path) -> None:
    """A copy with another comment is a copy."""
    files = [slice_of(plane(n), n) for n in range(3)]
    copy = slice_of(plane(1), 1, ImageComments="exported again")
    made = document(write(tmp_path, [*files, copy]))
    assert made.coverage == {"slices": (3, 3)} and "slices_twice:1" in made.degraded


def test_small_tilts_stay_together(tmp_path: Path) -> None:
    """Directions that differ by rounding are one direction."""
    files = [
        slice_of(plane(n), n, ImageOrientationPatient=[1, 0.0005 * (-1) ** n, 0, 0, 1, 0])
        for n in range(6)
    ]
    assert document(write(tmp_path, files)).coverage == {"slices": (6, 6)}


def test_only_localizers(tmp_path: Path) -> None:
    """A series of nothing else is shown."""
    scouts = [slice_of(plane(n), n, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]) for n in (0, 1)]
    assert document(write(tmp_path, scouts)).coverage == {"slices": (2, 2)}


def test_a_slice_that_cannot_be_decoded(tmp_path: Path) -> None:
    """Fault 120: it is left out and counted; a series without any good slice ends with its code."""
    good = [slice_of(plane(n), n) for n in range(3)]
    short = slice_of(plane(9), 9, PixelData=b"\0\0")
    made = document(write(tmp_path / "a", [*good, short]))
    assert made.coverage == {"slices": (3, 4)} and made.degraded == ("slices_unreadable:1",)
    bad = [slice_of(plane(n), n, PixelData=b"\0\0") for n in range(2)]
    with pytest.raises(DocumentError, match="dicom_corrupt"):
        document(write(tmp_path / "b", bad))


def test_mr_grey_spans_the_acquisition(tmp_path: Path) -> None:
    """Minimum to maximum of all slices, also of those that are not shown; no header's window."""
    files = [mr([[100, 100 + n], [200, 300]], n, WindowCenter=5, WindowWidth=2) for n in range(100)]
    hidden = min(set(range(100)) - set(evenly(100, 85)))
    files[hidden] = mr([[50, 100], [200, 560]], hidden)
    made = document(write(tmp_path, files))
    assert made.header == {"modality": "MR", "rendering": "minimum-maximum"}
    values = np.array([[100, 100], [200, 300]])
    wanted = np.rint((values - 50) * 255 / 510).astype(np.uint8)
    assert (rgb(Content({}, images=made.images))[..., 0] == wanted).all()


def test_identity(tmp_path: Path) -> None:
    """Of the bytes of all slices, whatever their names; one byte makes another."""
    files = [slice_of(plane(n), n) for n in range(3)]
    first = document(write(tmp_path / "a", files))
    renamed = document(write(tmp_path / "b", reversed(files), "IM{:05}.dcm"))
    hashes = "\n".join(sorted(hashlib.sha256(data).hexdigest() for data in files))
    assert first.sha256 == renamed.sha256 == hashlib.sha256(hashes.encode()).hexdigest()
    assert first.bytes == sum(map(len, files)) and first.images == renamed.images
    other = document(write(tmp_path / "c", [*files[:2], slice_of(plane(3), 2)]))
    assert other.sha256 != first.sha256


def test_a_process_makes_the_same(tmp_path: Path, pool: ReaderPool) -> None:
    """Of CT and of MR; after a failure it goes on with the next."""
    ct = write(tmp_path / "ct", (slice_of(plane(n), n) for n in range(6)))
    grey = write(tmp_path / "mr", (mr([[n, 2], [3, 4]], n) for n in range(6)))
    bad = write(tmp_path / "bad", (slice_of(plane(n), n, PixelData=b"\0\0") for n in range(2)))
    for places in (ct, grey):
        one = source(places)
        assert pool.submit(one, readers.load(one, LIMITS), LIMITS).result(60) == document(places)
        wrong = source(bad)
        with pytest.raises(DocumentError, match="dicom_corrupt"):
            pool.submit(wrong, readers.load(wrong, LIMITS), LIMITS).result(60)


@pytest.mark.parametrize("change", ["other", "gone"])
def test_changed_after_it_was_hashed(tmp_path: Path, pool: ReaderPool, change: str) -> None:
    """Fault 122: what is decoded is what was hashed, or it fails; the process lives on."""
    places = write(tmp_path, (slice_of(plane(n), n) for n in range(4)))
    one = source(places)
    blob = readers.load(one, LIMITS)
    if change == "gone":
        Path(places[1]).unlink()
    else:
        Path(places[1]).write_bytes(slice_of(plane(999), 1))
    wanted = "vanished" if change == "gone" else "unstable"
    with pytest.raises(DocumentError, match=wanted):
        readers.decode(one, blob, LIMITS)
    with pytest.raises(DocumentError, match=wanted):
        pool.submit(one, blob, LIMITS).result(60)
    whole = source([places[0], places[2]])
    assert pool.submit(whole, readers.load(whole, LIMITS), LIMITS).result(60).images


def test_slices_of_another_series_by_now(tmp_path: Path) -> None:
    """A file that was replaced between discovery and reading makes the series unstable."""
    places = write(tmp_path, (slice_of(plane(n), n) for n in range(3)))
    Path(places[1]).write_bytes(slice_of(plane(1), 1, SeriesInstanceUID=f"{ROOT}99"))
    with pytest.raises(DocumentError, match="unstable"):
        load(places, LIMITS)


def test_a_slice_over_the_limit_of_bytes(tmp_path: Path) -> None:
    """The limit is of each file: a series may be larger, a slice not."""
    files = [slice_of(plane(n), n) for n in range(3)]
    places = write(tmp_path, files)
    assert document(places, ReadLimits(max_bytes=len(files[0]))).bytes == 3 * len(files[0])
    with pytest.raises(DocumentError, match="too_large"):
        load(places, ReadLimits(max_bytes=len(files[0]) - 1))


def test_groups(tmp_path: Path) -> None:
    """By series, of CT and MR, of one frame each; one file is no series; no UID in a mark."""
    ct = write(tmp_path, (slice_of(plane(n), n) for n in range(3)), "a{}.dcm")
    magnetic = write(tmp_path, (mr([[n, 1]], n) for n in range(2)), "b{}.dcm")
    films = [slice_of(plane(n), n, modality="CR", SeriesInstanceUID=f"{ROOT}7") for n in (0, 1)]
    frames = [slice_of(np.zeros((2, 4, 4)), n, SeriesInstanceUID=f"{ROOT}8") for n in (0, 1)]
    alone = [slice_of(plane(0), 0, SeriesInstanceUID=f"{ROOT}9")]
    rest = write(tmp_path, [*films, *frames, *alone, b"no DICOM", b""], "c{}.dcm")
    found = groups([*ct, *magnetic, *rest, str(tmp_path / "gone.dcm"), str(tmp_path)])
    assert sorted(found.values()) == [tuple(ct), tuple(magnetic)]
    for mark, places in found.items():
        assert ROOT not in mark and files_of(str(tmp_path / mark)) == places
    assert files_of(str(tmp_path / "series-000000000000.dcm")) == ()
    assert files_of(ct[0]) == () and files_of(str(tmp_path / "nowhere" / "series-0.dcm")) == ()
