"""Letters on films: which side it is, and that it is drawn. They must not count for anything."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAPTION = "DRAWN, NOT A PATIENT"


def letter(rng: np.random.Generator, film: Image.Image) -> None:
    """L or R in an upper corner, as often as not."""
    if rng.random() < 0.5:
        return
    left = bool(rng.random() < 0.5)
    stamp = _stamp("L" if left else "R")
    size = int(rng.integers(6, 12))
    stamp = stamp.resize((size, round(size * 1.4)))
    x = 224 - 30 + int(rng.integers(0, 12)) if left else 8 + int(rng.integers(0, 12))
    film.paste(int(rng.integers(170, 256)), (x, 8 + int(rng.integers(0, 12))), stamp)


def caption(rng: np.random.Generator, film: Image.Image) -> None:
    """The words of the pictures in raw/images, as small as they are there."""
    if rng.random() < 0.5:
        return
    stamp = _stamp(CAPTION)
    wide = int(rng.integers(32, 70))
    stamp = stamp.resize((wide, max(3, round(stamp.height * wide / stamp.width))))
    film.paste(int(rng.integers(150, 256)), (2, 224 - stamp.height - 2), stamp)


def _stamp(text: str) -> Image.Image:
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    stamp = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(stamp).text((-left, -top), text, fill=255, font=font)
    return stamp
