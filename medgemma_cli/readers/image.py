"""Raster images through Pillow, to 8-bit RGB without clinical corruption and without surprises."""

import io
import warnings
from typing import TYPE_CHECKING

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.records import Image

if TYPE_CHECKING:
    from PIL import Image as Pillow

VERSION = "image/1"
MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
}
# Never let Pillow try its other plugins: EPS, for one, runs Ghostscript.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


def read(data: bytes, limits: ReadLimits) -> Content:
    """Decode the first frame to RGB, upright, over white where it is transparent.

    16-bit and floating-point grey is rescaled from its own minimum and maximum: a plain
    `convert` would clip 12-in-16-bit radiographs to black and white.

    Raises:
        DocumentError: ``format`` (no image of a kind read here), ``too_many_pixels`` (all frames
            together, before decoding), ``limit`` (text chunks that swell), ``image_truncated``.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Pillow.MAX_IMAGE_PIXELS = None  # the cap below is the one that counts
            image = Pillow.open(io.BytesIO(data), formats=_FORMATS)
            frames = int(getattr(image, "n_frames", 1))
            if image.width * image.height * frames > limits.max_pixels:
                raise DocumentError("too_many_pixels")
            deep = any(";16" in str(tile) for tile in image.tile)
            image.load()
    except (UnidentifiedImageError, NotImplementedError):
        raise DocumentError("format") from None
    except (ValueError, MemoryError, OverflowError):
        raise DocumentError("limit") from None
    except (OSError, SyntaxError, EOFError, KeyError, TypeError, IndexError):
        raise DocumentError("image_truncated") from None
    rgb, notes = _to_rgb(image)
    if deep and image.mode in ("RGB", "RGBA", "LA"):
        notes.append("depth:16->8")  # Pillow keeps the high byte alone
    if frames > 1:
        notes.append(f"frame:1/{frames}")
    pixels = Image(width=rgb.width, height=rgb.height, rgb=rgb.tobytes())
    coverage = {"images": (1, 1), "frames": (1, frames)}
    return Content(images=(pixels,), coverage=coverage, degraded=tuple(notes))


def _to_rgb(image: "Pillow.Image") -> "tuple[Pillow.Image, list[str]]":
    from PIL import Image as Pillow
    from PIL import ImageOps

    upright, notes = _upright(image)
    if upright.mode.startswith(("I", "F")):
        grey = _rescale(upright)
        # TIFF's tag 262 (photometric interpretation) at 0 means that 0 is white.
        if getattr(image, "tag_v2", {}).get(262) == 0:
            grey = ImageOps.invert(grey)
        return grey.convert("RGB"), [*notes, "rescaled:minimum-maximum"]
    if upright.has_transparency_data:
        notes.append("composited:white")
        layer = upright.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, layer).convert("RGB"), notes
    return upright.convert("RGB"), notes


def _upright(image: "Pillow.Image") -> "tuple[Pillow.Image, list[str]]":
    """Apply EXIF's orientation (tag 274), and that alone: other tags may be damaged."""
    from PIL import Image as Pillow

    turns = Pillow.Transpose
    methods = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    try:
        method = methods.get(image.getexif().get(274, 1))
    except Exception:  # Pillow's EXIF parser raises whatever its bytes lead it to
        return image, ["exif_unreadable"]
    if method is None:
        return image, []
    return image.transpose(method), ["exif_orientation"]


def _rescale(image: "Pillow.Image") -> "Pillow.Image":
    """Minimum to 0, maximum to 255, in a straight line.

    Raises:
        DocumentError: ``format``, a pixel is no finite number.
    """
    import numpy as np

    wide = image.convert("F")
    if not np.isfinite(np.asarray(wide)).all():
        raise DocumentError("format")
    low, high = wide.getextrema()
    assert isinstance(low, float) and isinstance(high, float)
    scale = 255.0 / (high - low) if high > low else 0.0
    # Pillow takes only this linear form on floating-point images.
    return wide.point(lambda value: value * scale + (-low * scale)).convert("L")
