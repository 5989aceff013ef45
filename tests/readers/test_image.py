"""The image reader: no clinical corruption, no bombs, no surprises. Every image is made here."""

import io
import struct
import time
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.image import read
from medgemma_cli.readers.limits import Content, ReadLimits

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes, max_pixels: int = 1_000_000) -> Content:
    """What the reader makes of these bytes."""
    return read(data, ReadLimits(max_pixels=max_pixels))


def code_of(data: bytes, max_pixels: int = 1_000_000) -> str:
    """The code with which the reader refuses these bytes."""
    with pytest.raises(DocumentError) as caught:
        decode(data, max_pixels)
    return caught.value.code


def pixels(content: Content) -> list[tuple[int, int, int]]:
    """The pixels, row by row."""
    rgb = content.images[0].rgb
    return [(rgb[i], rgb[i + 1], rgb[i + 2]) for i in range(0, len(rgb), 3)]


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG file of a header and these chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wide_png(values: list[int], colour: int) -> bytes:
    """One row of 16-bit samples: colour type 0 grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""
    colours = 3 if colour & 2 else 1
    alpha = b"\xff\xff" if colour & 4 else b""
    row = b"".join(struct.pack(">H", value) * colours + alpha for value in values)
    return png(len(values), 1, 16, colour, chunk(b"IDAT", zlib.compress(b"\0" + row)))


def grey_tiff(values: list[int], white_is_zero: bool) -> bytes:
    """One row of 16-bit grey as an uncompressed little-endian TIFF."""
    tags = [
        (256, 3, len(values)),
        (257, 3, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 2 * len(values)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head + struct.pack(f"<{len(values)}H", *values)


def noise(width: int = 64, height: int = 64) -> Pillow.Image:
    """An image that does not compress, the same at every run."""
    state, data = 1, bytearray()
    while len(data) < width * height * 3:
        state = (state * 1103515245 + 12345) % 2**31
        data.append(state >> 16 & 255)
    return Pillow.frombytes("RGB", (width, height), bytes(data))


# -- what comes through ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_kinds_come_through_unchanged(kind: str) -> None:
    """Plain RGB is handed on byte for byte, with nothing noted."""
    image = noise(5, 3)
    content = decode(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert content.images[0].rgb == image.tobytes()
    assert (content.images[0].width, content.images[0].height) == (5, 3)
    assert content.degraded == ()
    assert content.coverage == {"images": (1, 1), "frames": (1, 1)}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    """Fault 62: whatever the colours were kept in, three bytes a pixel come out."""
    kind = "TIFF"
    content = decode(encoded(Pillow.new(mode, (4, 2)), kind))
    assert len(content.images[0].rgb) == 4 * 2 * 3


def test_cmyk_is_converted_with_its_colours() -> None:
    """Fault 62: a CMYK JPEG comes out as the colours that it shows."""
    image = Pillow.new("RGB", (16, 8), RED)
    image.paste(WHITE, (8, 0, 16, 8))
    row = pixels(decode(encoded(image.convert("CMYK"), "JPEG", quality=95)))[:16]
    for shown, meant in ((row[2], RED), (row[13], WHITE)):
        assert all(abs(a - b) < 12 for a, b in zip(shown, meant, strict=True))


def test_a_palette_with_transparency_is_composited_on_white() -> None:
    """Fault 63: transparent palette entries show white, not the colour hidden under them."""
    image = Pillow.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    content = decode(encoded(image, "PNG", transparency=0))
    assert pixels(content) == [WHITE, BLUE]
    assert "composited:white" in content.degraded


@pytest.mark.parametrize(
    ("mode", "pixel", "shown"),
    [
        ("RGBA", (0, 0, 0, 0), 255),
        ("RGBA", (0, 0, 0, 255), 0),
        ("RGBA", (0, 0, 0, 51), 204),
        ("LA", (0, 0), 255),
        ("LA", (0, 51), 204),
    ],
)
def test_alpha_is_composited_on_white(mode: str, pixel: tuple[int, ...], shown: int) -> None:
    """Fault 63: half-transparent black over white is grey, and it is noted."""
    content = decode(encoded(Pillow.new(mode, (1, 1), pixel), "PNG"))
    assert pixels(content) == [(shown, shown, shown)]
    assert content.degraded == ("composited:white",)


# -- more than eight bits ----------------------------------------------------------------------


def test_twelve_bits_in_sixteen_keep_their_grey_levels() -> None:
    """Fault 64: a 12-bit radiograph is rescaled, not clipped to black and white."""
    content = decode(wide_png(list(range(0, 4096, 16)), colour=0))
    levels = [pixel[0] for pixel in pixels(content)]
    assert levels == sorted(levels)
    assert len(set(levels)) > 200
    assert (levels[0], levels[-1]) == (0, 255)
    assert content.degraded == ("rescaled:minimum-maximum",)


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=64))
@settings(max_examples=60, deadline=None)
def test_rescaling_is_monotonic(values: list[int]) -> None:
    """Fault 64: a brighter sample never comes out darker, and the extremes span the range."""
    shown = [pixel[0] for pixel in pixels(decode(wide_png(values, colour=0)))]
    pairs = sorted(zip(values, shown, strict=True))
    assert [grey for _, grey in pairs] == sorted(shown)
    if min(values) < max(values):
        assert (pairs[0][1], pairs[-1][1]) == (0, 255)


@pytest.mark.parametrize("value", [0, 700, 65535])
def test_an_even_image_does_not_divide_by_zero(value: int) -> None:
    """Fault 64: one grey level throughout is read as an even image."""
    assert len(set(pixels(decode(wide_png([value] * 4, colour=0))))) == 1


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_sixteen_bits_with_colour_or_alpha_are_not_darkened_silently(colour: int) -> None:
    """Fault 64: 12-bit data beside alpha or in RGB keeps its levels too, or the loss is noted."""
    content = decode(wide_png(list(range(0, 4096, 16)), colour))
    levels = {pixel[0] for pixel in pixels(content)}
    noted = [note for note in content.degraded if note != "composited:white"]
    assert len(levels) > 200 or noted


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_sixteen_bit_tiff_is_not_inverted(white_is_zero: bool) -> None:
    """Fault 64: where the TIFF says that 0 is white, 0 comes out white."""
    content = decode(grey_tiff([0, 2000, 4095], white_is_zero))
    levels = [pixel[0] for pixel in pixels(content)]
    assert levels == sorted(levels, reverse=white_is_zero)
    assert set(levels) >= {0, 255}


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_float_image_with_no_number_in_it_is_not_blacked_out(odd: float) -> None:
    """Fault 64: one pixel that is no number must not turn the whole image black unsaid."""
    image = Pillow.new("F", (3, 1))
    image.putdata([odd, 5.0, 9.0])
    try:
        content = decode(encoded(image, "TIFF"))
    except DocumentError as error:
        assert error.fault.status == "rejected"  # noqa: PT017
    else:
        assert pixels(content)[1] != pixels(content)[2]


# -- orientation -------------------------------------------------------------------------------

CORNERS = {  # of an image with red, green / blue, white: what each orientation shows
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


@pytest.mark.parametrize("orientation", sorted(CORNERS))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """Fault 65: left stays left: the image comes out as a viewer shows it."""
    image = Pillow.new("RGB", (2, 2))
    image.putdata([RED, GREEN, BLUE, WHITE])
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    assert pixels(decode(encoded(image, kind, exif=exif, **options))) == CORNERS[orientation]


def test_exif_orientation_of_a_jpeg_turns_its_size() -> None:
    """Fault 65: a photograph taken upright comes out upright, and it is noted."""
    exif = Pillow.Exif()
    exif[ORIENTATION] = 6
    content = decode(encoded(Pillow.new("RGB", (30, 20)), "JPEG", exif=exif))
    assert (content.images[0].width, content.images[0].height) == (20, 30)
    assert content.degraded == ("exif_orientation",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\xff",
    ],
    ids=["no-tiff", "offset", "empty", "cut"],
)
def test_broken_exif_does_not_break_the_run(kind: str, exif: bytes) -> None:
    """Fault 65: metadata that cannot be read ends one document at most, never with a traceback."""
    data = encoded(Pillow.new("RGB", (3, 2)), kind, exif=exif)
    try:
        content = decode(data)
    except DocumentError as error:
        assert error.fault.status == "rejected"  # noqa: PT017
    else:
        assert (content.images[0].width, content.images[0].height) == (3, 2)


@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [
        (0x0100, 2, b"abc\0"),
        (0x010F, 5, b"\0\0\0\x1a"),
        (0x011A, 2, b"abc\0"),
        (0x8769, 9, b"\xff\xff\xff\xff"),
    ],
    ids=["width-text", "make-rational", "resolution-text", "folder-offset"],
)
def test_exif_of_the_wrong_type_does_not_break_the_run(tag: int, kind: int, value: bytes) -> None:
    """Fault 65: beside an orientation, a tag of the wrong type is no traceback either."""
    entries = sorted([(ORIENTATION, 3, 1, b"\0\6\0\0"), (tag, kind, 1, value)])
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries))
    exif += b"".join(struct.pack(">HHI4s", *entry) for entry in entries) + bytes(20)
    content = decode(encoded(Pillow.new("RGB", (3, 2)), "JPEG", exif=exif))
    assert (content.images[0].width, content.images[0].height) == (2, 3)


# -- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_only_the_first_frame_is_read_and_that_is_said(kind: str) -> None:
    """Fault 61: of three pages or frames one is seen; coverage and a note say so."""
    frames = [Pillow.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    content = decode(data)
    assert set(pixels(content)) == {RED}
    assert content.coverage["frames"] == (1, 3)
    assert "frame:1/3" in content.degraded


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_the_cap_is_on_all_frames_together(kind: str) -> None:
    """Fault 61: three small frames over the cap are too many pixels."""
    frames = [Pillow.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert decode(data, max_pixels=48).coverage["frames"] == (1, 3)
    assert code_of(data, max_pixels=47) == "too_many_pixels"


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cap", "fits"), [(11, False), (12, True)])
def test_the_cap_on_pixels_is_exact(cap: int, fits: bool) -> None:
    """Fault 59: an image of exactly the cap is read, one pixel more is not."""
    data = encoded(Pillow.new("RGB", (4, 3)), "PNG")
    if fits:
        assert len(pixels(decode(data, cap))) == 12
    else:
        assert code_of(data, cap) == "too_many_pixels"


@pytest.mark.parametrize("side", [9000, 12000, 30000, 2**31 - 1])
def test_too_many_pixels_are_refused_before_decoding(side: int) -> None:
    """Fault 59: the header alone decides: there is not even data to decode. Warnings do not."""
    started = time.perf_counter()
    assert code_of(png(side, side, 8, 2), max_pixels=64_000_000) == "too_many_pixels"
    assert time.perf_counter() - started < 5


def test_a_raised_cap_is_obeyed() -> None:
    """Fault 59: with --max-pixels raised, Pillow's own lower limit does not refuse instead."""
    data = png(14000, 14000, 1, 0, chunk(b"IDAT", zlib.compress(b"\0")))
    assert code_of(data, max_pixels=200_000_000) == "image_truncated"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.9, 0.98])
