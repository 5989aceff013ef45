"""PDF files, written by hand: as sound, or as broken, as a test wants them."""

import hashlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

LATIN = "/F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
A4 = (595, 842)
_PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_ID = bytes(range(16))


class Page(NamedTuple):
    """One page.

    Attributes:
        content: its content stream.
        resources: the inside of its resource dictionary, fonts aside.
        fonts: the inside of its dictionary of fonts.
        more: further entries of the page's dictionary, such as `/Rotate 90`.
        size: width and height in points.
    """

    content: bytes = b""
    resources: str = ""
    fonts: str = LATIN
    more: str = ""
    size: tuple[float, float] = A4


def text(*lines: str, at: tuple[float, float] = (50, 780), more: str = "") -> Page:
    """A page of lines in Helvetica, 12 points, one below the other."""
    shown = b"".join(b"(" + _escaped(line.encode("cp1252")) + b") Tj T*\n" for line in lines)
    place = f"{at[0]} {at[1]} Td\n".encode()
    return Page(b"BT /F1 12 Tf 14 TL\n" + place + shown + b"ET\n", more=more)


def scan(*, width: int = 60, height: int = 80, shade: int = 90, over: bytes = b"") -> Page:
    """A page that is one grey picture with a dark bar, and perhaps something drawn over it."""
    bar = bytes([10]) * width * 8
    pixels = bytes([shade]) * (width * (height - 8)) + bar
    packed = zlib.compress(pixels)
    inline = b"BI /W %d /H %d /CS /G /BPC 8 /F /Fl ID " % (width, height)
    picture = b"q 595 0 0 842 0 0 cm\n" + inline + packed + b"\nEI Q\n"
    return Page(picture + over)


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def stream(data: bytes, entries: str = "", *, packed: bool = False) -> bytes:
    """A stream object, packed with Flate if wanted."""
    if packed:
        data, entries = zlib.compress(data), f"/Filter /FlateDecode {entries}"
    return f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream"


def pdf(
    pages: Sequence[Page],
    *,
    more: Sequence[bytes] = (),
    catalog: str = "",
    user: bytes | None = None,
    owner: bytes = b"owner",
) -> bytes:
    """A whole file.

    Args:
        more: further objects; the first is number 3.
        catalog: further entries of the catalogue.
        user: the password without which it cannot be opened; empty: an owner's alone.
    """
    first = 3 + len(more)
    kids = " ".join(f"{first + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        *more,
    ]
    for i, page in enumerate(pages):
        width, height = page.size
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] "
            f"/Contents {first + 2 * i + 1} 0 R {page.more} "
            f"/Resources << /Font << {page.fonts} >> {page.resources} >> >>".encode()
        )
        content = page.content if user is None else _sealed(page, first + 2 * i + 1, user, owner)
        objects.append(stream(content))
    if user is not None:
        objects.append(_encryption(user, owner))
    return assemble(objects, encrypted=user is not None)


def assemble(objects: Sequence[bytes], *, encrypted: bool = False) -> bytes:
    """Objects, numbered from 1, the first of them the catalogue, with their table of places."""
    made = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, data in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n" % number + data + b"\nendobj\n"
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % place for place in places)
    seal = f"/Encrypt {len(objects)} 0 R /ID [<{_ID.hex()}> <{_ID.hex()}>]" if encrypted else ""
    made += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {seal} >>\n".encode()
    return bytes(made + b"startxref\n%d\n%%%%EOF\n" % start)


# -- the standard's oldest encryption, RC4 with 40 bits (ISO 32000-1, 7.6.3) ----------------------


def _rc4(key: bytes, data: bytes) -> bytes:
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    made, i, j = bytearray(), 0, 0
    for octet in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        made.append(octet ^ box[(box[i] + box[j]) % 256])
    return bytes(made)


def _padded(password: bytes) -> bytes:
    return (password + _PAD)[:32]


def _owner_entry(user: bytes, owner: bytes) -> bytes:
    return _rc4(hashlib.md5(_padded(owner)).digest()[:5], _padded(user))


def _key(user: bytes, owner: bytes) -> bytes:
    rights = (-4 & 0xFFFFFFFF).to_bytes(4, "little")
    entry = _owner_entry(user, owner)
    return hashlib.md5(_padded(user) + entry + rights + _ID).digest()[:5]


