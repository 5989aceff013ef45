"""Images through the command: what reaches the model is what a viewer shows, or a refusal."""

import io
from pathlib import Path
from typing import Any

import pytest
from outcomes import Line, Outcome, Run
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

# The engine answers with the size and the pixels that it was given.
_SEEING = """
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
real = EchoEngine._answer

def answer(self, prompt):
    (image,) = prompt.images
    text = f"size {image.width} {image.height} pixels {image.rgb[:3072].hex()}"
    return real(self, prompt).model_copy(update={"text": text})

EchoEngine._answer = answer
main()
"""


def encoded(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(run: Run, folder: Path, name: str, data: bytes) -> Outcome:
    """The run of a template with free text over one file, by an engine that says what it sees."""
    (folder / name).write_bytes(data)
    return run(folder, "-t", "general", python=("-c", _SEEING))


def seen(record: Line) -> tuple[tuple[int, int], list[tuple[int, int, int]]]:
    """Size and first pixels, as they reached the engine."""
    _, width, height, _, pixels = record["raw_text"].split()
    rgb = bytes.fromhex(pixels)
    found = [(rgb[i], rgb[i + 1], rgb[i + 2]) for i in range(0, len(rgb), 3)]
    return (int(width), int(height)), found


def refused(run: Run, folder: Path, name: str, data: bytes, *args: str) -> str:
    """How an image ends; a good one beside it is done, and the exit code is 3."""
    (folder / name).write_bytes(data)
    (folder / "good.png").write_bytes(encoded(Pillow.new("RGB", (4, 4)), "PNG"))
    done = run(folder, *args)
    assert done.code == 3
    assert done.ended("good.png") == "ok"
    assert "1 generated" in done.stderr  # nothing was asked about the bad one
    return done.ended(name)


def noise() -> Pillow.Image:
    """An image that does not compress."""
    data = bytes(i * i * 7919 >> 3 & 255 for i in range(64 * 64 * 3))
    return Pillow.frombytes("RGB", (64, 64), data)


@pytest.mark.parametrize("side", [11, 14])
def test_over_the_cap(run: Run, folder: Path, side: int) -> None:
    """Fault 59: over the cap is rejected: too_many_pixels, where Pillow would only warn, too."""
    data = encoded(Pillow.new("RGB", (side, 10)), "PNG")
    assert refused(run, folder, "a.png", data, "--max-pixels", "100") == "rejected/too_many_pixels"


def test_truncated(run: Run, folder: Path) -> None:
    """Fault 60: a JPEG that lost its end is rejected: image_truncated."""
    data = encoded(noise(), "JPEG")
    assert refused(run, folder, "a.jpg", data[: len(data) * 2 // 3]) == "rejected/image_truncated"


def test_animated(run: Run, folder: Path) -> None:
    """Fault 61: the cap is on all frames; under it the first is read, which is said and flagged."""
    frames = [Pillow.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert refused(run, folder, "a.tif", data, "--max-pixels", "47") == "rejected/too_many_pixels"
    (folder / "good.png").unlink()
    done = shown(run, folder, "a.tif", data)
    assert (done.code, done.ended("a.tif")) == (0, "flagged")
    record = done.records["a.tif"]
    assert record["coverage"]["frames"] == [1, 3] and "frame:1/3" in record["degraded"]
    assert "partial_coverage" in [flag["rule"] for flag in record["flags"]]
    assert set(seen(record)[1]) == {RED}


def test_cmyk(run: Run, folder: Path) -> None:
    """Fault 62: a CMYK JPEG reaches the model in its own colours."""
    image = Pillow.new("RGB", (16, 8), RED)
    image.paste(WHITE, (8, 0, 16, 8))
    done = shown(run, folder, "a.jpg", encoded(image.convert("CMYK"), "JPEG", quality=95))
    assert (done.code, done.ended("a.jpg")) == (0, "ok")
    size, pixels = seen(done.records["a.jpg"])
    assert size == (16, 8)
    for pixel, meant in ((pixels[2], RED), (pixels[13], WHITE)):
        assert all(abs(a - b) < 12 for a, b in zip(pixel, meant, strict=True))


def test_transparency(run: Run, folder: Path) -> None:
    """Fault 63: a transparent palette entry reaches the model as white, and it is noted."""
    image = Pillow.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    done = shown(run, folder, "a.png", encoded(image, "PNG", transparency=0))
    assert (done.code, done.ended("a.png")) == (0, "ok")
    assert seen(done.records["a.png"])[1] == [WHITE, BLUE]
    assert "composited:white" in done.records["a.png"]["degraded"]


def test_sixteen_bits(run: Run, folder: Path) -> None:
    """Fault 64: 12 bits in 16 reach the model as over 200 levels of grey, and it is noted."""
    image = Pillow.new("I;16", (256, 1))
    for x in range(256):
        image.putpixel((x, 0), x * 16)
    done = shown(run, folder, "a.png", encoded(image, "PNG"))
    assert (done.code, done.ended("a.png")) == (0, "ok")
    levels = [pixel[0] for pixel in seen(done.records["a.png"])[1]]
    assert levels == sorted(levels) and len(set(levels)) > 200
    assert (levels[0], levels[-1]) == (0, 255)
    assert "rescaled:minimum-maximum" in done.records["a.png"]["degraded"]


def test_orientation(run: Run, folder: Path) -> None:
    """Fault 65: EXIF's quarter turn is applied: top left goes to top right, and it is noted."""
    image = Pillow.new("RGB", (2, 1))
    image.putpixel((0, 0), RED)
    image.putpixel((1, 0), BLUE)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    done = shown(run, folder, "a.png", encoded(image, "PNG", exif=exif))
    assert (done.code, done.ended("a.png")) == (0, "ok")
    assert seen(done.records["a.png"]) == ((1, 2), [RED, BLUE])
    assert "exif_orientation" in done.records["a.png"]["degraded"]


def test_postscript(run: Run, folder: Path) -> None:
    """Fault 66: an EPS named .jpg is rejected: format; nobody runs what it says."""
    data = encoded(Pillow.new("RGB", (4, 4)), "EPS")
    assert refused(run, folder, "a.jpg", data) == "rejected/format"


def test_text_bomb(run: Run, folder: Path) -> None:
    """Fault 67: a PNG whose text swells to 100 MB is rejected: limit."""
    note = PngInfo()
    note.add_text("note", "x" * 100_000_000, zip=True)
    data = encoded(Pillow.new("RGB", (4, 4)), "PNG", pnginfo=note)
    assert len(data) < 200_000
    assert refused(run, folder, "a.png", data) == "rejected/limit"
