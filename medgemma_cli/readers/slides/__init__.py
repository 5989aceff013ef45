"""Whole-slide images through OpenSlide: patches with tissue at 10x, as MedGemma 1.5 was shown them.

Neither the pictures beside the slide (label, macro, thumbnail), on which names are written, nor
any word of its header leaves this reader: two numbers of it, the resolution, are used. `files` and
`tiff` run in the main process; the rest runs where bytes are decoded.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.readers.slides import tiff, tissue
from medgemma_cli.readers.slides.files import SUFFIXES, SlideFiles, check_same
from medgemma_cli.records import Image, Slide

if TYPE_CHECKING:
    from PIL import Image as Pillow

KIND = "application/x-whole-slide-image"
MEDIA_TYPES = dict.fromkeys(SUFFIXES, KIND)
VERSION = "slides/1"
LIBRARIES = ("openslide-python", "openslide-bin", "pillow", "numpy")
ABORTS = True  # GLib ends its process where it gets no more memory
PATCH = 896  # pixels a side, which Gemma's vision tower takes
MOST = 125  # patches, as Google's model card of MedGemma 1.5 has it
UNIT = "patches"
ASSUMED = "magnification_assumed"
_TEN = 1.0  # micrometres a pixel at 10x, where 40x has 0.25
_GUESS = 0.5  # micrometres a pixel at 20x, with which most slides are scanned
_MICRONS = (0.05, 20.0)
_POWERS = (1.0, 150.0)
_LOW = 1024, 2048  # pixels of the longer side of the picture in which tissue is looked for
_MOST_CELLS = 1_000_000


class Resolution(NamedTuple):
    """Micrometres a pixel of the finest level, and how that is known."""

    microns: float
    known: Literal["mpp", "objective", "assumed"]


def read(files: SlideFiles, limits: ReadLimits) -> Content:
    """Patches of a slide with tissue, at most 125 and `limits.max_pixels` of them in all.

    Raises:
        DocumentError: ``no_slide_reader`` (the extra is not installed), ``slide_corrupt`` (no
            slide, damaged, cut short), ``no_tissue``, ``too_many_pixels`` (not one patch is within
            the limit, or no level for finding tissue), ``limit``, ``unstable``.
    """
    check_same(files)
    with _opened(files) as slide:
        content = _content(slide, limits)
    check_same(files)
    return content


@contextlib.contextmanager
def _opened(files: SlideFiles) -> Iterator[Any]:
    try:
        import openslide
    except ImportError:
        raise DocumentError("no_slide_reader") from None
    try:
        with openslide.OpenSlide(files.place) as slide:
            _check_first(slide, files)
            yield slide
    except (openslide.OpenSlideError, OSError, ValueError, KeyError):
        raise DocumentError("slide_corrupt") from None


def _check_first(slide: Any, files: SlideFiles) -> None:
    """See that a TIFF without a maker's marks begins with its largest page.

    OpenSlide takes the first page of such a file for the slide: of a damaged one it may be the
    label. For the same reason one that bears a maker's suffix has to bear its marks, too.
    """
    if slide.properties.get("openslide.vendor") != "generic-tiff":
        return
    with open(files.place, "rb") as file:
        first = tiff.leads(file)
    if not first or files.place.lower().endswith(SUFFIXES):
        raise DocumentError("slide_corrupt")


def _content(slide: Any, limits: ReadLimits) -> Content:
    most = min(MOST, limits.max_pixels // PATCH**2)
    if most < 1:
        raise DocumentError("too_many_pixels")
    found = resolution(slide.properties)
    width, height = slide.dimensions
    plan = tissue.Plan(width, height, max(round(PATCH * _TEN / found.microns), PATCH))
    if plan.cells > _MOST_CELLS:
        raise DocumentError("limit")
    places = tissue.candidates(tissue.mask(_low(slide, limits)), plan)
    if not places:
        raise DocumentError("no_tissue")
    shown = tissue.chosen(places, most, limits.seed)
    about = Slide(
        width=width,
        height=height,
        side=plan.side,
        microns=found.microns,
        known=found.known,
        seed=limits.seed,
        places=tuple(shown),
    )
    return Content(
        images=tuple(_patch(slide, place, plan.side, limits) for place in shown),
        coverage={UNIT: (len(shown), len(places))},
        degraded=tuple(_notes(found)),
        slide=about,
    )


def resolution(properties: Mapping[str, str]) -> Resolution:
    """By micrometres a pixel, else by the objective's power, else as if scanned at 20x.

    10 micrometres over the power is what makers of scanners have: 0.25 at 40x, 0.5 at 20x.
    """
    across, down = (_number(properties, f"openslide.mpp-{axis}", _MICRONS) for axis in "xy")
    if across is not None and down is not None:
        return Resolution((across + down) / 2, "mpp")
    power = _number(properties, "openslide.objective-power", _POWERS)
    if power is not None:
        return Resolution(10 * _TEN / power, "objective")
    return Resolution(_GUESS, "assumed")


def _number(properties: Mapping[str, str], name: str, bounds: tuple[float, float]) -> float | None:
    """A number of the header; None where it is none, or none that can be meant."""
    try:
        value = float(properties.get(name, ""))
    except ValueError:
        return None
    return value if bounds[0] <= value <= bounds[1] else None


def _notes(found: Resolution) -> Iterator[str]:
    if found.known == "assumed":
        yield f"{ASSUMED}:20x"
    if found.microns > _TEN * 1.01:
        yield f"coarser_than_10x:{found.microns:.2f}um"  # nothing is made larger


def _low(slide: Any, limits: ReadLimits) -> "Pillow.Image":
    """The slide small: of the coarsest level that is large enough, or of the largest allowed."""
    from PIL import Image as Pillow

    sizes = list(slide.level_dimensions)
    able = [i for i, (w, h) in enumerate(sizes) if w * h <= limits.max_pixels]
    if not able:
        raise DocumentError("too_many_pixels")
    level = max((i for i in able if max(sizes[i]) >= _LOW[0]), default=able[0])
    width, height = sizes[level]
    whole = _on_white(slide.read_region((0, 0), level, (width, height)))
    by = min(_LOW[1] / max(width, height), 1.0)
    small = (max(round(width * by), 1), max(round(height * by), 1))
    return whole.resize(small, Pillow.Resampling.BOX)


def _patch(slide: Any, place: tuple[int, int], side: int, limits: ReadLimits) -> Image:
    """One patch at its resolution, made of the level next finer; white over the edge."""
    from PIL import Image as Pillow

    level = slide.get_best_level_for_downsample(side / PATCH * 1.01)
    size = max(round(side / slide.level_downsamples[level]), 1)
    if size * size > limits.max_pixels:
        raise DocumentError("too_many_pixels")
    region = _on_white(slide.read_region(place, level, (size, size)))
    if size != PATCH:
        region = region.resize((PATCH, PATCH), Pillow.Resampling.LANCZOS)
    return Image(width=PATCH, height=PATCH, rgb=region.tobytes())


def _on_white(region: "Pillow.Image") -> "Pillow.Image":
    """RGB of what OpenSlide gives, which is transparent where nothing was scanned."""
    from PIL import Image as Pillow

    white = Pillow.new("RGB", region.size, (255, 255, 255))
    white.paste(region.convert("RGB"), mask=region.getchannel("A"))
    return white


def captioned(images: tuple[Image, ...], about: Slide, total: int) -> tuple[Image, ...]:
    """The patches with what a prompt says beside them: what they are, and ``PATCH k`` after each.

    Args:
        total: how many patches have tissue.
    """
    first = _introduction(about, len(images), total)
    return tuple(
        image.model_copy(
            update={"introduction": "" if i else first, "label": f"{UNIT.upper()[:-2]} {i + 1}"}
        )
        for i, image in enumerate(images)
    )


def _introduction(about: Slide, shown: int, total: int) -> str:
    told = (
        "not stated" if about.known == "assumed" else f"{max(about.microns, _TEN):.2f} µm a pixel"
    )
    return (
        f"{shown} of {total} patches with tissue of one whole-slide histopathology image, "
        f"{'chosen at random, ' if shown < total else ''}in rows from the top left. "
        f"Each is {PATCH} by {PATCH} pixels. Resolution: {told}."
    )
