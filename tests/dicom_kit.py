"""DICOM files made with pydicom, for tests: nothing in them is of a person."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import dicom
from medgemma_cli.readers.limits import Content, ReadLimits

REAL = Path(__file__).parents[2] / "shared" / "data" / "images" / "dicom"
LIMITS = ReadLimits()
ROOT = "1.2.826.0.1.3680043.8.498."
_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


def dataset(values: Any, *, modality: str = "OT", **elements: Any) -> Dataset:
    """A data set with these stored values: (rows, columns) or (frames, rows, columns) of grey, or
    (rows, columns, 3) of uint8 in colour.
    """
    array = np.asarray(values)
    colour = array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = _CLASSES.get(modality, SecondaryCaptureImageStorage)
    made.SOPInstanceUID = UID(f"{ROOT}1")
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.Modality = modality
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    elif array.ndim == 3:
        made.NumberOfFrames = len(array)
    made.Rows, made.Columns = array.shape[:2] if colour else array.shape[-2:]
    made.BitsAllocated = made.BitsStored = 8 * array.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(array.dtype.kind == "i")
    data = array.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def saved(made: Dataset, **how: Any) -> bytes:
    """The bytes of its file."""
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True, **how)
    return buffer.getvalue()


def file(values: Any, **elements: Any) -> bytes:
    """The bytes of a file with these stored values."""
    return saved(dataset(values, **elements))


def deflated(made: Dataset) -> bytes:
    """The bytes of its file, deflated."""
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return saved(made)


def packed(made: Dataset, syntax: str, **how: Any) -> bytes:
    """The bytes of its file, compressed."""
    made.compress(syntax, generate_instance_uid=False, **how)
    return saved(made)


def slice_of(hounsfield: Any, position: float, **elements: Any) -> bytes:
    """An axial CT slice of whole Hounsfield units at a position, in millimetres."""
    values = (np.asarray(hounsfield) + 1024).astype(np.uint16)
    made = {
        "modality": "CT",
        "SeriesInstanceUID": f"{ROOT}2",
        "SOPInstanceUID": f"{ROOT}3.{round(position * 100) + 1_000_000}",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ImagePositionPatient": [-100, -100, position],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "InstanceNumber": 1,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "RescaleType": "HU",
    }
    return file(values, **(made | elements))


def write(folder: Path, files: Iterable[bytes], name: str = "slice-{:03}.dcm") -> list[str]:
    """The files in a folder; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    places = []
    for number, data in enumerate(files):
        path = folder / name.format(number)
        path.write_bytes(data)
        places.append(str(path))
    return places


def rgb(content: Content, index: int = 0) -> np.ndarray:
    """One image as (rows, columns, 3)."""
    image = content.images[index]
    return np.frombuffer(image.rgb, np.uint8).reshape(image.height, image.width, 3)


def grey(data: bytes, index: int = 0) -> np.ndarray:
    """One image of a file as (rows, columns); all its channels must be the same."""
    found = rgb(dicom.read(data, LIMITS), index)
    assert (found == found[..., :1]).all()
    return found[..., 0]


def code(data: bytes, limits: ReadLimits = LIMITS) -> str:
    """The code that a file ends with, or `ok`."""
    try:
        dicom.read(data, limits)
    except DocumentError as error:
        return error.code
    return "ok"
