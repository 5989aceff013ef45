"""Tiles that look like stained tissue: regular nuclei, or enlarged, irregular, dark, crowded ones.

Nothing is a photograph, nothing comes from a patient.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from scripts.build_demo import canvas
from scripts.build_demo.canvas import SCALE, SIDE, Place, Point, ring, spline, wobble
from scripts.build_demo.drawn import LAYOUTS, Drawn, Facts

_SIZE = SIDE * SCALE
_PIXELS = Place(unit=SIDE)
_ANGLES = np.arange(16) * (math.tau / 16)
_CIRCLE = np.cos(_ANGLES), np.sin(_ANGLES)

Colour = tuple[int, int, int]


class Stain(NamedTuple):
    """The colours of one tile."""

    ground: Colour
    fibre: Colour
    cell: Colour
    nucleus: Colour
    lumen: Colour


class Nucleus(NamedTuple):
    """Where a nucleus lies, how it leans, and its kind; in pixels and radians."""

    at: Point
    lean: float
    round: float
    atypical: bool


def draw(rng: np.random.Generator, label: int) -> Drawn:
    """A tile with atypical nuclei (`label` 1) or regular ones."""
    layout = int(rng.integers(len(LAYOUTS)))
    stain = _stain(rng)
    picture = Image.new("RGB", (_SIZE, _SIZE), stain.ground)
    pen = ImageDraw.Draw(picture)
    _fibres(pen, rng, stain)
    radius = float(rng.uniform(2.6, 4.6))
    share = float(rng.uniform(0.35, 0.9)) if label else 0.0
    nuclei = _places(pen, rng, stain, layout, radius, share)
    masks = [Image.new("L", (_SIZE, _SIZE), 0) for _ in range(2)]
    for nucleus in nuclei:
        _nucleus(pen, rng, stain, nucleus, radius, [ImageDraw.Draw(mask) for mask in masks])
    fields = [np.asarray(mask, np.float32) / 255 for mask in masks]
    parts = np.zeros((4, canvas.PATCHES, canvas.PATCHES), np.float32)
    parts[0], parts[1] = canvas.shares(fields[0]), canvas.shares(fields[1])
    image = _developed(rng, canvas.softened(picture, float(rng.uniform(0, 0.9))))
    return Drawn(image, Facts("histology", label, layout=LAYOUTS[layout]), parts)


def _stain(rng: np.random.Generator) -> Stain:
    def near(colour: Colour, amount: float) -> Colour:
        moved = np.clip(np.array(colour) + rng.normal(0, amount, 3), 0, 255)
        return int(moved[0]), int(moved[1]), int(moved[2])

    ground = near((232, 168, 202), 12)
    pale = np.clip(np.array(ground) + rng.uniform(-6, 16), 0, 255).astype(int)
    return Stain(
        ground=ground,
        fibre=(int(pale[0]), int(pale[1]), int(pale[2])),
        cell=near((206, 160, 208), 9),
        nucleus=near((86, 62, 142), 12),
        lumen=near((244, 236, 242), 4),
    )


def _fibres(pen: ImageDraw.ImageDraw, rng: np.random.Generator, stain: Stain) -> None:
    """Fine lines across, all in about one direction."""
    lean = float(rng.uniform(0, math.pi))
    for _ in range(int(rng.integers(20, 90))):
        x, y = (float(v) for v in rng.uniform(0, SIDE, 2))
        reach, turn = float(rng.uniform(8, 40)), lean + float(rng.normal(0, 0.2))
        line = [
            (x - reach * math.cos(turn), y - reach * math.sin(turn)),
            (x, y + float(rng.normal(0, 2))),
            (x + reach * math.cos(turn), y + reach * math.sin(turn)),
        ]
        shade = float(rng.uniform(-14, 14))
        colour = tuple(int(min(255, max(0, value + shade))) for value in stain.fibre)
        pen.line(_PIXELS.put(spline(line)), fill=colour, width=int(rng.integers(1, 4)))


def _places(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    stain: Stain,
    layout: int,
    radius: float,
    share: float,
) -> list[Nucleus]:
    spots = (_scattered, _glands, _rows)[layout](pen, rng, stain, radius, share)
    rounded = float(rng.uniform(0.5, 0.95))
    return [
        Nucleus(at, lean, rounded, bool(rng.random() < share))
        for at, lean in spots
        if -8 < at[0] < SIDE + 8 and -8 < at[1] < SIDE + 8
    ]


Spots = list[tuple[Point, float]]


def _scattered(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, stain: Stain, radius: float, share: float
) -> Spots:
    apart = radius * float(rng.uniform(2.6, 5.5)) * (0.85 if share else 1.0)
    lean = float(rng.uniform(0, math.pi))
    spots = rng.uniform(-4, SIDE + 4, (600, 2))
    far = ((spots[:, None] - spots[None]) ** 2).sum(axis=-1) > apart**2
    kept: list[int] = []
    for i in range(len(spots)):
        if far[i, kept].all():
            kept.append(i)
    leans = rng.normal(lean, 0.4, len(kept)).tolist()
    return [((float(spots[i, 0]), float(spots[i, 1])), turn)
            for i, turn in zip(kept, leans, strict=True)]  # fmt: skip


def _glands(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, stain: Stain, radius: float, share: float
) -> Spots:
    spots: Spots = _scattered(pen, rng, stain, radius * 2.2, share)
    step = float(rng.uniform(62, 100))
    for cx in np.arange(float(rng.uniform(-10, step)), SIDE + 30, step):
        for cy in np.arange(float(rng.uniform(-10, step)), SIDE + 30, step):
            centre = (float(cx + rng.normal(0, 7)), float(cy + rng.normal(0, 7)))
            size = step * float(rng.uniform(0.28, 0.42))
            flat, turn = float(rng.uniform(0.7, 1)), float(rng.uniform(0, math.pi))
            for part, colour in ((1.12, stain.cell), (0.45, stain.lumen)):
                edge = wobble(rng, ring(centre, size * part, size * flat * part, turn, 16), 1.0)
                pen.polygon(_PIXELS.put(spline(edge, closed=True)), fill=colour)
            spots = [s for s in spots if math.dist(s[0], centre) > size * 1.2]
            count = max(6, round(math.tau * size * 0.82 / (radius * 2.3)))
            for x, y in ring(centre, size * 0.82, size * flat * 0.82, turn, count):
                spots.append(((x, y), math.atan2(y - centre[1], x - centre[0])))
    return spots


def _rows(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, stain: Stain, radius: float, share: float
) -> Spots:
    spots: Spots = []
    turn = float(rng.uniform(0, math.pi))
    cos, sin = math.cos(turn), math.sin(turn)
    gap, step = radius * float(rng.uniform(3.5, 7)), radius * float(rng.uniform(2.3, 3.4))
    wave = float(rng.uniform(0, 6))
    for v in np.arange(-SIDE * 0.75, SIDE * 0.75, gap):
        for u in np.arange(-SIDE * 0.75, SIDE * 0.75, step):
            down = v + wave * math.sin(u / 30) + float(rng.normal(0, radius * 0.25))
            across = u + float(rng.normal(0, radius * 0.3))
            at = SIDE / 2 + across * cos - down * sin, SIDE / 2 + across * sin + down * cos
            spots.append((at, turn + math.pi / 2))
    return spots


def _nucleus(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    stain: Stain,
    nucleus: Nucleus,
    radius: float,
    masks: list[ImageDraw.ImageDraw],
) -> None:
    """One nucleus; an atypical one is larger, darker and of uneven outline."""
    size, dark, uneven, flat = radius * float(rng.uniform(0.88, 1.12)), 0.0, 0.03, nucleus.round
    if nucleus.atypical:
        size = radius * float(rng.uniform(1.45, 2.4))
        dark, uneven = float(rng.uniform(10, 45)), float(rng.uniform(0.1, 0.2))
        flat = float(rng.uniform(0.55, 1))
    shade = -dark + float(rng.normal(0, 12 if nucleus.atypical else 6))
    outline = _outline(rng, nucleus, size, flat, uneven)
    body = tuple(int(min(255, max(0, value + shade))) for value in stain.nucleus)
    rim = tuple(max(0, value - 24) for value in body)
    pen.polygon(outline, fill=body, outline=rim)
    masks[0].polygon(outline, fill=255)
    if nucleus.atypical:
        masks[1].polygon(outline, fill=255)
        spot = ring(nucleus.at, size * 0.2, size * 0.2, 0.0, 8)
        pen.polygon(_PIXELS.put(spot), fill=tuple(min(255, value + 40) for value in body))


def _outline(
    rng: np.random.Generator, nucleus: Nucleus, size: float, flat: float, uneven: float
) -> list[Point]:
    """An uneven ellipse of 16 points, in large pixels."""
    bumps = 1 + uneven * rng.standard_normal(8)
    reach = np.stack([bumps, (bumps + np.roll(bumps, -1)) / 2], axis=1).ravel() * size
    x, y = _CIRCLE[0] * reach, _CIRCLE[1] * reach * flat
    cos, sin = math.cos(nucleus.lean), math.sin(nucleus.lean)
    across = (nucleus.at[0] + x * cos - y * sin) * SCALE
    down = (nucleus.at[1] + x * sin + y * cos) * SCALE
    return list(zip(across.tolist(), down.tolist(), strict=True))


def _developed(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Uneven light, contrast and noise of a camera."""
    values = np.asarray(picture, np.float32)
    values = (values - 160) * float(rng.uniform(0.8, 1.15)) + 160 + float(rng.normal(0, 8))
    values += (canvas.noise(rng, 90) * float(rng.uniform(0, 7)))[..., None]
    values += rng.standard_normal(values.shape, np.float32) * float(rng.uniform(1, 7))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
