"""Stored values → 8-bit RGB: modality LUT, window, inversion and colour, as DICOM PS3.3 says.

Grey values pass through in bands of rows, so that no picture stands in memory as floating point.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from medgemma_cli.errors import DocumentError

if TYPE_CHECKING:
    import numpy as np
    from pydicom import Dataset

# Google's three windows for CT with MedGemma 1.5, in Hounsfield units: red, green and blue.
CT_WINDOWS = ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
_BAND = 1 << 20  # pixels
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")

Scale = Callable[["np.ndarray"], "np.ndarray"]


class Picture(NamedTuple):
    """RGB, 8 bits a channel, and how it was made: a word of `terms.RENDERINGS`."""

    width: int
    height: int
    rgb: bytes
    rendering: str


def of_frame(dataset: "Dataset", index: int) -> "Dataset":
    """The header that holds for one frame: functional groups over what stands at the top."""
    from pydicom import Dataset

    own = Dataset()
    own.update({e.tag: e for e in dataset if e.tag.group == 0x28 and e.VR != "SQ"})
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        if name in dataset:
            own[name] = dataset[name]
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for groups in [*shared[:1], *each[index : index + 1]]:
        for name in _GROUPS:
            for item in (groups.get(name) or [])[:1]:
                own.update({e.tag: e for e in item})
    return own


def render(
    stored: "np.ndarray",
    header: "Dataset",
    *,
    hounsfield: bool,
    span: tuple[float, float] | None = None,
) -> Picture:
    """One frame as a picture.

    Args:
        stored: (rows, columns) of stored values, or (rows, columns, 3) of colour, already RGB.
        header: of this frame, see `of_frame`.
        hounsfield: whether values are Hounsfield units after rescaling: then three windows.
        span: least and greatest value of all that is shown together; grey is scaled to it.

    Raises:
        DocumentError: ``no_decoder``, colours of another kind.
    """
    photometric = str(header.get("PhotometricInterpretation", ""))
    if stored.ndim == 3 or photometric == "PALETTE COLOR":
        return _colour(stored, header, photometric)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DocumentError("no_decoder")
    if hounsfield:
        channels = [_grey(stored, header, _straight(*window)) for window in CT_WINDOWS]
        return _picture(*channels, rendering="ct-windows")
    scale, rendering = _scale(stored, header, span)
    grey = _grey(stored, header, scale, inverted=photometric == "MONOCHROME1")
    return _picture(grey, grey, grey, rendering=rendering)


def extremes(stored: "np.ndarray", header: "Dataset") -> tuple[float, float]:
    """Least and greatest value after the modality LUT, padding left out; (0, 0) of nothing.

    Raises:
        DocumentError: ``dicom_corrupt``, a value is not finite.
    """
    import numpy as np

    low, high = np.inf, -np.inf
    modality = _modality(header)
    for band, padding in _bands(stored, header):
        values = modality(band[~padding])
        if values.size:
            if not np.isfinite(values).all():
                raise DocumentError("dicom_corrupt")
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _picture(red: "np.ndarray", *others: "np.ndarray", rendering: str) -> Picture:
    import numpy as np

    height, width = red.shape
    return Picture(width, height, np.stack([red, *others], axis=-1).tobytes(), rendering)


def _bands(stored: "np.ndarray", header: "Dataset") -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    """Rows by rows, with where they are padding (PS3.3 C.7.5.1.1.2)."""
    import numpy as np

    first = header.get("PixelPaddingValue")
    last = header.get("PixelPaddingRangeLimit")
    rows = max(_BAND // max(stored.shape[1], 1), 1)
    for start in range(0, stored.shape[0], rows):
        band = stored[start : start + rows]
        if first is None:
            yield band, np.zeros(band.shape, bool)
        else:
            ends = sorted((first, first if last is None else last))
            yield band, (band >= ends[0]) & (band <= ends[1])


def _grey(
    stored: "np.ndarray", header: "Dataset", scale: Scale, *, inverted: bool = False
) -> "np.ndarray":
    """8 bits; halves are rounded to the even number, padding is black."""
    import numpy as np

    modality = _modality(header)
    grey = np.empty(stored.shape, np.uint8)
    start = 0
    for band, padding in _bands(stored, header):
        values = np.clip(scale(modality(band)), 0, 255)
        levels = np.nan_to_num(np.rint(values)).astype(np.uint8)
        levels = 255 - levels if inverted else levels
        levels[padding] = 0
        grey[start : start + len(band)] = levels
        start += len(band)
    return grey


def _modality(header: "Dataset") -> Scale:
    """Stored values → values with a meaning (PS3.3 C.11.1): the LUT, or slope and intercept."""
    import numpy as np

    if sequence := header.get("ModalityLUTSequence"):
        table = _table(sequence[0], signed=header.get("PixelRepresentation") == 1)
        return lambda values: table.of(values)
    slope = _float(header.get("RescaleSlope"), 1.0)
    intercept = _float(header.get("RescaleIntercept"), 0.0)
    return lambda values: values.astype(np.float64) * slope + intercept


def _scale(
    stored: "np.ndarray", header: "Dataset", span: tuple[float, float] | None
) -> tuple[Scale, str]:
    """Values → 0 to 255: the span given, else the first window, the VOI LUT, or the extremes."""
    if span is None:
        window = _window(header)
        if window is not None:
            return window, "window"
        if sequence := header.get("VOILUTSequence"):
            below_zero = _float(header.get("RescaleIntercept"), 0.0) < 0
            signed = header.get("PixelRepresentation") == 1 or below_zero
            table = _table(sequence[0], signed=signed)
            return lambda values: table.of(values) * (255.0 / table.highest), "lut"
        span = extremes(stored, header)
    return _straight(*span), "minimum-maximum"


def _straight(low: float, high: float) -> Scale:
    """`low` to 0 and `high` to 255; what is outside is clipped later."""
    import numpy as np

    if high <= low:
        return lambda values: np.zeros(values.shape)
    return lambda values: (np.clip(values, low, high) - low) * 255.0 / (high - low)


def _window(header: "Dataset") -> Scale | None:
    """The first window of the header (PS3.3 C.11.2.1.2 and C.11.2.1.3); None without a good one."""
    import numpy as np

    center, width = _float(header.get("WindowCenter"), np.nan), _float(header.get("WindowWidth"), 0)
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if not np.isfinite(center) or not np.isfinite(width) or width <= 0:
        return None
    if function == "SIGMOID":
        # Beyond 50 the exponential changes nothing of 8 bits, and could overflow.
        return lambda x: 255.0 / (1 + np.exp(np.clip(-4 * (x - center) / width, -50, 50)))
    if function == "LINEAR_EXACT":
        return lambda x: ((x - center) / width + 0.5) * 255.0
    if width < 1:
        return None
    if width == 1:
        return lambda x: np.where(x <= center - 0.5, 0.0, 255.0)
    return lambda x: ((x - (center - 0.5)) / (width - 1) + 0.5) * 255.0


class _Table(NamedTuple):
    """A lookup table: value `first` and below give entry 0, and so on (PS3.3 C.11.1.1)."""

    first: int
    entries: "np.ndarray"
    highest: int

    def of(self, values: "np.ndarray") -> "np.ndarray":
        """The entries of values, as floating point."""
        import numpy as np

        at = np.nan_to_num(np.rint(values.astype(np.float64))) - self.first
        entries: np.ndarray = self.entries[np.clip(at, 0, len(self.entries) - 1).astype(np.int64)]
        return entries


def _table(item: "Dataset", *, signed: bool) -> _Table:
    """Raises: DocumentError ``dicom_corrupt``, the table is not as its descriptor says."""
    import numpy as np

    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = (count & 0xFFFF) or 1 << 16
    first = first - (1 << 16) if signed and first > 0x7FFF else first
    data: Any = item.LUTData
    if isinstance(data, bytes):
        order = ">" if item.original_encoding[1] is False else "<"
        data = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    entries = np.asarray(data, np.float64).reshape(-1)
    if not 1 <= bits <= 16 or len(entries) < count:
        raise DocumentError("dicom_corrupt")
    # 16-bit entries that were read as signed are not below zero.
    return _Table(first, np.where(entries < 0, entries + 65536, entries)[:count], (1 << bits) - 1)


def _colour(stored: "np.ndarray", header: "Dataset", photometric: str) -> Picture:
    """Palettes looked up, more than 8 bits scaled down. YBR was converted in decoding."""
    import numpy as np
    from pydicom.pixels.processing import apply_color_lut

    bits = int(header.get("BitsStored", 8))
    if photometric == "PALETTE COLOR":
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
        stored = apply_color_lut(stored, header)[..., :3]
    elif photometric not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        raise DocumentError("no_decoder")
    if stored.dtype != np.uint8:
        stored = np.rint(np.clip(stored * (255.0 / ((1 << bits) - 1)), 0, 255)).astype(np.uint8)
    if stored.ndim != 3 or stored.shape[2] != 3:
        raise DocumentError("dicom_corrupt")
    height, width, _ = stored.shape
    return Picture(width, height, stored.tobytes(), "colour")


def _float(value: Any, default: float) -> float:
    """The first of one or more numbers."""
    import numpy as np

    if value is None or value == "":
        return default
    several = hasattr(value, "__len__") and not isinstance(value, str)
    if several and not len(value):
        return default
    number = float(value[0] if several else value)
    return number if np.isfinite(number) else default
