"""DICOM bytes → stored values, through pydicom and the decoders that are installed."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.dicom import tags
from medgemma_cli.readers.limits import ReadLimits

if TYPE_CHECKING:
    import numpy as np
    from pydicom import Dataset

# Nothing else of a header is even parsed: no name, number or date of a patient.
_WANTED_WORDS = """
    ImageType SOPClassUID Modality BodyPartExamined SeriesInstanceUID Laterality
    ImageLaterality BurnedInAnnotation SamplesPerPixel PhotometricInterpretation
    PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept
    RescaleType WindowCenter WindowWidth VOILUTFunction ModalityLUTSequence VOILUTSequence
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence ExtendedOffsetTable ExtendedOffsetTableLengths PixelData
    FloatPixelData DoubleFloatPixelData
"""
_WANTED = _WANTED_WORDS.split()
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# In this order, whatever else is installed: the same file gives the same pixels.
_PLUGINS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow", "gdcm")
LIBRARIES = ("pydicom", "numpy", "pyjpegls", "pylibjpeg-openjpeg", "pillow", "python-gdcm")
_EXTENDED = "1.2.840.10008.1.2.4.51"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Whatever is wrong with a file is its code: what pydicom says of it may quote it.

    Raises:
        DocumentError: ``dicom_corrupt``, for any error of the libraries; ``limit``.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg", "jpeg_ls")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:  # and with it those below
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DocumentError, MemoryError, ImportError):
        raise
    except Exception:
        raise DocumentError("dicom_corrupt") from None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def opened(data: bytes, limits: ReadLimits) -> "Dataset":
    """The header and the undecoded pixels of a file that has an image.

    Raises:
        DocumentError: ``not_dicom``; ``no_pixels``, a report, a plan or a wrapped PDF; ``limit``,
            it swells; ``dicom_corrupt``.
    """
    import pydicom

    if not tags.is_dicom(data):
        raise DocumentError("not_dicom")
    dataset = pydicom.dcmread(io.BytesIO(tags.plain(data, limits.max_bytes)), specific_tags=_WANTED)
    if not any(name in dataset for name in _PIXELS):
        # pydicom passes over an end that is missing: a header that speaks of pixels has lost them.
        lost = tags.ROWS in tags.scan(io.BytesIO(data))
        raise DocumentError("dicom_corrupt" if lost else "no_pixels")
    if size(dataset) < 1 or count(dataset) < 1:
        raise DocumentError("dicom_corrupt")
    return dataset


def size(dataset: "Dataset") -> int:
    """Pixels of one frame, by the header."""
    return int(dataset.Rows) * int(dataset.Columns)


def count(dataset: "Dataset") -> int:
    """Frames, by the header."""
    return int(dataset.get("NumberOfFrames") or 1)


def stored(dataset: "Dataset", index: int) -> "np.ndarray":
    """The stored values of one frame, (rows, columns) or (rows, columns, 3) in RGB.

    Raises:
        DocumentError: ``no_decoder``, nothing that is installed knows the compression;
            ``dicom_corrupt``, what knows it cannot decode the frame.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DocumentError("no_decoder") from None
    options: dict[str, Any] = {"raw": False, "index": index}
    if not syntax.is_encapsulated:
        return _native(dataset, decoder, options)
    able = [name for name in _PLUGINS if name in decoder.available_plugins]
    if syntax == _EXTENDED and int(dataset.BitsStored) > 8:
        able = [name for name in able if name != "pillow"]  # it has 8 bits only
    if not able:
        raise DocumentError("no_decoder")
    # GDCM ends the whole process at some damage, so it is asked only where nothing else can be.
    able = [name for name in able if name != "gdcm"] or able
    for name in able:
        # Another decoder may know a variant that the first does not.
        with contextlib.suppress(Exception):
            return _checked(decoder.as_array(dataset, decoding_plugin=name, **options)[0], dataset)
    raise DocumentError("dicom_corrupt")


def _native(dataset: "Dataset", decoder: Any, options: dict[str, Any]) -> "np.ndarray":
    import numpy as np

    bits, high = int(dataset.BitsStored), int(dataset.get("HighBit", dataset.BitsStored - 1))
    if high == bits - 1 or "PixelData" not in dataset:
        return _checked(decoder.as_array(dataset, **options)[0], dataset)
    # Allowed until 2010: values that do not begin at the lowest bit.
    shift = high + 1 - bits
    if shift < 0 or high >= int(dataset.BitsAllocated):
        raise DocumentError("dicom_corrupt")
    values = decoder.as_array(dataset, correct_unused_bits=False, **options)[0]
    values = (values.astype(np.int64) >> shift) & ((1 << bits) - 1)
    if dataset.PixelRepresentation == 1:
        values = np.where(values >> (bits - 1), values - (1 << bits), values)
    return _checked(values, dataset)


def _checked(array: "np.ndarray", dataset: "Dataset") -> "np.ndarray":
    if array.shape[:2] != (dataset.Rows, dataset.Columns) or array.shape[2:] not in ((), (3,)):
        raise DocumentError("dicom_corrupt")
    return array
