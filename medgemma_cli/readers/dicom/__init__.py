"""DICOM files, and CT and MR series, to 8-bit RGB and the few words of a header that are safe.

`tags` and `series` run in the main process and see headers only; the rest runs where bytes are
decoded.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.dicom import decoding, pixels, terms
from medgemma_cli.readers.dicom.series import MOST, evenly
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.records import Image

if TYPE_CHECKING:
    import numpy as np
    from pydicom import Dataset

MEDIA_TYPES = {".dcm": "application/dicom", ".dicom": "application/dicom"}
VERSION = "dicom/1"
LIBRARIES = decoding.LIBRARIES
SERIES = "multipart/related; type=application/dicom"
# Of a recording: 85 frames of CT or MR are a volume, elsewhere neighbours are much alike.
FRAMES = 16
_VOLUMES = ("CT", "MR")


def read(data: bytes, limits: ReadLimits) -> Content:
    """One file: its image, or of several frames so many, evenly, the first and the last too.

    Raises:
        DocumentError: ``not_dicom``, ``no_pixels``, ``too_many_pixels`` (by the header, before
            decoding), ``no_decoder``, ``dicom_corrupt``, ``limit``.
    """
    with decoding.quietly():
        dataset = decoding.opened(data, limits)
        total = decoding.count(dataset)
        most = MOST if _modality(dataset) in _VOLUMES else FRAMES
        most = min(most, limits.max_pixels // decoding.size(dataset))
        if most < 1:
            raise DocumentError("too_many_pixels")
        made = [_picture(dataset, index) for index in evenly(total, most)]
        # One file is one image; what a viewer would page through is counted in frames.
        coverage = {"images": (1, 1), terms.FRAMES: (len(made), total)}
        return _content(_header(dataset), made, coverage, _notes(dataset))


def read_series(files: Iterable[bytes], shown: Sequence[bool], limits: ReadLimits) -> Content:
    """The slices of a series, in order: those that are shown, and all for the extremes of MR.

    Args:
        files: the bytes of each slice, one `shown` each; taken one at a time.

    Raises:
        DocumentError: as `read`, where not one slice can be decoded; ``too_many_pixels``.
    """
    reading = _Volume(limits)
    for data, wanted in zip(files, shown, strict=True):
        reading.add(data, wanted)
    return reading.content()


class _Volume:
    """Slices on their way: CT as pictures at once, MR as stored values until all were seen."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._header: dict[str, str] | None = None
        self._shown: list[pixels.Picture | tuple[np.ndarray, Dataset]] = []
        self._low, self._high = float("inf"), float("-inf")
        self._pixels = 0
        self._notes: set[str] = set()
        self._faults: list[str] = []

    def add(self, data: bytes, wanted: bool) -> None:
        """One slice; one that cannot be decoded is counted."""
        try:
            with decoding.quietly():
                self._add(data, wanted)
        except DocumentError as error:
            if error.code == "too_many_pixels":
                raise
            self._faults.append(error.code)

    def _add(self, data: bytes, wanted: bool) -> None:
        dataset = decoding.opened(data, self._limits)
        self._pixels += decoding.size(dataset) if wanted else 0
        if max(self._pixels, decoding.size(dataset)) > self._limits.max_pixels:
            raise DocumentError("too_many_pixels")
        if _modality(dataset) != "MR" or dataset.get("SamplesPerPixel", 1) != 1:
            self._shown += [_picture(dataset, 0)] if wanted else []
        else:
            values, header = decoding.stored(dataset, 0), pixels.of_frame(dataset, 0)
            low, high = pixels.extremes(values, header)
            self._low, self._high = min(self._low, low), max(self._high, high)
            self._shown += [(values, header)] if wanted else []
        self._notes.update(_notes(dataset))
        if self._header is None:
            self._header = _header(dataset)

    def content(self) -> Content:
        """What was found in all of them."""
        if self._header is None or not self._shown:
            raise DocumentError(self._faults[0] if self._faults else "no_pixels")
        span = (self._low, self._high)
        made = []
        with decoding.quietly():
            for one in self._shown:
                if isinstance(one, pixels.Picture):
                    made.append(one)
                else:
                    made.append(pixels.render(*one, hounsfield=False, span=span))
        lost = [f"slices_unreadable:{len(self._faults)}"] if self._faults else []
        notes = (*lost, *sorted(self._notes))
        sent = len(made) + len(self._faults)
        return _content(self._header, made, {terms.SERIES: (len(made), sent)}, notes)


def _picture(dataset: "Dataset", index: int) -> pixels.Picture:
    header = pixels.of_frame(dataset, index)
    values = decoding.stored(dataset, index)
    return pixels.render(values, header, hounsfield=_hounsfield(header, dataset))


def _hounsfield(header: "Dataset", dataset: "Dataset") -> bool:
    """CT with a rescaling whose unit is HU, as it is unless it says another (PS3.3 C.8.2.1)."""
    unit = str(header.get("RescaleType") or "HU").upper()
    return _modality(dataset) == "CT" and "RescaleIntercept" in header and unit == "HU"


def _modality(dataset: "Dataset") -> str:
    return str(dataset.get("Modality", "")).strip()


def _notes(dataset: "Dataset") -> tuple[str, ...]:
    burned = str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES"
    return ("burned_in_annotation",) if burned else ()


def _header(dataset: "Dataset") -> dict[str, str]:
    part = str(dataset.get("BodyPartExamined") or "")
    header = terms.known(modality=_modality(dataset), body_part=part)
    # The image's own side is the later word, where it is one.
    for name in ("Laterality", "ImageLaterality"):
        header |= terms.known(laterality=str(dataset.get(name) or ""))
    return header


def _content(
    header: dict[str, str],
    made: list[pixels.Picture],
    coverage: dict[str, tuple[int, int]],
    notes: tuple[str, ...],
) -> Content:
    images = tuple(Image(width=one.width, height=one.height, rgb=one.rgb) for one in made)
    header = header | terms.known(rendering=made[0].rendering)
    return Content(images=images, coverage=coverage, degraded=notes, header=header)
