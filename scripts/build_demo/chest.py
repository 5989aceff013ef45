"""Phantoms of chest films, with or without an opacity, in the manner of raw/images/draw.py.

Coordinates are of a square of 768, the patient's right on its left. Nothing comes from a patient.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from scripts.build_demo import canvas
from scripts.build_demo.canvas import Field, Place, Point, area, ring, spline, strokes, wobble
from scripts.build_demo.drawn import Drawn, Facts
from scripts.build_demo.marks import caption, letter

_UNIT = 768.0
_MID = 384.0
_RIGHT = [(322, 122), (280, 100), (236, 122), (196, 180), (156, 270), (132, 390), (121, 500),
          (117, 594), (150, 566), (205, 536), (262, 530), (312, 552), (340, 580), (350, 480),
          (350, 380), (350, 290), (350, 200)]  # fmt: skip
_LEFT = [(446, 122), (488, 100), (532, 122), (572, 180), (612, 270), (636, 390), (647, 500),
         (651, 610), (616, 584), (560, 556), (512, 556), (470, 580), (420, 590), (420, 480),
         (420, 380), (420, 290), (420, 200)]  # fmt: skip
_HEART = [(344, 330), (326, 390), (314, 460), (326, 556), (400, 620), (490, 640), (572, 600),
          (562, 520), (526, 446), (480, 384), (454, 340), (444, 300), (396, 270)]  # fmt: skip
_TRUNK = [(322, -40), (318, 30), (290, 66), (190, 92), (96, 112), (34, 150), (-30, 240),
          (-40, 420), (30, 430), (66, 520), (74, 640), (68, 830)]  # fmt: skip
_BLADE = [(120, 140), (160, 170), (162, 250), (126, 376), (112, 380), (92, 230)]
_ARM = [(90, 166), (72, 138), (40, 140), (24, 170), (22, 220), (4, 330), (-20, 440), (6, 440),
        (34, 330), (54, 226), (82, 196)]  # fmt: skip
_CLAVICLE = [(354, 152), (316, 146), (258, 138), (204, 120), (152, 112), (112, 122)]
_ZONES = {"upper": (150.0, 315.0), "lower": (345.0, 560.0)}


class Opacity(NamedTuple):
    """Where it is, its radius, how soft its edge and how dense it is (greys)."""

    at: Point
    radius: float
    soft: float
    dense: float


def draw(rng: np.random.Generator, label: int) -> Drawn:
    """A film with one opacity in a lung (`label` 1), or without."""
    place = Place(
        unit=_UNIT,
        wide=float(rng.uniform(0.9, 1.08)),
        high=float(rng.uniform(0.9, 1.08)),
        turn=float(rng.normal(0, 0.03)),
        shift=(float(rng.normal(0, 0.015)), float(rng.normal(0, 0.02))),
    )
    values = np.full((canvas.SIDE, canvas.SIDE), 6, np.float32)
    sides = [area(place, spline(wobble(rng, lung, 5), closed=True), blur=3)
             for lung in (_RIGHT, _LEFT)]  # fmt: skip
    middle = _mediastinum(rng, place)
    lungs = [lung * (1 - middle) for lung in sides]
    values += _body(rng, place) - (lungs[0] + lungs[1]) * float(rng.uniform(72, 98))
    values += _bones(rng, place) * float(rng.uniform(0.6, 1.3))
    values += _vessels(rng, place) * (lungs[0] + lungs[1]) * float(rng.uniform(25, 55))
    facts, shadow = Facts("chest", label), np.zeros_like(values)
    if label:
        facts, shadow = _opacity(rng, place, lungs)
    values += shadow
    parts = np.zeros((4, canvas.PATCHES, canvas.PATCHES), np.float32)
    parts[2] = canvas.shares(lungs[0] + lungs[1])
    parts[3] = np.minimum(1, canvas.shares(shadow) / 12)
    return Drawn(developed(rng, values), facts, parts)


def _mirror(points: list[Point]) -> list[Point]:
    return [(2 * _MID - x, y) for x, y in points]


def _mediastinum(rng: np.random.Generator, place: Place) -> Field:
    """Heart, great vessels and hila, as a mask."""
    wide = float(rng.uniform(0.86, 1.12))
    heart = [((x - 400) * wide + 400, y) for x, y in wobble(rng, _HEART, 5)]
    upper: list[Point] = [(344, 60), (338, 200), (340, 320), (424, 320), (436, 236), (422, 60)]
    shapes = (spline(heart, closed=True), upper, ring((426, 232), 25, 29))
    hila = area(place, ring((332, 346), 21, 44, 0.3), ring((452, 326), 21, 34, -0.4), blur=9)
    mask = np.maximum(area(place, *shapes, blur=4), hila * float(rng.uniform(0.2, 0.6)))
    return np.asarray(mask, np.float32)


def _body(rng: np.random.Generator, place: Place) -> Field:
    """Soft tissue, thicker below and in the middle, and the spine."""
    side = spline(wobble(rng, _TRUNK, 4))
    body = area(place, [*side, *reversed(_mirror(side))], blur=4) * float(rng.uniform(92, 116))
    body = body + area(place, ring((_MID, 720), 340, 170), blur=50) * float(rng.uniform(20, 45))
    body = body + area(place, ring((_MID, 300), 190, 330), blur=60) * 18
    spine: list[Point] = [(354, -20), (414, -20), (422, 800), (346, 800)]
    body = body + area(place, spine, blur=8) * float(rng.uniform(18, 38))
    gas = ring((566 + float(rng.normal(0, 12)), 606), 42, 24, 0.2)
    body = body - area(place, gas, blur=7) * float(rng.uniform(0, 34))
    return np.asarray(body - strokes(place, _airway(), blur=3) * 30, np.float32)


def _airway() -> list[tuple[list[Point], float, int]]:
    right, left = [(386, 272), (366, 306), (336, 342)], [(386, 272), (412, 308), (450, 330)]
    trachea: list[Point] = [(382, -10), (382, 150), (386, 276)]
    return [(trachea, 23, 255), (spline(right), 14, 180), (spline(left), 12, 180)]


def _bones(rng: np.random.Generator, place: Place) -> Field:
    """Ribs with brighter edges, collar bones, shoulder blades and arms."""
    lines: list[tuple[list[Point], float]] = []
    step, top = float(rng.uniform(41, 46)), float(rng.uniform(96, 112))
    for i in range(10):
        back, front = _rib(top + i * step, i)
        lines += [(back, 15.0), (_mirror(back), 15.0)]
        if i < 7:
            lines += [(front, 14.0), (_mirror(front), 14.0)]
    bands = strokes(place, [(line, width, 255) for line, width in lines], blur=1)
    cores = strokes(place, [(line, width - 5, 255) for line, width in lines], blur=1.6)
    made = bands * 14 + np.clip(bands - cores, 0, 1) * 9
    clavicles = [(spline(_CLAVICLE), 17.0, 255), (_mirror(spline(_CLAVICLE)), 17.0, 255)]
    made += strokes(place, clavicles, blur=1) * 24
    for outline, amount in ((_BLADE, 10), (_ARM, 40)):
        shape = spline(wobble(rng, [(float(x), float(y)) for x, y in outline], 3), closed=True)
        made += area(place, shape, _mirror(shape), blur=1.8) * amount
    return np.asarray(made, np.float32)


def _rib(y: float, i: int) -> tuple[list[Point], list[Point]]:
    """The centre lines of the back and the front part of a rib, right side."""
    drop = 26 + 8.5 * i
    edge = 262 - 165 * math.exp(-(y + drop - 70) / 120)
    reach, low = edge - 26, y + drop
    back: list[Point] = [(_MID - 26, y), (_MID - 26 - reach * 0.25, y - 9)]
    back += [(_MID - 26 - reach * 0.55, y + drop * 0.14)]
    back += [(_MID - 26 - reach * 0.85, y + drop * 0.6), (_MID - edge + 1, low)]
    front: list[Point] = [(_MID - edge + 1, low), (_MID - edge + 4, low + 16)]
    front += [(_MID - edge * 0.86, low + 38 + i), (_MID - edge * 0.62, low + 62 + 3 * i)]
    return spline(back), spline([*front, (_MID - edge * 0.42 - 10, low + 74 + 4 * i)])


def _vessels(rng: np.random.Generator, place: Place) -> Field:
    """Branching lines from both hila that thin out towards the edge."""
    lines: list[tuple[list[Point], float, int]] = []

    def grow(x: float, y: float, angle: float, width: float, reach: float) -> None:
        if width < 0.9:
            return
        end = (x + reach * math.cos(angle), y + reach * math.sin(angle))
        lines.append(([(x, y), end], width, min(255, round(50 + 42 * width))))
        grow(*end, angle + float(rng.normal(0, 0.3)), width * 0.74, reach * 0.92)
        fork = float(rng.choice((-1, 1)) * rng.uniform(0.4, 0.8))
        grow(*end, angle + fork, width * 0.6, reach * 0.76)

    for way, x, y in ((-1, 330.0, 346.0), (1, 454.0, 328.0)):
        for i in range(9):
            tilt = 1.15 * (i - 4) / 4 + float(rng.normal(0, 0.16))
            angle = tilt if way > 0 else math.pi - tilt
            lift = 38 * (i - 4) / 4 + float(rng.normal(0, 5))
            grow(x, y + lift, angle, float(rng.uniform(3.2, 6)), float(rng.uniform(36, 52)))
    return strokes(place, lines, blur=1.3)


def _opacity(rng: np.random.Generator, place: Place, lungs: Sequence[Field]) -> tuple[Facts, Field]:
    """One opacity inside a lung, and what it adds to the greys."""
    side, zone = int(rng.integers(2)), str(rng.choice(list(_ZONES)))
    small = bool(rng.random() < 0.5)
    radius = float(rng.uniform(18, 30) if small else rng.uniform(36, 64))
    at = _inside(rng, place, lungs[side], _ZONES[zone], radius)
    soft = radius * float(rng.uniform(0.15, 0.35) if small else rng.uniform(0.25, 0.6))
    edge = ring(at, radius, radius * float(rng.uniform(0.7, 1)), float(rng.uniform(0, 3)), 12)
    outline = spline(wobble(rng, edge, radius * float(rng.uniform(0.02, 0.14))), closed=True)
    dense = float(rng.uniform(80, 120) if small else rng.uniform(70, 110))
    shadow = area(place, outline, blur=soft) * (0.35 + 0.65 * lungs[side]) * dense
    names = ("right", "left")[side], "small round" if small else "large"
    return Facts("chest", 1, side=names[0], zone=zone, size=names[1]), shadow


def _inside(
    rng: np.random.Generator, place: Place, lung: Field, zone: tuple[float, float], radius: float
) -> Point:
    """A point of the lung that has air around it."""
    for _ in range(400):
        at = (float(rng.uniform(110, 660)), float(rng.uniform(*zone)))
        near = ring(at, min(radius, 24) * 0.8, min(radius, 24) * 0.8, 0, 8)
        spots = [(x / canvas.SCALE, y / canvas.SCALE) for x, y in place.put([at, *near])]
        last = lung.shape[0] - 1
        if all(0 <= x <= last and 0 <= y <= last and lung[int(y), int(x)] > 0.8 for x, y in spots):
            return at
    raise AssertionError("a lung without air")  # the outlines leave room in every zone


def developed(rng: np.random.Generator, values: Field) -> Image.Image:
    """A film at its final size: contrast, blur, uneven light, grain, letters."""
    small = canvas.softened(canvas.grey(values), float(rng.uniform(0, 0.7)))
    shown = np.asarray(small, np.float32) / 255
    shown = 255 * np.power(shown, float(rng.uniform(0.75, 1.3))) * float(rng.uniform(0.8, 1.3))
    shown = shown + canvas.noise(rng, 100) * float(rng.uniform(0, 6))
    shown = shown + canvas.noise(rng, float(rng.uniform(1, 2))) * float(rng.uniform(1, 6))
    film = canvas.grey(shown)
    letter(rng, film)
    caption(rng, film)
    return film.convert("RGB")