def test_a_truncated_image_is_refused(kind: str, share: float) -> None:
    """Fault 60: an image that ends too early is image_truncated, not half grey."""
    data = encoded(noise(), kind)
    assert code_of(data[: int(len(data) * share)]) == "image_truncated"


@pytest.mark.parametrize("name", ["EPS", "GIF", "PPM", "ICO", "PDF"])
def test_other_kinds_are_refused_whatever_the_name(name: str) -> None:
    """Fault 66: an EPS named .jpg is not handed to Ghostscript; only known kinds are."""
    assert code_of(encoded(Pillow.new("RGB", (4, 4)), name)) == "format"


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(touch x) system\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"words",
        b"\0",
        b"\xff\xd8",
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    """Fault 66: PostScript, SVG and junk are rejected: format or image_truncated."""
    assert code_of(data) in {"format", "image_truncated"}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
def test_a_text_chunk_bomb_is_refused(kind: str, place: str) -> None:
    """Fault 67: compressed text that swells to megabytes is limit, before or after the pixels."""
    swelling = zlib.compress(bytes(8_000_000), 9)
    head = b"Comment\0\0" if kind == "zTXt" else b"Comment\0\1\0\0\0"
    bomb = chunk(kind.encode(), head + swelling)
    plain = chunk(b"IDAT", zlib.compress(b"\0\0"))
    chunks = [bomb, plain] if place == "before" else [plain, bomb]
    assert code_of(png(1, 1, 8, 0, *chunks)) == "limit"


def test_a_pixel_bomb_under_the_cap_of_bytes_is_refused() -> None:
    """Fault 67: a few kilobytes that swell to 400 million pixels are refused by their header."""
    data = png(20000, 20000, 8, 0, chunk(b"IDAT", zlib.compress(bytes(1_000_000), 9)))
    assert len(data) < 5000
    assert code_of(data, max_pixels=64_000_000) == "too_many_pixels"


SEEDS = {
    kind: encoded(noise(12, 12), kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    for kind in ("PNG", "JPEG", "TIFF", "WEBP")
}


@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
@settings(max_examples=150, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore")
def test_damage_ends_in_a_code_or_an_image(kind: str, damage: list[tuple[int, int]]) -> None:
    """Fault 60: whatever bytes are wrong, the reader refuses with a code or gives RGB."""
    data = bytearray(SEEDS[kind])
    for place, value in damage:
        data[place % len(data)] = value
    try:
        content = decode(bytes(data))
    except DocumentError as error:
        assert error.fault.status == "rejected"  # noqa: PT017
    else:
        image = content.images[0]
        assert len(image.rgb) == image.width * image.height * 3
