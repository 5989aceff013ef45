"""What the model saw, as one small JPEG sheet beside the summary: slices, patches, pages.

Each picture stands with the words that the prompt has after it (`SLICE 3`, `PATCH 12`, `PAGE 2`),
so that an answer's mention of one can be looked up. A sheet shows a patient's images. Its first
segment is a comment with the key of its record and a hash of all that follows, by which it is
known.
"""

import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_cli import summaries
from medgemma_cli.errors import DocumentError
from medgemma_cli.files import QUARANTINE, make_folder
from medgemma_cli.readers.dicom.series import evenly
from medgemma_cli.records import Image

if TYPE_CHECKING:
    from PIL import Image as Pillow

SUFFIX = ".views.jpg"
MOST = 400  # pictures on a sheet; more are shown evenly, and the sheet says so
_MARK = "medgemma.views/1"
_WIDTH = 2048  # pixels
_COLUMNS = 16
_STRIP = 16  # pixels for the words below a picture
_HEAD = 24
_QUALITY = 80
_START = b"\xff\xd8\xff\xfe"  # JPEG: start of image, comment (ITU-T T.81, B.1.1.3)
_COMMENT = re.compile(
    rb"\xff\xd8\xff\xfe..medgemma\.views/1 key=([0-9a-f]{64}) sha256=([0-9a-f]{64})", re.DOTALL
)
_HEAD_BYTES = 256
_NAME_BYTES = 255


def name_of(summary: str) -> str:
    """The sheet's path under OUT: ``x.txt.md`` → ``x.txt.views.jpg``; shortened with a hash."""
    folder, name = os.path.split(summary)
    stem = name.removesuffix(".md")
    if len((stem + SUFFIX).encode("utf-8", "surrogatepass")) > _NAME_BYTES:
        mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        room = _NAME_BYTES - len(f"~{mark}{SUFFIX}")
        stem = stem.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore") + f"~{mark}"
    return os.path.join(folder, stem + SUFFIX)


def sheet(images: Sequence[Image], key: str) -> bytes:
    """A JPEG of the images, 2048 pixels wide at most, with the key of their record.

    Args:
        images: one at least, as the prompt has them.
    """
    drawn = io.BytesIO()
    _drawn(images).save(drawn, "JPEG", quality=_QUALITY)
    return marked(drawn.getvalue()[2:], key)


def marked(rest: bytes, key: str) -> bytes:
    """A JPEG file of all that comes after its first marker, with the comment put before it."""
    digest = hashlib.sha256(rest).hexdigest()
    comment = f"{_MARK} key={key} sha256={digest}".encode("ascii")
    return _START + (len(comment) + 2).to_bytes(2, "big") + comment + rest


def key_of(path: str | Path) -> str | None:
    """The key in a sheet, changed since or not; None where it is none of ours."""
    try:
        head = summaries.read(path, first=_HEAD_BYTES)
    except OSError:
        return None
    match = _COMMENT.match(head)
    return match[1].decode() if match else None


def state(path: str | Path, key: str) -> str:
    """``current``, ``stale`` (of another record), ``altered`` (or not ours) or ``missing``."""
    try:
        data = summaries.read(path)
    except OSError:
        return "missing" if not os.path.lexists(path) else "altered"
    match = _COMMENT.match(data)
    if match is None or hashlib.sha256(data[match.end() :]).hexdigest() != match[2].decode():
        return "altered"
    return "current" if match[1].decode() == key else "stale"


def is_free(out: Path, name: str) -> bool:
    """Whether nothing stands there, or a sheet, perhaps of a record that a kill prevented."""
    path = out / name
    try:
        summaries.check_parents(out, name)
    except DocumentError:
        return False
    if path.is_symlink() or not path.exists():
        return True
    return key_of(path) is not None


def walk(out: Path) -> Iterator[str]:
    """Every sheet under OUT by its suffix, as a relative name; not those of the quarantine."""
    for name in summaries.files_below(out):
        if name.endswith(SUFFIX) and not name.startswith(f"{QUARANTINE}/"):
            yield name


def retire(out: Path, names: Iterable[str], folder: str) -> None:
    """Move the sheets among these files to a folder under OUT."""
    for name in names:
        if key_of(out / name) is not None:
            make_folder((out / folder / name).parent)
            os.replace(out / name, out / folder / name)


def _drawn(images: Sequence[Image]) -> "Pillow.Image":
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    shown = evenly(len(images), MOST)
    columns = min(math.ceil(math.sqrt(len(shown))), _COLUMNS)
    side = _WIDTH // max(columns, 2)
    rows = math.ceil(len(shown) / columns)
    width = max(columns * side, _WIDTH // 2)
    whole = Pillow.new("RGB", (width, _HEAD + rows * (side + _STRIP)), (255, 255, 255))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    head = f"What the model saw: {len(shown)} of {len(images)} images. Contains patient data."
    draw.text((4, 4), head, fill=(0, 0, 0), font=font)
    for at, index in enumerate(shown):
        row, column = divmod(at, columns)
        left, top = column * side, _HEAD + row * (side + _STRIP)
        small = _small(images[index], side - 4)
        whole.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        draw.text((left + 4, top + side), caption(images[index], index), fill=(0, 0, 0), font=font)
    return whole


def caption(image: Image, index: int) -> str:
    """The words below a picture: those of the prompt, or its number, from 1."""
    return image.label.removesuffix(" of the document") or f"IMAGE {index + 1}"


def _small(image: Image, side: int) -> "Pillow.Image":
    from PIL import Image as Pillow

    full = Pillow.frombytes("RGB", (image.width, image.height), image.rgb)
    by = min(side / max(full.size), 1.0)
    size = (max(round(full.width * by), 1), max(round(full.height * by), 1))
    return full.resize(size, Pillow.Resampling.BOX) if by < 1 else full
