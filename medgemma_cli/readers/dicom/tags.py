"""A few elements of a DICOM header, found without pydicom: which series is a file of, and where.

This walks the bytes in the main process, over every file of a folder, so it is plain: no
recursion, no value read but those asked for, bounds on everything. Encodings: DICOM PS3.5, 7.
"""

import io
import struct
import zlib
from typing import BinaryIO

from medgemma_cli.errors import DocumentError

IMAGE_TYPE = 0x00080008
INSTANCE = 0x00080018
MODALITY = 0x00080060
SERIES = 0x0020000E
NUMBER = 0x00200013
POSITION = 0x00200032
ORIENTATION = 0x00200037
FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011

_WANTED = frozenset(
    (IMAGE_TYPE, INSTANCE, MODALITY, SERIES, NUMBER, POSITION, ORIENTATION, FRAMES, ROWS, COLUMNS)
)
_IMPLICIT = b"1.2.840.10008.1.2"
_EXPLICIT = b"1.2.840.10008.1.2.1"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = b"1.2.840.10008.1.2.2"
_SYNTAX = 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VALUE_BYTES = 512
_MOST_ELEMENTS = 20_000
_DEEPEST = 64
_HEADER_BYTES = 1 << 20  # of a deflated file, while only its header is wanted


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is a DICOM file: 128 bytes of anything, then its mark."""
    return head[128:132] == b"DICM"


def scan(file: BinaryIO) -> dict[int, bytes]:
    """The values of the elements above that a file has, as bytes; little endian, no padding.

    Empty where it is no DICOM file. What stands after something that makes no sense is not found.
    """
    if not is_dicom(file.read(132)):
        return {}
    syntax, _ = _meta(file)
    if syntax == _DEFLATED:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            file = io.BytesIO(inflate.decompress(file.read(_HEADER_BYTES), _HEADER_BYTES))
        except zlib.error:
            return {}
    return _walk(file, syntax)


def plain(data: bytes, most: int) -> bytes:
    """The file, with a deflated data set inflated; others come back as they are.

    Raises:
        DocumentError: ``limit``, it swells to over `most` bytes; ``dicom_corrupt``, it cannot be
            inflated.
    """
    file = io.BytesIO(data)
    file.seek(132)
    syntax, _ = _meta(file)
    if syntax != _DEFLATED:
        return data
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflate.decompress(data[file.tell() :], most + 1)
    except zlib.error:
        raise DocumentError("dicom_corrupt") from None
    if len(inflated) > most:
        raise DocumentError("limit")
    uid = _EXPLICIT + b"\0"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element))
    return bytes(128) + b"DICM" + length + element + inflated


def _meta(file: BinaryIO) -> tuple[bytes, int]:
    """The transfer syntax; the file stands where the data set begins."""
    syntax, start = _IMPLICIT, file.tell()
    while len(head := file.read(8)) == 8:
        group, element, kind, length = struct.unpack("<HH2sH", head)
        if group != 2:
            break
        if kind in _LONG:
            length = int.from_bytes(file.read(4), "little")
        if group << 16 | element == _SYNTAX:
            syntax = file.read(min(length, _VALUE_BYTES)).rstrip(b"\0 ")
        else:
            file.seek(length, io.SEEK_CUR)
        start = file.tell()
    file.seek(start)
    return syntax, start


def _walk(file: BinaryIO, syntax: bytes) -> dict[int, bytes]:
    """The wanted elements of the data set itself; what is nested in sequences is stepped over."""
    big = syntax == _BIG_ENDIAN
    implicit = [syntax == _IMPLICIT]  # of the data set, and of each open sequence
    found: dict[int, bytes] = {}
    for _ in range(_MOST_ELEMENTS):
        head = _head(file, big, implicit[-1])
        if head is None:
            break
        tag, kind, length = head
        if len(implicit) == 1 and tag > COLUMNS:
            break
        if tag == _SEQUENCE_END:
            if len(implicit) == 1:
                break
            implicit.pop()
        elif length == _UNDEFINED:
            if tag == _ITEM:
                continue
            if len(implicit) > _DEEPEST:
                break
            # An unknown kind of undefined length is encoded as in implicit little endian.
            implicit.append(implicit[-1] or kind == b"UN")
        elif len(implicit) == 1 and tag in _WANTED:
            value = file.read(length) if length <= _VALUE_BYTES else b""
            if len(value) < length:
                break
            found[tag] = _plain_value(tag, value, big)
        elif tag != _ITEM_END:
            file.seek(length, io.SEEK_CUR)
    return found


def _plain_value(tag: int, value: bytes, big: bool) -> bytes:
    if tag in (ROWS, COLUMNS):
        return value[::-1] if big else value
    return value.rstrip(b"\0 ")


def _head(file: BinaryIO, big: bool, implicit: bool) -> tuple[int, bytes, int] | None:
    """Tag, value representation and length of the next element; None at the end."""
    raw = file.read(8)
    if len(raw) < 8:
        return None
    order = ">" if big else "<"
    group, element = struct.unpack(f"{order}HH", raw[:4])
    tag = group << 16 | element
    kind = raw[4:6]
    if implicit or group == 0xFFFE:
        return tag, b"", struct.unpack(f"{order}I", raw[4:])[0]
    if kind not in _LONG:
        return tag, kind, struct.unpack(f"{order}H", raw[6:])[0]
    long = file.read(4)
    return (tag, kind, struct.unpack(f"{order}I", long)[0]) if len(long) == 4 else None
