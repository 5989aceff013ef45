"""The header scan of the main process: every encoding, and nothing that a file can do to it."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from dicom_kit import ROOT, dataset, deflated, saved, slice_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers.dicom import tags

PLAIN = np.zeros((0x2000, 3), np.uint16)
SLICE = slice_of(np.zeros((4, 4)), 12.5)


def scanned(data: bytes) -> dict[int, bytes]:
    """What is found in the bytes of a file."""
    return tags.scan(io.BytesIO(data))


def made() -> Dataset:
    """A slice with sequences, private elements and long values before what is wanted."""
    inner, item = Dataset(), Dataset()
    inner.SeriesInstanceUID, inner.Modality = f"{ROOT}666", "XX"
    item.ReferencedSOPSequence, item.SeriesInstanceUID = [inner, inner], f"{ROOT}667"
    whole = dataset(PLAIN, modality="MR", SeriesInstanceUID=f"{ROOT}4", InstanceNumber=7)
    whole.ReferencedStudySequence = [item, Dataset(), item]
    whole.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    whole.add_new((0x0009, 0x1001), "OB", b"\x00\x20" * 5000)
    whole.add_new((0x0009, 0x1002), "UN", b"\xfe\xff\xdd\xe0" * 3)
    return whole


def lengths(whole: Dataset, *, undefined: bool) -> Dataset:
    """The same with sequences of one kind of length."""
    for element in whole.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    return whole


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("how", ["explicit", "implicit", "big", "deflated"])
def test_encodings(how: str, undefined: bool) -> None:
    """Values are those of the data set itself, not of what is nested in it."""
    whole = lengths(made(), undefined=undefined)
    if how == "deflated":
        data = deflated(whole)
    elif how == "explicit":
        data = saved(whole)
    elif how == "implicit":
        whole.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data = saved(whole)
    else:
        whole.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        whole["PixelData"].VR = "OW"
        data = saved(whole)
    found = scanned(data)
    assert found[tags.SERIES].decode() == f"{ROOT}4" and found[tags.MODALITY] == b"MR"
    assert found[tags.NUMBER] == b"7"
    assert int.from_bytes(found[tags.ROWS], "little") == 0x2000
    assert int.from_bytes(found[tags.COLUMNS], "little") == 3


@pytest.mark.parametrize("data", [b"", b"DICM", bytes(128) + b"DICX", bytes(128) + b"DICM"])
def test_no_header(data: bytes) -> None:
    """Nothing is found, and nothing is raised."""
    assert scanned(data) == {}


@pytest.mark.parametrize("cut", range(0, len(SLICE), 7))
def test_cut_short(cut: int) -> None:
    """What is found in the beginning of a file is what is found in all of it."""
    whole = scanned(SLICE)
    for tag, value in scanned(SLICE[:cut]).items():
        assert whole[tag] == value


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated(data: Any) -> None:
    """Any bytes end, without an error, with bytes of bounded length."""
    raw = bytearray(SLICE[:700])
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert all(len(value) <= 512 for value in scanned(bytes(raw)).values())


def test_nested_deeply() -> None:
    """Sequences in sequences without end: no recursion, and an end."""
    opening = struct.pack("<HH2sHI", 8, 0x1110, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    head = saved(dataset(PLAIN))
    start = head.index(struct.pack("<HH2s", 8, 0x16, b"UI"))
    assert scanned(head[:start] + (opening + item) * 100_000) == {}


def test_an_element_longer_than_the_file() -> None:
    """A length of 4 GB is stepped over, not read."""
    long = struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 0xFFFFFFFE)
    start = SLICE.index(struct.pack("<HH2s", 0x18, 0, b"")[:2])
    assert tags.SERIES not in scanned(SLICE[:400] + long + SLICE[start:])


def test_inflating_is_bounded() -> None:
    """What swells over the limit is refused; what does not is the same data set, plain."""
    whole = dataset(np.zeros((512, 512), np.uint16), modality="CT")
    data = deflated(whole)
    assert len(data) < 5000
    with pytest.raises(DocumentError, match="limit"):
        tags.plain(data, 100_000)
    assert scanned(tags.plain(data, 1_000_000)) == scanned(data)
    with pytest.raises(DocumentError, match="dicom_corrupt"):
        tags.plain(data[: 144 + int.from_bytes(data[140:144], "little")] + b"\xff" * 9, 1_000_000)
    assert tags.plain(SLICE, 10) is SLICE
