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
            warnings.simplefilter("ignore")  # the pixel cap below is ours and lower
            image = Pillow.open(io.BytesIO(data), formats=_FORMATS)
            frames = int(getattr(image, "n_frames", 1))
            if image.width * image.height * frames > limits.max_pixels:
                raise DocumentError("too_many_pixels")
            image.load()
    except (UnidentifiedImageError, NotImplementedError):
        raise DocumentError("format") from None
    except Pillow.DecompressionBombError:
        raise DocumentError("too_many_pixels") from None
    except (ValueError, MemoryError, OverflowError):
        raise DocumentError("limit") from None
    except (OSError, SyntaxError, EOFError, KeyError, TypeError, IndexError):
        raise DocumentError("image_truncated") from None
    rgb, notes = _to_rgb(image)
    if frames > 1:
        notes.append(f"frame:1/{frames}")
    pixels = Image(width=rgb.width, height=rgb.height, rgb=rgb.tobytes())
    coverage = {"images": (1, 1), "frames": (1, frames)}
    return Content(images=(pixels,), coverage=coverage, degraded=tuple(notes))


def _to_rgb(image: "Pillow.Image") -> "tuple[Pillow.Image, list[str]]":
    from PIL import Image as Pillow
    from PIL import ImageOps

    notes: list[str] = []
    upright = ImageOps.exif_transpose(image)
    if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
        notes.append("exif_orientation")
    if upright.mode.startswith(("I", "F")):
        notes.append("rescaled:minimum-maximum")
        return _rescale(upright).convert("RGB"), notes
    if upright.has_transparency_data:
        notes.append("composited:white")
        layer = upright.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, layer).convert("RGB"), notes
    return upright.convert("RGB"), notes


def _rescale(image: "Pillow.Image") -> "Pillow.Image":
    wide = image.convert("F")
    low, high = wide.getextrema()
    assert isinstance(low, float) and isinstance(high, float)
    scale = 255.0 / (high - low) if high > low else 0.0
    # Pillow takes only this linear form on floating-point images.
    return wide.point(lambda value: value * scale + (-low * scale)).convert("L")
