"""Pixels against pydicom's own functions and the formulae of DICOM PS3.3, written again here."""

from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_kit import LIMITS, REAL, code, dataset, file, grey, rgb, saved
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing, pixel_array
from pydicom.pixels.processing import convert_color_space

from medgemma_cli.readers import dicom

RAMP = np.arange(-50, 206, dtype=np.int16).reshape(16, 16)
WINDOWS = ((-1024, 1024), (-135, 215), (0, 80))


def real(name: str) -> tuple[bytes, Dataset]:
    """A file of the shared set, and pydicom's reading of it."""
    path = REAL / name
    if not path.exists():
        pytest.skip("the shared files are not here")
    return path.read_bytes(), pydicom.dcmread(path)


def lut(count: int, first: int, bits: int, entries: Any) -> Dataset:
    """An item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.LUTDescriptor = [count, first, bits]
    item.LUTData = np.asarray(entries, "<u2").tobytes()
    return item


def levels(values: Any) -> np.ndarray:
    """0 to 255, halves to the even number."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def windowed(made: Dataset) -> np.ndarray:
    """pydicom's modality LUT and first window, its output range made 0 to 255."""
    values = apply_modality_lut(pixel_array(made, raw=True), made)
    shown = apply_windowing(values, made, index=0).astype(float)
    bits = made.BitsStored
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if made.PixelRepresentation else (0, None)
    high = 2**bits - 1 if high is None else high
    slope, intercept = made.get("RescaleSlope", 1), made.get("RescaleIntercept", 0)
    low, high = low * slope + intercept, high * slope + intercept
    return (shown - low) / (high - low) * 255


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal, but for values that lie within rounding error of a half."""
    assert np.abs(found - np.clip(wanted, 0, 255)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("name", ["MR_small.dcm", "examples_overlay.dcm"])
def test_real_windows(name: str) -> None:
    """The first window of each real MR file, as pydicom applies it."""
    data, made = real(name)
    close(grey(data), windowed(made))


def test_real_ct() -> None:
    """The three windows of the real CT slice, by their formula; its padding is black."""
    data, made = real("CT_small.dcm")
    values = apply_modality_lut(made.pixel_array, made)
    for channel, (low, high) in enumerate(WINDOWS):
        wanted = levels((np.clip(values, low, high) - low) * 255 / (high - low))
        assert (rgb(dicom.read(data, LIMITS))[..., channel] == wanted).all()


def test_real_inverted_jpeg_2000() -> None:
    """A chest film in JPEG 2000, 15 bits, MONOCHROME1: windowed, then inverted."""
    data, made = real("RG1_J2KI.dcm")
    found = grey(data)
    close(255.0 - found, windowed(made))


def test_real_colour_frames() -> None:
    """Of 30 frames of ultrasound 16, evenly, in JPEG and YBR, as pydicom makes them RGB."""
    data, made = real("examples_ybr_color.dcm")
    content = dicom.read(data, LIMITS)
    assert content.coverage == {"images": (1, 1), "frames": (16, 30)}
    chosen = [0, 2, 4, 6, 8, 10, 12, 14, 15, 17, 19, 21, 23, 25, 27, 29]
    for number, index in enumerate(chosen):
        wanted = pixel_array(made, index=index)
        assert (rgb(content, number) == wanted).all()


def test_linear_window() -> None:
    """PS3.3 C.11.2.1.2.1: half a value off the centre, one off the width."""
    data = file(
        RAMP, RescaleSlope=2, RescaleIntercept=-7, WindowCenter=[60, 1], WindowWidth=[81, 2]
    )
    x = RAMP * 2.0 - 7
    wanted = ((x - 59.5) / 80 + 0.5) * 255
    wanted[x <= 59.5 - 40], wanted[x > 59.5 + 40] = 0, 255
    assert (grey(data) == levels(wanted)).all()
    close(grey(data), windowed(pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))))


def test_exact_window() -> None:
    """PS3.3 C.11.2.1.3.2: nothing is taken off."""
    data = file(RAMP, WindowCenter=40, WindowWidth=64, VOILUTFunction="LINEAR_EXACT")
    assert (grey(data) == levels(((RAMP - 40.0) / 64 + 0.5) * 255)).all()


def test_sigmoid_window() -> None:
    """PS3.3 C.11.2.1.3.1; far outside nothing overflows."""
    data = file(RAMP, WindowCenter=40, WindowWidth=20, VOILUTFunction="SIGMOID")
    assert (grey(data) == levels(255 / (1 + np.exp(-4 * (RAMP - 40.0) / 20)))).all()
    steep = grey(file(RAMP, WindowCenter=0, WindowWidth=0.001, VOILUTFunction="SIGMOID"))
    assert set(np.unique(steep)) <= {0, 128, 255}


def test_narrowest_window() -> None:
    """A linear window of width 1 is a threshold."""
    shown = grey(file(RAMP, WindowCenter=10, WindowWidth=1))
    assert (shown == np.where(RAMP <= 9.5, 0, 255)).all()


@pytest.mark.parametrize("width", [0, -3, 0.5])
def test_no_good_window(width: float) -> None:
    """A window of no width counts as none: minimum to maximum."""
    shown = grey(file(RAMP, WindowCenter=40, WindowWidth=width))
    assert (shown == levels((RAMP + 50.0) * 255 / 255)).all()


def test_window_before_table() -> None:
    """Where a file has both, the window; without one the VOI LUT."""
    table = lut(4, 10, 8, [0, 50, 100, 200])
    made = dataset(RAMP.astype(np.uint8), VOILUTSequence=[table], WindowCenter=40, WindowWidth=64)
    assert dicom.read(saved(made), LIMITS).header["rendering"] == "window"
    del made.WindowCenter, made.WindowWidth
    values = np.arange(-50, 206).astype(np.uint8).reshape(16, 16).astype(int)
    wanted = np.array([0, 50, 100, 200])[np.clip(values - 10, 0, 3)]
    assert dicom.read(saved(made), LIMITS).header["rendering"] == "lut"
    assert (grey(saved(made)) == wanted).all()


def test_long_table_of_8_bits() -> None:
    """A VOI LUT of 4,096 entries of 8 bits: an index is not cut to the bits of an entry."""
    values = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)
    table = lut(4096, 0, 8, np.arange(4096) // 16)
    made = dataset(values, BitsStored=12, HighBit=11, VOILUTSequence=[table])
    assert (grey(saved(made)) == values // 16).all()


def test_modality_table() -> None:
    """PS3.3 C.11.1.1: values below the first are its entry, those above the last the last's."""
    table = lut(3, 100, 16, [0, 1000, 4000])
    values = np.array([[0, 100, 101], [102, 103, 65535]], np.uint16)
    made = dataset(values, ModalityLUTSequence=[table])
    table.ModalityLUTType = "US"
    entries = np.array([[0, 0, 1000], [4000, 4000, 4000]])
    assert (grey(saved(made)) == levels(entries * 255.0 / 4000)).all()


