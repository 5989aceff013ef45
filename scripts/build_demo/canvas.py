"""What the drawings share: curves, masks on a grey or coloured field, noise. Pillow and NumPy."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIDE = 224
"""Pixels a side of every picture."""
PATCHES = 16
"""Patches a side of what the tower sees: `SIDE` / 14."""
SCALE = 2

Point = tuple[float, float]
Field = NDArray[np.floating[Any]]


class Place(NamedTuple):
    """Where a drawing's own coordinates lie on the picture: turned, stretched, moved.

    `unit` is the side of the drawing's own square, `turn` in radians, `shift` in parts of a side.
    """

    unit: float = 1.0
    wide: float = 1.0
    high: float = 1.0
    turn: float = 0.0
    shift: Point = (0.0, 0.0)

    def put(self, points: Iterable[Point]) -> list[Point]:
        """Points of the drawing in large pixels."""
        cos, sin, size = math.cos(self.turn), math.sin(self.turn), SIDE * SCALE
        made = []
        for x, y in points:
            across, down = (x / self.unit - 0.5) * self.wide, (y / self.unit - 0.5) * self.high
            right = across * cos - down * sin + 0.5 + self.shift[0]
            low = across * sin + down * cos + 0.5 + self.shift[1]
            made.append((right * size, low * size))
        return made

    @property
    def grain(self) -> float:
        """Large pixels of one unit, about."""
        return SIDE * SCALE / self.unit * (self.wide + self.high) / 2


def spline(points: Sequence[Point], closed: bool = False, steps: int = 6) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    last = len(points) - 1
    curve: list[Point] = []
    for i in range(len(points) if closed else last):
        if closed:
            a, b, c, d = (points[(i + k) % len(points)] for k in (-1, 0, 1, 2))
        else:
            a, b, c, d = (points[min(max(i + k, 0), last)] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            curve.append((_bend(a[0], b[0], c[0], d[0], t), _bend(a[1], b[1], c[1], d[1], t)))
    return curve if closed else [*curve, points[last]]


def _bend(p: float, q: float, r: float, s: float, t: float) -> float:
    second, third = 2 * p - 5 * q + 4 * r - s, 3 * q - p - 3 * r + s
    return 0.5 * (2 * q + (r - p) * t + second * t * t + third * t**3)


def ring(centre: Point, rx: float, ry: float, turn: float = 0.0, count: int = 20) -> list[Point]:
    """The outline of an ellipse turned by an angle in radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    outline = []
    for i in range(count):
        x, y = rx * math.cos(math.tau * i / count), ry * math.sin(math.tau * i / count)
        outline.append((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos))
    return outline


def wobble(rng: np.random.Generator, points: Sequence[Point], amount: float) -> list[Point]:
    """The points, each moved a little at random."""
    moves = rng.normal(0, amount, (len(points), 2))
    return [(x + float(dx), y + float(dy)) for (x, y), (dx, dy) in zip(points, moves, strict=True)]


def area(place: Place, *outlines: Sequence[Point], blur: float = 0.0) -> Field:
    """A mask, 0 to 1, of filled outlines; `blur` in the drawing's units."""
    mask, pen = _sheet()
    for outline in outlines:
        pen.polygon(place.put(outline), fill=255)
    return _field(mask, blur * place.grain)


def strokes(
    place: Place, lines: Iterable[tuple[Sequence[Point], float, int]], blur: float = 0.0
) -> Field:
    """A mask of lines, each with its width in the drawing's units and its strength up to 255."""
    mask, pen = _sheet()
    for line, width, strength in lines:
        size = max(1, round(width * place.grain))
        joint = "curve" if len(line) > 2 else None
        pen.line(place.put(line), fill=strength, width=size, joint=joint)
    return _field(mask, blur * place.grain)


def _sheet() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    mask = Image.new("L", (SIDE * SCALE, SIDE * SCALE), 0)
    return mask, ImageDraw.Draw(mask)


def _field(mask: Image.Image, blur: float) -> Field:
    small = mask.resize((SIDE, SIDE), Image.Resampling.BOX)
    blur /= SCALE
    if blur > 6:  # a wide blur has no detail to lose
        least = mask.resize((SIDE // 4, SIDE // 4), Image.Resampling.BOX)
        least = least.filter(ImageFilter.GaussianBlur(blur / 4))
        small = least.resize(small.size, Image.Resampling.BILINEAR)
    elif blur:
        small = small.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(small, np.float32) / 255


def noise(rng: np.random.Generator, cell: float) -> Field:
    """Grey noise of mean 0 and deviation about 1; `cell` pixels a grain."""
    side = max(3, round(SIDE / cell) + 1) if cell > 1 else SIDE
    coarse = rng.standard_normal((side, side), np.float32)
    if side == SIDE:
        return coarse
    wide = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(wide, np.float32)


def softened(picture: Image.Image, blur: float) -> Image.Image:
    """A picture at its final size, as sharp as a lens would have it."""
    if picture.width != SIDE:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return picture.filter(ImageFilter.GaussianBlur(blur)) if blur > 0.1 else picture


def shares(mask: Field) -> Field:
    """How much of each patch a mask covers: (`PATCHES`, `PATCHES`), 0 to 1."""
    size = mask.shape[0] // PATCHES
    parts = mask.reshape(PATCHES, size, PATCHES, size)
    return np.asarray(parts.mean(axis=(1, 3)), np.float32)


def grey(values: Field) -> Image.Image:
    """A field of greys, 0 to 255, as a picture; what is beyond is cut."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
