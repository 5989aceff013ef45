"""Compressed pixels come back as they were; damage and other formats end with a code."""

import io
from importlib import util
from typing import Any

import numpy as np
import pytest
from dicom_kit import LIMITS, REAL, code, dataset, deflated, file, grey, packed, rgb, saved
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medgemma_cli import readers
from medgemma_cli.readers import dicom
from medgemma_cli.readers.dicom import decoding
from medgemma_cli.readers.limits import ReadLimits

VALUES = np.random.default_rng(5).integers(0, 4096, (64, 64)).astype(np.uint16)
PLAIN = grey(file(VALUES))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_lossless(syntax: str) -> None:
    """Each gives what the plain file gives, also in frames of which one is taken alone."""
    assert (grey(packed(dataset(VALUES), syntax)) == PLAIN).all()
    frames = np.stack([VALUES, VALUES[::-1], VALUES.T])
    assert (grey(packed(dataset(frames), syntax), 1) == PLAIN[::-1]).all()


def test_other_encodings() -> None:
    """Implicit, and deflated."""
    implicit = dataset(VALUES)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert (grey(saved(implicit)) == PLAIN).all()
    assert (grey(deflated(dataset(VALUES))) == PLAIN).all()


def jpeg(syntax: str, **elements: Any) -> bytes:
    """A colour picture as JPEG inside a DICOM file."""
    made = dataset(np.zeros((16, 16, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(buffer, "JPEG", quality=95)
    made.PixelData = encapsulate([buffer.getvalue()])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    for name, value in elements.items():
        setattr(made, name, value)
    return saved(made)


def test_baseline_jpeg() -> None:
    """Colour as Pillow shows the same JPEG, within its rounding."""
    shown = rgb(dicom.read(jpeg(JPEGBaseline8Bit), LIMITS)).astype(int)
    wanted = np.asarray(Image.linear_gradient("L").resize((16, 16)), int)
    assert np.abs(shown[..., 0] - wanted).max() <= 6


def test_without_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEG of 12 bits and lossless JPEG have none without GDCM, and Pillow is not tried."""
    monkeypatch.setattr(decoding, "_PLUGINS", ("pydicom", "pyjpegls", "pylibjpeg", "pillow"))
    deep = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    assert code(jpeg(JPEGExtended12Bit, **deep)) == "no_decoder"
    assert code(jpeg(JPEGLosslessSV1)) == "no_decoder"
    assert util.find_spec("pydicom") and "pydicom/" in readers.reader_version(dicom.SERIES)


def test_damage() -> None:
    """A codestream that is cut, or is none, or of another size."""
    for data in (packed(dataset(VALUES), RLELossless), packed(dataset(VALUES), JPEG2000Lossless)):
        assert code(data[:-200]) == "dicom_corrupt"
    made = dataset(VALUES)
    made.PixelData = encapsulate([b"no codestream"])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = HTJ2KLossless
    assert code(saved(made)) == "dicom_corrupt"
    rows = b"\x28\x00\x10\x00US\x02\x00"
    larger = packed(dataset(VALUES), JPEGLSLossless).replace(rows + b"\x40", rows + b"\x80")
    assert code(larger) == "dicom_corrupt"


@pytest.mark.parametrize(
    "elements",
    [{"Rows": 0}, {"NumberOfFrames": "-1"}, {"BitsAllocated": 7}, {"HighBit": 30}, {"Rows": 9999}],
    ids=str,
)
def test_headers_that_make_no_sense(elements: dict[str, Any]) -> None:
    """Are damage."""
    assert code(file(VALUES, **elements)) == "dicom_corrupt"


def test_too_many_pixels() -> None:
    """By the header, before decoding; of frames fewer are shown."""
    assert code(file(VALUES), ReadLimits(max_pixels=4095)) == "too_many_pixels"
    frames = file(np.stack([VALUES] * 5))
    made = dicom.read(frames, ReadLimits(max_pixels=2 * 4096))
    assert made.coverage["frames"] == (2, 5)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated(data: Any) -> None:
    """A real slice with bytes changed: an image of the header's size, or a code."""
    path = REAL / "MR_small.dcm"
    raw = bytearray(path.read_bytes() if path.exists() else file(VALUES))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, min(1800, len(raw) - 1)))] = data.draw(st.integers(0, 255))
    ended = code(bytes(raw), ReadLimits(max_pixels=1_000_000))
    assert ended in {"ok", "not_dicom", "no_pixels", "dicom_corrupt", "no_decoder",
                     "too_many_pixels", "limit"}  # fmt: skip