def _encryption(user: bytes, owner: bytes) -> bytes:
    mine = _rc4(_key(user, owner), _PAD).hex()
    theirs = _owner_entry(user, owner).hex()
    return f"<< /Filter /Standard /V 1 /R 2 /O <{theirs}> /U <{mine}> /P -4 >>".encode()


def _sealed(page: Page, number: int, user: bytes, owner: bytes) -> bytes:
    salted = _key(user, owner) + number.to_bytes(3, "little") + bytes(2)
    return _rc4(hashlib.md5(salted).digest()[:10], page.content)


# -- pages of other scripts, of broken fonts, and files that swell --------------------------------

_FACE = (
    b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Foo /DW 600 /FontDescriptor 5 0 R"
    b" /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>"
)
_ABOUT = (
    b"<< /Type /FontDescriptor /FontName /Foo /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0"
    b" /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>"
)


def glyphs(shown: str, *, mapped: bool = True) -> bytes:
    """A file of one line, drawn sign by sign from the left, in a font of numbered glyphs.

    Args:
        mapped: whether the file says which character each glyph is.
    """
    numbers = {sign: 40 + i for i, sign in enumerate(dict.fromkeys(shown))}
    pairs = b"".join(
        b"<%04X> <%s>\n" % (number, sign.encode("utf-16-be", "surrogatepass").hex().encode())
        for sign, number in numbers.items()
    )
    table = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def"
        b" /CMapType 2 def 1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
        b"%d beginbfchar\n" % len(numbers) + pairs + b"endbfchar endcmap CMapName currentdict"
        b" /CMap defineresource pop end end"
    )
    fonts = (
        "/F1 << /Type /Font /Subtype /Type0 /BaseFont /Foo /Encoding /Identity-H"
        f" /DescendantFonts [4 0 R] {'/ToUnicode 3 0 R' if mapped else ''} >>"
    )
    line = b"".join(b"%04X" % numbers[sign] for sign in shown)
    # A bar is drawn, too: the font itself is not in the file.
    page = Page(b"50 600 80 20 re f BT /F1 12 Tf 50 700 Td <" + line + b"> Tj ET", fonts=fonts)
    return pdf([page], more=[stream(table), _FACE, _ABOUT])


def same_page(count: int) -> bytes:
    """A small file that shows one empty page so many times."""
    kids = " ".join(["3 0 R"] * count)
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
        ]
    )


def swelling(megabytes: int) -> bytes:
    """A small file whose page unpacks to so much drawing."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"q " * (1 << 19)) for _ in range(megabytes))
    content = stream(packed + packer.flush(), "/Filter /FlateDecode")
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>",
            content,
        ]
    )


def nested(depth: int, width: int) -> bytes:
    """A small file whose page draws a letter `width` to the power of `depth` times."""
    more = []
    for level in range(depth):
        last = level == depth - 1
        inner = b"BT /F1 1 Tf (x) Tj ET" if last else b"/X Do " * width
        below = "" if last else f"/XObject << /X {4 + level} 0 R >>"
        resources = f"/Resources << /Font << {LATIN} >> {below} >>"
        more.append(stream(inner, f"/Type /XObject /Subtype /Form /BBox [0 0 600 800] {resources}"))
    return pdf([Page(b"/X Do " * width, resources="/XObject << /X 3 0 R >>")], more=more)


def form(*fields: str, catalog: str = "") -> bytes:
    """A form with annotations, each given by the inside of its dictionary.

    Object 3 is how a filled field looks: the words "Allergic to penicillin".
    """
    look = stream(
        b"BT /F1 12 Tf 2 4 Td (Allergic to penicillin) Tj ET",
        f"/Type /XObject /Subtype /Form /BBox [0 0 300 20] /Resources << /Font << {LATIN} >> >>",
    )
    places = " ".join(f"{4 + i} 0 R" for i in range(len(fields)))
    annotations = [f"<< /Type /Annot {field} >>".encode() for field in fields]
    acro = "/DR << /Font << /Helv << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    return pdf(
        [text("Form:", more=f"/Annots [{places}]")],
        more=[look, *annotations],
        catalog=f"/AcroForm << /Fields [{places}] {acro} {catalog} >>",
    )
