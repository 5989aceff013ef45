"""Draw the sample pictures: two phantom radiographs and a histology-like tile.

Nothing here comes from a patient. Every shape is placed by this script from a
fixed seed, so a second run on the same Pillow writes the same bytes.

Usage: ``python draw.py [FOLDER]`` (default: the folder that holds the script).
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

Point = tuple[float, float]
Colour = tuple[int, int, int]

SEED = 20250417
SCALE = 2  # everything is drawn at twice the size and then reduced
CAPTION = "DRAWN, NOT A PATIENT"
DESCRIPTION = "{what}. Drawn by raw/images/draw.py from a fixed seed; not a patient."


# --- helpers shared by the pictures ---------------------------------------------------


def spline(points: Sequence[Point], closed: bool = False, steps: int = 12) -> list[Point]:
    """Return a Catmull-Rom curve through the points."""
    last = len(points) - 1
    curve: list[Point] = []
    for i in range(len(points) if closed else last):
        if closed:
            a, b, c, d = (points[(i + k) % len(points)] for k in (-1, 0, 1, 2))
        else:
            a, b, c, d = (points[min(max(i + k, 0), last)] for k in (-1, 0, 1, 2))
        curve.extend(_between(a, b, c, d, step / steps) for step in range(steps))
    return curve if closed else [*curve, points[last]]


def _between(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    """Return the Catmull-Rom point at t between b and c."""

    def axis(p: float, q: float, r: float, s: float) -> float:
        bend = (2 * p - 5 * q + 4 * r - s) * t + (3 * q - p - 3 * r + s) * t * t
        return 0.5 * (2 * q + (r - p) * t + bend * t)

    return axis(a[0], b[0], c[0], d[0]), axis(a[1], b[1], c[1], d[1])


def ring(centre: Point, rx: float, ry: float, turn: float = 0.0, count: int = 28) -> list[Point]:
    """Return the outline of an ellipse turned by an angle in radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    outline: list[Point] = []
    for i in range(count):
        x = rx * math.cos(math.tau * i / count)
        y = ry * math.sin(math.tau * i / count)
        outline.append((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos))
    return outline


def wobble(rng: random.Random, outline: Sequence[Point], amount: float) -> list[Point]:
    """Return the outline with each point moved a little at random."""
    return [(x + rng.gauss(0, amount), y + rng.gauss(0, amount)) for x, y in outline]