def test_table_of_signed_values() -> None:
    """The first value of a table may be below zero."""
    table = lut(4, -2, 8, [10, 20, 30, 255])
    made = dataset(np.array([[-3, -2, -1], [0, 1, 2]], np.int16), VOILUTSequence=[table])
    assert grey(saved(made)).tolist() == [[10, 10, 20], [30, 255, 255]]


def test_table_that_is_too_short() -> None:
    """A table with fewer entries than it says is damage."""
    table = lut(40, 0, 8, [10, 20, 30, 255])
    assert code(file(RAMP, VOILUTSequence=[table])) == "dicom_corrupt"


def test_minimum_to_maximum() -> None:
    """Without window or table; a flat picture is black."""
    values = np.array([[300, 400], [500, 812]], np.uint16)
    assert grey(file(values)).tolist() == levels((values - 300.0) * 255 / 512).tolist()
    assert grey(file(np.full((2, 2), 7, np.uint16))).max() == 0


def test_monochrome1() -> None:
    """Low values are white."""
    values = np.array([[0, 100], [200, 255]], np.uint8)
    assert grey(file(values, PhotometricInterpretation="MONOCHROME1")).tolist() == [
        [255, 155],
        [55, 0],
    ]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding(photometric: str) -> None:
    """Padding has no part in minimum and maximum, and is black also where grey is inverted."""
    values = np.array([[-2000, -1990], [10, 265]], np.int16)
    made = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    shown = grey(file(values, PhotometricInterpretation=photometric, **made))
    assert shown[0].tolist() == [0, 0]
    assert sorted(shown[1].tolist()) == [0, 255]


def test_only_padding() -> None:
    """A picture of padding is black."""
    assert grey(file(np.full((2, 3), 9, np.uint16), PixelPaddingValue=9)).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("representation", [0, 1])
def test_unused_bits(representation: int) -> None:
    """What stands above the stored bits (old overlays) is no part of a value."""
    values = np.array([[1, 2000, 3000, 4095]], np.uint16)
    made = dataset(values | 0xA000, BitsStored=12, HighBit=11, PixelRepresentation=representation)
    made.WindowCenter, made.WindowWidth, made.VOILUTFunction = 0, 8192, "LINEAR_EXACT"
    signed = np.where(values > 2047, values.astype(int) - 4096, values)
    wanted = signed if representation else values
    assert (grey(saved(made)) == levels((wanted / 8192 + 0.5) * 255)).all()


