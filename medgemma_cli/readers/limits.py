"""How much a reader may take in, and what it hands back."""

from typing import NamedTuple

from medgemma_cli.records import Image, Slide


class ReadLimits(NamedTuple):
    """Bounds on one source. They are part of every key: other limits, another answer.

    `seed` says which patches of a slide are shown, where it has more than that.
    """

    max_bytes: int = 50_000_000
    max_pixels: int = 64_000_000
    encoding: str | None = None
    max_pages: int = 1000
    max_slide_bytes: int = 10_000_000_000
    seed: int = 0


class Content(NamedTuple):
    """What a format's reader found: text, images, how much of each was seen, and notes.

    `pages` has where in the text each page begins, of a format that has pages; `header` is what a
    DICOM header says, in the words of `dicom.terms`; `slide` which patches of a slide are shown.
    """

    coverage: dict[str, tuple[int, int]]
    text: str = ""
    images: tuple[Image, ...] = ()
    degraded: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    header: dict[str, str] = {}  # noqa: RUF012
    slide: Slide | None = None