def grain(rng: random.Random, size: tuple[int, int], cell: int, blur: float) -> Image.Image:
    """Return a grey noise field; a larger cell gives coarser noise."""
    small = (size[0] // cell + 1, size[1] // cell + 1)
    noise = Image.frombytes("L", small, rng.randbytes(small[0] * small[1]))
    wide = noise.resize((small[0] * cell, small[1] * cell), Image.Resampling.BICUBIC)
    return wide.crop((0, 0, *size)).filter(ImageFilter.GaussianBlur(blur))


def write_caption(image: Image.Image, ink: int | Colour) -> None:
    """Write the caption in the lower left corner with the built-in bitmap font."""
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (int(edge) for edge in font.getbbox(CAPTION))
    stamp = Image.new("1", (right - left, bottom - top))
    ImageDraw.Draw(stamp).text((-left, -top), CAPTION, fill=1, font=font)
    image.paste(ink, (8, image.height - stamp.height - 7), stamp)


def save(image: Image.Image, path: Path, what: str) -> None:
    """Write the PNG with its Description text chunk."""
    info = PngInfo()
    info.add_text("Description", DESCRIPTION.format(what=what))
    image.save(path, "PNG", pnginfo=info, optimize=True)


class Film:
    """A grey film on which opacity is added and removed, in final pixel units."""

    def __init__(self, width: int, height: int, base: int) -> None:
        """Start with an even film of the given grey."""
        self.size = (width * SCALE, height * SCALE)
        self.image = Image.new("L", self.size, base)

    def mask(self, draw: Callable[[ImageDraw.ImageDraw], None], blur: float) -> Image.Image:
        """Return a blurred mask that the callback has drawn in large pixels."""
        mask = Image.new("L", self.size, 0)
        draw(ImageDraw.Draw(mask))
        return mask.filter(ImageFilter.GaussianBlur(blur * SCALE)) if blur else mask

    def area(self, *outlines: Sequence[Point], blur: float = 1.0) -> Image.Image:
        """Return a mask of filled outlines."""

        def fill(pen: ImageDraw.ImageDraw) -> None:
            for outline in outlines:
                pen.polygon([(x * SCALE, y * SCALE) for x, y in outline], fill=255)

        return self.mask(fill, blur)

    def stroke(self, line: Sequence[Point], width: float, blur: float = 1.0) -> Image.Image:
        """Return a mask of one line of even width."""

        def trace(pen: ImageDraw.ImageDraw) -> None:
            path = [(x * SCALE, y * SCALE) for x, y in line]
            pen.line(path, fill=255, width=max(1, round(width * SCALE)), joint="curve")

        return self.mask(trace, blur)

    def shade(self, mask: Image.Image, amount: float) -> None:
        """Add (or with a negative amount remove) grey where the mask is white."""
        layer = mask.point([round(abs(amount) * v / 255) for v in range(256)])
        merge = ImageChops.add if amount > 0 else ImageChops.subtract
        self.image = merge(self.image, layer)

    def finish(self, rng: random.Random, noise: float) -> Image.Image:
        """Return the film at its final size with a little grain."""
        size = (self.size[0] // SCALE, self.size[1] // SCALE)
        small = self.image.resize(size, Image.Resampling.LANCZOS)
        speckle = grain(rng, size, 1, 0.7).point(
            [round((v - 128) * noise + 128) for v in range(256)]
        )
        return ImageChops.add(small, speckle, 1, -128)


# --- chest ----------------------------------------------------------------------------

MID = 384.0  # x of the spine


def wall(y: float) -> float:
    """Return half the inner width of the rib cage at a height."""
    return 262 - 165 * math.exp(-(y - 70) / 120)


def mirror(points: Sequence[Point]) -> list[Point]:
    """Return the points reflected across the spine."""
    return [(2 * MID - x, y) for x, y in points]


def draw_chest(rng: random.Random) -> Image.Image:
    """Return a phantom PA chest radiograph, 768 x 768."""
    film = Film(768, 768, 6)
    _chest_wall(film)
    lungs = _lungs(film)
    _spine(film)
    _vessels(film, rng, lungs)
    _ribs(film)
    _shoulders(film)
    _airway(film)
    film.shade(film.area(ring((566, 250), 13, 12), blur=3.0), 58)
    _letter(film, "L", (690, 40))
    image = film.finish(rng, 0.1)
    write_caption(image, 225)
    return image


def _chest_wall(film: Film) -> None:
    """Add the soft tissue of neck, shoulders, trunk and arms."""
    side = [(322, -40), (318, 30), (290, 66), (190, 92), (96, 112), (34, 150), (-30, 240)]
    low = [(-40, 420), (30, 430), (66, 520), (74, 640), (68, 830)]
    outline = spline([*side, *low])
    film.shade(film.area([*outline, *reversed(mirror(outline))], blur=4), 104)
    film.shade(film.area(ring((MID, 720), 340, 170), blur=50), 36)
    film.shade(film.area(ring((MID, 300), 190, 330), blur=60), 18)
    armpit = spline([(20, 330), (80, 250), (104, 330), (80, 470), (30, 470)], closed=True)
    film.shade(film.area(armpit, mirror(armpit), blur=22), -22)


def _lungs(film: Film) -> Image.Image:
    """Remove the air of both lungs, sparing the mediastinum, and return its mask."""
    right = [(322, 122), (280, 100), (236, 122), (196, 180), (156, 270), (132, 390), (121, 500)]
    right += [(117, 594), (123, 606), (150, 566), (205, 536), (262, 530), (312, 552), (340, 580)]
    right += [(350, 480), (350, 380), (350, 290), (350, 200)]
    left = [(446, 122), (488, 100), (532, 122), (572, 180), (612, 270), (636, 390), (647, 500)]
    left += [(651, 610), (645, 622), (616, 584), (560, 556), (512, 556), (470, 580), (420, 590)]
    left += [(420, 480), (420, 380), (420, 290), (420, 200)]
    mask = film.area(spline(right, closed=True), spline(left, closed=True), blur=3)
    air = ImageChops.subtract(mask, _mediastinum(film))
    film.shade(air, -90)
    film.shade(film.area(ring((226, 330), 60, 190), ring((542, 330), 60, 190), blur=40), -14)
    film.shade(film.area(ring((566, 606), 42, 24, 0.2), blur=7), -28)  # stomach gas
    return air


def _mediastinum(film: Film) -> Image.Image:
    """Return the mask of heart, great vessels and hila."""
    upper = [(344, 60), (338, 200), (340, 320), (424, 320), (436, 236), (432, 204), (422, 180)]
    heart = [(344, 330), (326, 390), (314, 460), (326, 556), (400, 620), (490, 640), (572, 600)]
    heart += [(562, 520), (526, 446), (480, 384), (454, 340), (444, 300), (396, 270)]
    shapes = [spline([*upper, (420, 60)], closed=True), spline(heart, closed=True)]
    shadow = film.area(*shapes, ring((426, 232), 25, 29), blur=4)
    hila = film.area(ring((332, 346), 21, 44, 0.3), ring((452, 326), 21, 34, -0.4), blur=9)
    return ImageChops.add(shadow, hila.point([round(0.55 * v) for v in range(256)]))


def _spine(film: Film) -> None:
    """Add the spine, seen through the mediastinum."""
    film.shade(film.area([(354, -20), (414, -20), (422, 800), (346, 800)], blur=8), 30)
    for i in range(17):
        top = 20 + i * (36 + i * 0.5)
        body = [(358, top), (410, top), (408, top + 29), (360, top + 29)]
        film.shade(film.area(body, blur=3), 8)
        film.shade(film.area(ring((MID, top + 34), 4, 9), blur=2.5), 6)


def _vessels(film: Film, rng: random.Random, lungs: Image.Image) -> None:
    """Add branching markings that fade towards the edge of each lung."""
    tree = film.mask(lambda pen: _grow_both(pen, rng), 1.3)
    film.shade(ImageChops.multiply(tree, lungs), 46)
    haze = grain(rng, film.size, 22, 9)
    film.shade(ImageChops.multiply(haze, lungs), 16)


def _grow_both(pen: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw the branches of both sides, each from its own place along the hilum."""
    for way, x, y in ((-1, 330.0, 346.0), (1, 454.0, 328.0)):
        for i in range(9):
            lift = (i - 4) / 4
            start = (x + rng.gauss(0, 5), y + 38 * lift + rng.gauss(0, 5))
            tilt = 1.15 * lift + rng.gauss(0, 0.16)
            angle = tilt if way > 0 else math.pi - tilt
            _grow(pen, rng, start, angle, rng.uniform(3.6, 6.0), rng.uniform(36, 52))


def _grow(
    pen: ImageDraw.ImageDraw,
    rng: random.Random,
    start: Point,
    angle: float,
    width: float,
    reach: float,
) -> None:
    """Draw one branch and its daughters."""
    if width < 0.7:
        return
    bend = rng.gauss(0, 0.26)
    middle = (start[0] + reach * 0.5 * math.cos(angle), start[1] + reach * 0.5 * math.sin(angle))
    end = (
        middle[0] + reach * 0.5 * math.cos(angle + bend),
        middle[1] + reach * 0.5 * math.sin(angle + bend),
    )
    path = [(x * SCALE, y * SCALE) for x, y in spline([start, middle, end], steps=5)]
    pen.line(
        path,
        fill=min(255, round(50 + 42 * width)),
        width=max(1, round(width * SCALE)),
        joint="curve",
    )
    _grow(pen, rng, end, angle + bend + rng.gauss(0, 0.24), width * 0.74, reach * 0.92)
    fork = rng.choice((-1, 1)) * rng.uniform(0.4, 0.8)
    _grow(pen, rng, end, angle + bend + fork, width * 0.6, reach * 0.76)


def _ribs(film: Film) -> None:
    """Add ten ribs on each side, back and front parts."""
    for i in range(10):
        y = 104 + i * 43.5
        back, front = _rib_lines(y, i)
        for flip in (False, True):
            _rib(film, mirror(back) if flip else back, 15 - 0.2 * i, 17)
            if i < 7:
                _rib(film, mirror(front) if flip else front, 17, 11)


def _rib_lines(y: float, i: int) -> tuple[list[Point], list[Point]]:
    """Return the centre lines of the back and front part of a rib, right side."""
    drop = 26 + 8.5 * i
    edge = wall(y + drop)
    reach = edge - 26
    back: list[Point] = [(MID - 26, y), (MID - 26 - reach * 0.25, y - 9)]
    back += [(MID - 26 - reach * 0.55, y + drop * 0.14), (MID - 26 - reach * 0.85, y + drop * 0.6)]
    back += [(MID - edge + 1, y + drop)]
    low = y + drop
    front: list[Point] = [(MID - edge + 1, low), (MID - edge + 4, low + 16)]
    front += [(MID - edge * 0.86, low + 38 + i), (MID - edge * 0.62, low + 62 + 3 * i)]
    front += [(MID - edge * 0.42 - 10, low + 74 + 4 * i)]
    return spline(back), spline(front)


def _rib(film: Film, line: Sequence[Point], width: float, amount: float) -> None:
    """Add one rib: a faint band with brighter edges."""
    band = film.stroke(line, width, 1.0)
    core = film.stroke(line, width - 5, 1.6)
    film.shade(band, amount)
    film.shade(ImageChops.subtract(band, core), amount * 0.7)


def _shoulders(film: Film) -> None:
    """Add collar bones, shoulder blades and the heads of the humeri."""
    clavicle = spline([(354, 152), (316, 146), (258, 138), (204, 120), (152, 112), (112, 122)])
    blade = spline(
        [(120, 140), (160, 170), (162, 250), (126, 376), (112, 380), (92, 230)], closed=True
    )
    arm = [(90, 166), (72, 138), (40, 140), (24, 170), (22, 220), (4, 330), (-20, 440)]
    humerus = spline([*arm, (6, 440), (34, 330), (54, 226), (82, 196)], closed=True)
    for flip in (False, True):
        side = mirror if flip else list
        _rib(film, side(clavicle), 17, 24)
        for outline, amount in ((blade, 9), (humerus, 26)):
            shape = film.area(side(outline), blur=1.8)
            film.shade(shape, amount)
            film.shade(ImageChops.subtract(shape, film.area(side(outline), blur=6)), amount * 1.6)


def _airway(film: Film) -> None:
    """Remove the air of the windpipe and main bronchi."""
    film.shade(film.stroke([(382, -10), (382, 150), (386, 276)], 23, 3), -30)
    film.shade(film.stroke(spline([(386, 272), (366, 306), (336, 342)]), 14, 3), -22)
    film.shade(film.stroke(spline([(386, 272), (412, 308), (450, 330)]), 12, 3), -20)


def _letter(film: Film, text: str, at: Point) -> None:
    """Add a lead side marker."""
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    small = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(small).text((-left, -top), text, fill=255, font=font)
    size = (small.width * 3 * SCALE, small.height * 3 * SCALE)
    big = small.resize(size, Image.Resampling.NEAREST)
    film.image.paste(240, (round(at[0] * SCALE), round(at[1] * SCALE)), big)


# --- hand -----------------------------------------------------------------------------

# For each ray: the joints from wrist to tip, and the bone width at its base.
RAYS: tuple[tuple[tuple[Point, ...], float], ...] = (
    (((200, 502), (144, 424), (104, 350), (82, 296)), 31),
    (((244, 468), (214, 318), (192, 214), (182, 152), (178, 108)), 30),
    (((284, 462), (282, 304), (280, 184), (280, 110), (280, 62)), 31),
    (((322, 470), (346, 324), (366, 216), (376, 148), (382, 102)), 28),
    (((356, 486), (404, 364), (440, 288), (458, 240), (470, 202)), 25),
)
# Wrist bones: centre, half axes and turn.
CARPALS: tuple[tuple[Point, float, float, float], ...] = (
    ((229, 543), 19, 35, 0.6),
    ((275, 552), 24, 23, 0.2),
    ((317, 549), 20, 22, -0.2),
    ((332, 556), 10, 11, 0.0),
    ((206, 514), 18, 15, 0.5),
    ((243, 493), 15, 17, 0.2),
    ((281, 497), 20, 34, 0.05),
    ((325, 502), 22, 28, -0.35),
)


def draw_hand(rng: random.Random) -> Image.Image:
    """Return a phantom hand radiograph, 560 x 768."""
    film = Film(560, 768, 9)
    _hand_flesh(film)
    for joints, width in RAYS:
        for i, (low, high) in enumerate(itertools.pairwise(joints)):
            tip = i == len(joints) - 2
            _bone(film, rng, low, high, width * 0.86**i, tip)
    for centre, rx, ry, turn in CARPALS:
        _solid(film, rng, spline(wobble(rng, ring(centre, rx, ry, turn, 9), 1.4), closed=True), 44)
    for spot in ((160, 414), (150, 424)):
        _solid(film, rng, ring(spot, 5, 6), 30)  # sesamoids
    _forearm(film, rng)
    _letter(film, "R", (40, 40))
    image = film.finish(rng, 0.1)
    write_caption(image, 225)
    return image


def _hand_flesh(film: Film) -> None:
    """Add the soft tissue of fingers, palm and wrist."""
    fingers = [
        film.stroke(spline([_palmward(joints), *joints[1:], _past(joints)]), w * 1.9)
        for joints, w in RAYS
    ]
    thumb = film.stroke(spline(list(RAYS[0][0])), 72, 8)
    palm = [(236, 300), (288, 288), (352, 308), (414, 356), (420, 440), (392, 540), (374, 620)]
    palm += [(390, 820), (164, 820), (174, 620), (170, 540), (176, 440), (200, 350)]
    mask = film.area(spline(palm, closed=True), blur=5)
    for part in (*fingers, thumb):
        mask = ImageChops.lighter(mask, part)
    film.shade(mask.filter(ImageFilter.GaussianBlur(3 * SCALE)), 52)
    film.shade(film.area(ring((286, 450), 88, 110), blur=36), 22)


def _palmward(joints: Sequence[Point]) -> Point:
    """Return a point on the first bone of a ray, where its finger meets the palm."""
    (x0, y0), (x1, y1) = joints[0], joints[1]
    return x1 + (x0 - x1) * 0.3, y1 + (y0 - y1) * 0.3


def _past(joints: Sequence[Point]) -> Point:
    """Return a point a little beyond the tip."""
    (x0, y0), (x1, y1) = joints[-2], joints[-1]
    return x1 + (x1 - x0) * 0.12, y1 + (y1 - y0) * 0.12


def _bone(film: Film, rng: random.Random, low: Point, high: Point, width: float, tip: bool) -> None:
    """Add one long bone, waisted in the middle, with gaps left for the joints."""
    length = math.dist(low, high)
    ux, uy = (high[0] - low[0]) / length, (high[1] - low[1]) / length
    profile = [(0.03, 0.34), (0.06, 0.5), (0.16, 0.42), (0.35, 0.29), (0.6, 0.26), (0.8, 0.33)]
    profile += [(0.9, 0.36), (0.97, 0.2)] if tip else [(0.89, 0.41), (0.95, 0.38), (0.98, 0.2)]
    along = [(t * length, half * width * rng.uniform(0.96, 1.04)) for t, half in profile]
    left = [(low[0] + ux * s - uy * h, low[1] + uy * s + ux * h) for s, h in along]
    right = [(low[0] + ux * s + uy * h, low[1] + uy * s - ux * h) for s, h in along]
    _solid(film, rng, spline([*left, *reversed(right)], closed=True, steps=6), 60)


def _solid(film: Film, rng: random.Random, outline: Sequence[Point], amount: float) -> None:
    """Add a bone with a brighter rim (cortex) than centre (marrow) and a fine mesh."""
    shape = film.area(outline, blur=0.9)
    film.shade(shape, amount)
    film.shade(ImageChops.subtract(shape, film.area(outline, blur=3.5)), amount * 1.1)
    mesh = grain(rng, film.size, 4, 1.5)
    film.shade(ImageChops.multiply(shape, mesh), 26)


def _forearm(film: Film, rng: random.Random) -> None:
    """Add the lower ends of radius and ulna."""
    radius = [(202, 580), (214, 575), (248, 587), (292, 586), (298, 602), (284, 660), (276, 830)]
    radius += [(226, 830), (220, 690), (206, 630)]
    ulna = [(310, 604), (326, 598), (338, 586), (348, 594), (348, 622), (338, 670), (336, 830)]
    ulna += [(304, 830), (306, 670), (304, 624)]
    for bone in (radius, ulna):
        _solid(film, rng, spline(bone, closed=True), 66)


# --- histology ------------------------------------------------------------------------

EOSIN: Colour = (226, 158, 196)
LUMEN: Colour = (247, 240, 246)
CYTOPLASM: Colour = (205, 142, 192)
NUCLEUS: Colour = (120, 74, 148)
VESSEL: tuple[Point, float] = ((560, 560), 70)
DARK: Colour = (84, 48, 116)
RED_CELL: Colour = (214, 84, 110)


def draw_tile(rng: random.Random) -> Image.Image:
    """Return an H&E-like tile with glands in a fibrous stroma, 512 x 512."""
    side = 512 * SCALE
    image = _stroma(rng, side)
    glands = _place(rng, 9, side)
    for _ in range(420):
        _stroma_cell(image, rng, (rng.uniform(0, side), rng.uniform(0, side)), glands)
    for centre, radius in glands[1:]:
        _gland(image, rng, centre, radius)
    _red_cells(image, rng, VESSEL[0])
    small = image.filter(ImageFilter.GaussianBlur(1.6)).resize((512, 512), Image.Resampling.LANCZOS)
    small = small.quantize(
        160, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE
    ).convert("RGB")
    ImageDraw.Draw(small).rectangle((4, 492, 134, 508), fill=LUMEN)
    write_caption(small, (40, 20, 60))
    return small


def _stroma(rng: random.Random, side: int) -> Image.Image:
    """Return the pink ground with wavy fibres."""
    image = Image.new("RGB", (side, side), EOSIN)
    pen = ImageDraw.Draw(image)
    for _ in range(1500):
        x, y = rng.uniform(-80, side), rng.uniform(-20, side + 20)
        lean = 0.35 * math.sin(x / 190) + 0.3 * math.cos(y / 230)
        path = [(x + s * 22, y + s * 22 * lean + rng.gauss(0, 2)) for s in range(6)]
        shift = rng.randint(-26, 22)
        tint = (EOSIN[0] + shift // 2, EOSIN[1] + shift, EOSIN[2] + shift // 2)
        pen.line(spline(path, steps=5), fill=tint, width=rng.randint(2, 7))
    return image.filter(ImageFilter.GaussianBlur(1.5))


def _place(rng: random.Random, count: int, side: int) -> list[tuple[Point, float]]:
    """Return the vessel, then glands that overlap neither it nor each other."""
    found = [VESSEL]
    while len(found) <= count:
        centre = (rng.uniform(0, side), rng.uniform(0, side))
        radius = rng.uniform(96, 150)
        if all(math.dist(centre, c) > radius + r + 34 for c, r in found):
            found.append((centre, radius))
    return found


def _stroma_cell(
    image: Image.Image, rng: random.Random, at: Point, glands: Sequence[tuple[Point, float]]
) -> None:
    """Draw a spindle cell or a lymphocyte between the glands."""
    if any(math.dist(at, centre) < radius + 16 for centre, radius in glands):
        return
    if rng.random() < 0.32:
        _nucleus(image, rng, at, rng.uniform(8, 10), 1.0, 0.0, DARK)
    else:
        lean = math.atan(0.35 * math.sin(at[0] / 190) + 0.3 * math.cos(at[1] / 230))
        _nucleus(image, rng, at, rng.uniform(14, 20), 0.3, lean + rng.gauss(0, 0.2), NUCLEUS)


def _nucleus(
    image: Image.Image,
    rng: random.Random,
    at: Point,
    size: float,
    flat: float,
    turn: float,
    colour: Colour,
) -> None:
    """Draw one nucleus with a darker rim, clumps and a nucleolus."""
    pen = ImageDraw.Draw(image)
    shift = rng.randint(-14, 18)
    body = (colour[0] + shift, colour[1] + shift, colour[2] + shift)
    rim = (body[0] - 26, body[1] - 22, body[2] - 18)
    outline = wobble(rng, ring(at, size, size * flat, turn, 14), size * 0.04)
    pen.polygon(outline, fill=body)
    pen.line([*outline, outline[0]], fill=rim, width=2)
    for _ in range(round(size * flat * 0.8)):
        angle, far = rng.uniform(0, math.tau), rng.uniform(0, 0.7)
        spot = ring(at, size * far, size * flat * far, turn, 32)[int(angle / math.tau * 32)]
        tint = rim if rng.random() < 0.6 else (body[0] + 30, body[1] + 28, body[2] + 24)
        r = rng.uniform(1.2, 2.6)
        pen.ellipse((spot[0] - r, spot[1] - r, spot[0] + r, spot[1] + r), fill=tint)


def _gland(image: Image.Image, rng: random.Random, centre: Point, radius: float) -> None:
    """Draw a gland: a halo of pale stroma, tall cells, basal nuclei and a lumen."""
    pen = ImageDraw.Draw(image)
    flat, turn = rng.uniform(0.74, 0.98), rng.uniform(0, math.pi)

    def at(part: float, count: int) -> list[Point]:
        return ring(centre, radius * part, radius * flat * part, turn, count)

    pen.polygon(spline(wobble(rng, at(1.07, 24), 3), closed=True), fill=(236, 184, 212))
    pen.polygon(spline(wobble(rng, at(1.0, 24), 2), closed=True), fill=CYTOPLASM)
    cells = round(radius * 0.27)
    for edge in at(1.0, cells):
        pen.line((*edge, *centre), fill=(220, 164, 206), width=2)
    pen.polygon(spline(wobble(rng, at(0.44, 20), 4), closed=True), fill=(228, 186, 218))
    pen.polygon(spline(wobble(rng, at(0.4, 20), 4), closed=True), fill=LUMEN)
    _secretion(pen, rng, at)
    for x, y in at(0.8, cells):
        place = wobble(rng, [(x, y)], 3)[0]
        lean = math.atan2(y - centre[1], x - centre[0])
        _nucleus(image, rng, place, rng.uniform(13, 17), rng.uniform(0.5, 0.64), lean, NUCLEUS)


def _secretion(
    pen: ImageDraw.ImageDraw, rng: random.Random, at: Callable[[float, int], list[Point]]
) -> None:
    """Draw faint debris in a lumen."""
    for _ in range(26):
        x, y = rng.choice(at(rng.uniform(0.02, 0.3), 24))
        r = rng.uniform(1.5, 5)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(238, 218, 232))


def _red_cells(image: Image.Image, rng: random.Random, centre: Point) -> None:
    """Draw a small vessel with red cells."""
    pen = ImageDraw.Draw(image)
    pen.polygon(spline(ring(centre, 62, 30, 0.4, 14), closed=True), fill=(240, 222, 232))
    for _ in range(26):
        x, y = rng.choice(ring(centre, 62 * rng.uniform(0, 0.8), 30 * rng.uniform(0, 0.75), 0.4))
        pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=RED_CELL, outline=(198, 70, 98))
    for x, y in ring(centre, 66, 34, 0.4, 7):
        lean = math.atan2(y - centre[1], x - centre[0]) + math.pi / 2
        _nucleus(image, rng, (x, y), 15, 0.26, lean, NUCLEUS)


# --- command line ---------------------------------------------------------------------

PICTURES: tuple[tuple[str, str, Callable[[random.Random], Image.Image]], ...] = (
    ("phantom-chest.png", "Phantom PA chest radiograph", draw_chest),
    ("phantom-hand.png", "Phantom hand radiograph", draw_hand),
    ("he-like-tile.png", "H&E-like histology tile", draw_tile),
)


def main() -> None:
    """Draw every picture into the chosen folder."""
    parser = argparse.ArgumentParser(description="Draw the sample pictures.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, what, draw in PICTURES:
        rng = random.Random(f"{SEED} {name}")  # noqa: S311 - a fixed seed is the point
        save(draw(rng), folder / name, what)


if __name__ == "__main__":
    main()