@pytest.mark.parametrize("representation", [0, 1])
def test_high_bit(representation: int) -> None:
    """Values that begin at a higher bit, as was allowed until 2010."""
    values = np.array([[1, 2000, 3000, 4095]], np.uint16)
    made = dataset(values << 4, BitsStored=12, HighBit=15, PixelRepresentation=representation)
    made.WindowCenter, made.WindowWidth, made.VOILUTFunction = 0, 8192, "LINEAR_EXACT"
    signed = np.where(values > 2047, values.astype(int) - 4096, values)
    wanted = signed if representation else values
    assert (grey(saved(made)) == levels((wanted / 8192 + 0.5) * 255)).all()


def test_palette() -> None:
    """Colours of a palette of 16-bit entries, as pydicom looks them up, in 8 bits."""
    made = dataset(np.arange(16, dtype=np.uint8).reshape(4, 4))
    made.PhotometricInterpretation = "PALETTE COLOR"
    for i, name in enumerate(("Red", "Green", "Blue")):
        entries = (np.arange(16, dtype=np.uint16) * (900 * (i + 1))).tobytes()
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [16, 0, 16])
        setattr(made, f"{name}PaletteColorLookupTableData", entries)
    data = saved(made)
    wanted = levels(apply_color_lut(made.pixel_array, made) * (255 / 65535))
    content = dicom.read(data, LIMITS)
    assert (rgb(content) == wanted).all() and rgb(content).max() > 30
    assert content.header["rendering"] == "colour"


def test_full_ybr() -> None:
    """Uncompressed YBR_FULL becomes RGB as PS3.3 C.7.6.3.1.2 says."""
    values = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    data = file(values, PhotometricInterpretation="YBR_FULL")
    wanted = convert_color_space(values, "YBR_FULL", "RGB")
    assert (rgb(dicom.read(data, LIMITS)) == wanted).all()


def test_planes() -> None:
    """Colour plane by plane is the same colour."""
    values = np.random.default_rng(2).integers(0, 256, (6, 8, 3), np.uint8)
    made = dataset(values)
    made.PlanarConfiguration, made.PixelData = 1, values.transpose(2, 0, 1).tobytes()
    assert (rgb(dicom.read(saved(made), LIMITS)) == values).all()


def test_colour_of_16_bits() -> None:
    """Scaled down, not cut."""
    made = dataset(np.zeros((1, 2, 3), np.uint8))
    values = np.array([[[0, 4095, 2048], [16, 8, 4000]]], np.uint16)
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OW"
    assert (rgb(dicom.read(saved(made), LIMITS)) == levels(values * (255 / 4095))).all()


def test_ct_windows_are_for_hounsfield_units() -> None:
    """A screen capture of a CT, or a CT in another unit, has none: it is shown as it is."""
    plain = np.arange(16, dtype=np.uint8).reshape(4, 4)
    capture = dicom.read(file(plain, modality="CT"), LIMITS)
    assert capture.header["rendering"] == "minimum-maximum"
    made = {"modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}
    assert dicom.read(file(plain, **made), LIMITS).header["rendering"] == "ct-windows"
    other = dicom.read(file(plain, RescaleType="MGML", **made), LIMITS)
    assert other.header["rendering"] == "minimum-maximum"


def test_functional_groups() -> None:
    """Frames of an enhanced file have rescaling and windows of their own."""
    made = dataset(np.full((2, 2, 2), 100, np.uint16), modality="MR")
    frames = []
    for intercept in (0, 50):
        pixels, window, group = Dataset(), Dataset(), Dataset()
        pixels.RescaleSlope, pixels.RescaleIntercept, pixels.RescaleType = 1, intercept, "US"
        window.WindowCenter, window.WindowWidth = 128, 256
        group.PixelValueTransformationSequence = [pixels]
        group.FrameVOILUTSequence = [window]
        frames.append(group)
    made.PerFrameFunctionalGroupsSequence = frames
    first, second = (grey(saved(made), i)[0, 0] for i in (0, 1))
    assert (first, second) == (100, 150)


def test_bands_meet() -> None:
    """A picture of more than a band is the same as in one piece."""
    values = np.random.default_rng(3).integers(0, 4096, (1500, 1024), np.uint16)
    low, high = values.min(), values.max()
    assert (grey(file(values)) == levels((values - float(low)) * 255 / (high - low))).all()
