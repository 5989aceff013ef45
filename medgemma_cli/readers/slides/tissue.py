"""Where on a slide there is tissue, and which patches of it are shown.

Tissue is stained and glass is not: HSV saturation over Otsu's threshold (Otsu 1979, IEEE Trans.
SMC 9:62), on a low-power picture smoothed by a median, as CLAM finds it (Lu et al. 2021, Nature
Biomedical Engineering 5:555), whose fixed threshold of 8 is the least taken here: a picture of
glass alone has a threshold, too. Black is no tissue. Covers stained sections in bright field. Does
not cover fluorescence, nor ink, folds and coverslip edges, which are coloured and so count as
tissue.
"""

import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image as Pillow

LEAST_SATURATION = 8  # of 255
_DARKEST = 32  # of 255: what no colour reaches is no tissue
_MEDIAN = 3  # pixels
SHARE = 0.1  # of a patch that is tissue, at least


class Plan(NamedTuple):
    """The grid of a slide, in pixels of its finest level."""

    width: int
    height: int
    side: int

    @property
    def cells(self) -> int:
        """How many patches cover the slide."""
        return math.ceil(self.width / self.side) * math.ceil(self.height / self.side)


def mask(low: "Pillow.Image") -> "np.ndarray":
    """Of an RGB picture, (height, width) of bool: True where there is tissue."""
    import numpy as np
    from PIL import ImageFilter

    smooth = np.asarray(low.filter(ImageFilter.MedianFilter(_MEDIAN)), np.int32)
    high, least = smooth.max(axis=2), smooth.min(axis=2)
    saturation = ((high - least) * 255 // np.maximum(high, 1)).astype(np.uint8)
    counts = np.bincount(saturation[high >= _DARKEST], minlength=256)
    threshold = max(otsu(counts), LEAST_SATURATION)
    found: np.ndarray = (saturation > threshold) & (high >= _DARKEST)
    return found


def otsu(counts: "np.ndarray") -> int:
    """The value up to which the lower of two classes goes, so that the variance between them is
    the greatest; the lowest of equals. 0 where there is one class alone.
    """
    import numpy as np

    values = np.arange(len(counts))
    below = np.cumsum(counts).astype(float)
    above = below[-1] - below
    total = np.cumsum(counts * values).astype(float)
    both = (below > 0) & (above > 0)
    if not both.any():
        return 0
    means = np.divide(total, below, where=both, out=np.zeros_like(total))
    rest = np.divide(total[-1] - total, above, where=both, out=np.zeros_like(total))
    between = np.where(both, below * above * (means - rest) ** 2, -1.0)
    return int(np.argmax(between))


def candidates(found: "np.ndarray", plan: Plan) -> list[tuple[int, int]]:
    """The corners (x, y) of the patches of a grid that have tissue, rows from the top.

    The last row and column may reach over the edge; what is there is no tissue.
    """
    import numpy as np

    rows, columns = found.shape
    sums = np.zeros((rows + 1, columns + 1), np.int64)
    sums[1:, 1:] = found.cumsum(axis=0).cumsum(axis=1)
    xs = np.arange(0, plan.width, plan.side)
    ys = np.arange(0, plan.height, plan.side)
    left, right = _span(xs, plan.side, plan.width, columns)
    top, bottom = _span(ys, plan.side, plan.height, rows)
    inside = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left]
    inside = inside + sums[top][:, left]
    area = (plan.side * columns / plan.width) * (plan.side * rows / plan.height)
    places = np.argwhere(inside >= SHARE * area)
    return [(int(xs[x]), int(ys[y])) for y, x in places if inside[y, x] > 0]


def _span(
    starts: "np.ndarray", side: int, total: int, pixels: int
) -> "tuple[np.ndarray, np.ndarray]":
    """First and last pixel of the mask for patches that begin there."""
    import numpy as np

    first = np.floor(starts * pixels / total).astype(np.int64)
    last = np.ceil((starts + side) * pixels / total).astype(np.int64)
    return first, np.minimum(last, pixels)


def chosen(places: list[tuple[int, int]], most: int, seed: int) -> list[tuple[int, int]]:
    """So many of the places, in their order: those whose hash, with the seed, is the least.

    The same seed gives the same patches with every version of Python and NumPy.
    """
    if len(places) <= most:
        return places

    def rank(place: tuple[int, int]) -> bytes:
        return hashlib.sha256(f"{seed}:{place[0]}:{place[1]}".encode()).digest()

    kept = set(sorted(places, key=rank)[:most])
    return [place for place in places if place in kept]
