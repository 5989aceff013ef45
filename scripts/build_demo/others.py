"""Pictures that show neither tissue nor a chest: films of limbs, and nothing at all."""

import numpy as np
from PIL import Image

from scripts.build_demo import canvas
from scripts.build_demo.canvas import SIDE, Place, Point, area, ring, spline, strokes, wobble
from scripts.build_demo.chest import developed
from scripts.build_demo.drawn import LIMBS, Drawn, Facts

_PLACE = Place(unit=100)


def limb(rng: np.random.Generator) -> Drawn:
    """Long bones side by side in soft tissue, or a hand."""
    hand = bool(rng.random() < 0.5)
    bones = _hand(rng) if hand else _long_bones(rng)
    values = np.full((SIDE, SIDE), 8, np.float32)
    tissue = strokes(_PLACE, [(line, width * 2.4, 255) for line, width in bones], blur=1.2)
    values += tissue * float(rng.uniform(25, 60))
    band = strokes(_PLACE, [(line, width, 255) for line, width in bones], blur=0.3)
    core = strokes(_PLACE, [(line, width * 0.5, 255) for line, width in bones], blur=0.5)
    values += band * float(rng.uniform(70, 120)) - core * float(rng.uniform(10, 35))
    for line, width in bones:
        ends = [ring(end, width * 0.75, width * 0.6, 0, 10) for end in (line[0], line[-1])]
        values += area(_PLACE, *ends, blur=0.3) * 20
    layout = LIMBS[0 if hand else 1]
    return Drawn(developed(rng, values), Facts("limb", 0, layout=layout), _nothing())


Bones = list[tuple[list[Point], float]]


def _long_bones(rng: np.random.Generator) -> Bones:
    made: Bones = []
    lean, count = float(rng.normal(0, 10)), int(rng.integers(1, 4))
    for i in range(count):
        x = 50 + (i - (count - 1) / 2) * float(rng.uniform(14, 24))
        line: list[Point] = [(x - lean, -8), (x, 50), (x + lean, 108)]
        if rng.random() < 0.5:  # a joint
            cut = float(rng.uniform(35, 65))
            halves = [(x - lean, -8), (x - 1, cut - 2)], [(x + 1, cut + 2), (x + lean, 108)]
            made += [(list(half), float(rng.uniform(6, 10))) for half in halves]
        else:
            made.append((spline(wobble(rng, line, 1.5)), float(rng.uniform(5, 10))))
    return made


def _hand(rng: np.random.Generator) -> Bones:
    made: Bones = []
    flip = float(rng.choice((-1, 1)))
    for i in range(5):
        spread = (i - 2) * float(rng.uniform(9, 12)) * flip
        length = (38, 56, 62, 56, 44)[i] * float(rng.uniform(0.9, 1.1))
        base, tip = (50 + spread * 0.55, 66.0), (50 + spread * 1.9, 66 - length)
        for a, b in ((0.0, 0.38), (0.42, 0.68), (0.71, 0.86), (0.89, 1.0)):
            ends = [(base[0] + (tip[0] - base[0]) * t, base[1] + (tip[1] - base[1]) * t)
                    for t in (a, b)]  # fmt: skip
            made.append((ends, float(rng.uniform(2.6, 4.2)) * (1.1 - 0.4 * a)))
    made += [([(x, 74.0), (x + 3, 76.0)], 6.0) for x in (38.0, 46.0, 54.0)]
    return [*made, ([(44.0, 82.0), (43.0, 108.0)], 9.0), ([(58.0, 83.0), (60.0, 108.0)], 6.0)]


def blank(rng: np.random.Generator) -> Drawn:
    """One colour, or one with a little grain: nothing can be seen."""
    level = rng.uniform(0, 255)
    colour = level + (rng.normal(0, 25, 3) if rng.random() < 0.4 else np.zeros(3))
    values = np.broadcast_to(colour, (SIDE, SIDE, 3)).astype(np.float32)
    if rng.random() < 0.5:
        values = values + (canvas.noise(rng, 1) * float(rng.uniform(0, 6)))[..., None]
    if rng.random() < 0.2:
        values = values + (canvas.noise(rng, 112) * float(rng.uniform(0, 8)))[..., None]
    picture = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    return Drawn(picture, Facts("blank", 0), _nothing())


def _nothing() -> canvas.Field:
    return np.zeros((4, canvas.PATCHES, canvas.PATCHES), np.float32)
