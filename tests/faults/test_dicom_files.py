"""DICOM files through the command: an image as a viewer shows it, or a code; never a name."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from dicom_kit import ROOT, dataset, deflated, file, saved, slice_of, write
from outcomes import Line, Outcome, Run, contents
from pydicom import Dataset
from pydicom.datadict import DicomDictionary
from pydicom.uid import EncapsulatedPDFStorage

GREY = np.arange(0, 6400, 100, dtype=np.uint16).reshape(8, 8)

# The engine answers with every word beside the images, and with their first pixels.
_SEEING = """
from medgemma_cli.cli import main
from medgemma_cli.engines.echo import EchoEngine
real = EchoEngine._answer

def answer(self, prompt):
    words = [part.text for message in prompt.messages for part in message.parts]
    pixels = " ".join(image.rgb[:192].hex() for image in prompt.images)
    text = f"{len(prompt.images)} images: {' / '.join(words)} pixels {pixels}"
    return real(self, prompt).model_copy(update={"text": text})

EchoEngine._answer = answer
main()
"""


def shown(run: Run, folder: Path, *args: str) -> Outcome:
    """The run of a template with free text, by an engine that says what it sees."""
    return run(folder, "-t", "general", *args, python=("-c", _SEEING))


def refused(run: Run, folder: Path, data: bytes, *args: str) -> str:
    """How a file ends; a good one beside it is done, and the exit code is 3."""
    (folder / "bad.dcm").write_bytes(data)
    (folder / "good.dicom").write_bytes(file(GREY))
    done = run(folder, *args)
    assert done.code == 3 and done.ended("good.dicom") == "ok"
    assert "1 generated" in done.stderr
    return done.ended("bad.dcm")


def pixels(record: Line) -> list[list[int]]:
    """The first pixels of each image, as they reached the engine; red, green, blue, red …"""
    return [list(bytes.fromhex(one)) for one in record["raw_text"].split(" pixels ")[1].split()]


def test_named_dcm(run: Run, folder: Path) -> None:
    """Fault 68: other bytes under the name of a DICOM file are not taken for one."""
    assert refused(run, folder, b"\x89PNG\r\n" + bytes(400)) == "rejected/not_dicom"


def test_without_pixels(run: Run, folder: Path) -> None:
    """Fault 69: a wrapped PDF has no image; nor has a report."""
    made = dataset(GREY, modality="DOC", EncapsulatedDocument=b"%PDF-1.7 ")
    made.SOPClassUID = EncapsulatedPDFStorage
    del made.PixelData, made.Rows, made.Columns
    assert refused(run, folder, saved(made)) == "rejected/no_pixels"


def test_short_pixels(run: Run, folder: Path) -> None:
    """Fault 70: half a picture is not shown as a whole one."""
    assert refused(run, folder, file(GREY, PixelData=bytes(64))) == "rejected/dicom_corrupt"


def test_frames(run: Run, folder: Path) -> None:
    """Fault 71: of a recording 16 frames, evenly; the record says so and is flagged."""
    frames = np.array([np.full((8, 8), n) for n in range(0, 120, 4)], np.uint8)
    data = file(frames, modality="US", WindowCenter=127.5, WindowWidth=255)
    (folder / "a.dcm").write_bytes(data)
    record = shown(run, folder).records["a.dcm"]
    assert record["coverage"]["frames"] == [16, 30] and record["status"] == "flagged"
    assert "partial_coverage" in {flag["rule"] for flag in record["flags"]}
    seen = [one[0] for one in pixels(record)]
    assert len(seen) == 16 and (seen[0], seen[-1]) == (0, 116) and seen == sorted(seen)
    assert "FRAME 16" in record["raw_text"]


def test_inverted_and_windowed(run: Run, folder: Path) -> None:
    """Fault 72: MONOCHROME1 under a window reaches the engine as a viewer shows it."""
    window = {"WindowCenter": 3000, "WindowWidth": 4000, "VOILUTFunction": "LINEAR_EXACT"}
    data = file(GREY, PhotometricInterpretation="MONOCHROME1", **window)
    (folder / "a.dcm").write_bytes(data)
    (seen,) = pixels(shown(run, folder).records["a.dcm"])
    windowed = np.clip((GREY.astype(int) - 1000) / 4000 * 255, 0, 255)
    wanted = np.rint(255 - windowed).astype(int)
    assert seen[::3] == seen[1::3] == wanted.ravel().tolist()[:64]


def test_swelling(run: Run, folder: Path) -> None:
    """Fault 73: a deflated file that would inflate to 60 MB is stopped at the limit."""
    data = deflated(dataset(np.zeros((4000, 7500), np.uint16)))
    assert len(data) < 100_000
    assert refused(run, folder, data) == "rejected/limit"


def nested() -> bytes:
    """A file with sequences 300 deep before its pixels."""
    opening = struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    data = file(GREY)
    at = data.index(struct.pack("<HH2s", 0x7FE0, 0x10, b"OW"))
    return data[:at] + (opening + item) * 300 + ends * 300 + data[at:]


def test_nested(run: Run, folder: Path) -> None:
    """Fault 74: sequences 300 deep end as damage, not as a crash."""
    assert refused(run, folder, nested()) == "rejected/dicom_corrupt"


def test_unknown_packing(run: Run, folder: Path) -> None:
    """Fault 75: a compression that nothing here knows is named, and not guessed at."""
    data = saved(dataset(GREY)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0")
    assert refused(run, folder, data) == "rejected/no_decoder"


def canaries() -> tuple[Dataset, list[str]]:
    """A file in which every text, number and date that is no word of the image is a canary."""
    numbers = itertools.count(1)
    words: list[str] = []
    made = dataset(GREY, modality="MR", BodyPartExamined="KNEE", Laterality="R")
    made.SeriesInstanceUID = f"{ROOT}4"
    for tag, (kind, _, _, retired, keyword) in DicomDictionary.items():
        if retired or not keyword or tag in made or tag >> 16 in (0, 2, 4, 0x28, 0x7FE0):
            continue
        word = f"QX{next(numbers):05}"
        value = {"DA": "19310217", "TM": "035917", "DT": "19310217035917", "AS": "093Y"}.get(kind)
        if kind in ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE"):
            value = word
            words.append(word)
        elif kind == "UI":
            value = f"{ROOT}77731.{next(numbers)}"
        if value is not None:
            made.add_new(tag, kind, value)
    made.PatientID, made.PatientName = "QX99999", "QXNAME^QXFIRST"
    made.add_new((0x0011, 0x0010), "LO", "QXPRIVATE")
    made.add_new((0x0011, 0x1001), "LT", "QXSECRET")
    made.ImageComments, made.BurnedInAnnotation = "QXCOMMENT", "YES"
    return made, [*words, "QX", "1931", "035917", "77731", ROOT]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "broken"])
def test_header_names(run: Run, folder: Path, whole: bool) -> None:
    """Fault 76: of a header nothing but modality, part and side; burned-in text is warned of."""
    made, words = canaries()
    # A name where a body part belongs is no body part.
    odd = dataset(GREY, modality="MR", BodyPartExamined="QXDOE", Laterality="Q")
    if not whole:
        made.PixelData = odd.PixelData = bytes(10)
    (folder / "a.dcm").write_bytes(saved(made))
    (folder / "odd.dcm").write_bytes(saved(odd))
    write(folder / "s", (slice_of(GREY, n, PatientName="QXNAME^QXFIRST") for n in range(3)))
    done = shown(run, folder, "-v")
    written = b"\n".join(contents(Path(done.records["a.dcm"]["origin"]).parents[1]).values())
    for word in words:
        assert word not in done.stdout + done.stderr
        assert all(word not in str(line) for line in done.lines)
    assert b"QXNAME" in written  # the inputs do have them
    assert done.records["odd.dcm"]["status"] in ("ok", "rejected")
    record = done.records["a.dcm"]
    if not whole:
        assert done.ended("a.dcm") == "rejected/dicom_corrupt"
        return
    assert record["header"]["modality"] == "MR" and record["header"]["body_part"] == "KNEE"
    assert "Body part: KNEE. Side: right." in record["raw_text"]
    assert "burned_in_annotation" in record["degraded"]
    assert {"burned_in_text"} <= {flag["rule"] for flag in record["flags"]}
    assert done.records["odd.dcm"]["header"].keys() == {"modality", "rendering"}


def test_two_series_in_a_folder(run: Run, folder: Path) -> None:
    """Two documents, each with its slices between instruction and question; the rest apart."""
    write(folder / "ct", (slice_of(GREY % 80, n) for n in range(4)), "a{}.dcm")
    other = {"SeriesInstanceUID": f"{ROOT}5"}
    write(folder / "ct", (slice_of(GREY % 90, n, **other) for n in range(2)), "b{}.dcm")
    (folder / "ct" / "c.dcm").write_bytes(slice_of(GREY, 0, SeriesInstanceUID=f"{ROOT}6"))
    (folder / "ct" / "DICOMDIR").write_bytes(b"an index")
    done = shown(run, folder, "--question", "Which organ?")
    assert done.code == 0 and len(done.records) == 3
    texts = [line["raw_text"] for line in done.lines if "series-" in line["source"]]
    four = next(text for text in texts if text.startswith("4 images"))
    order = [four.index(mark) for mark in ("4 of 4 slices", "SLICE 1", "SLICE 4", "Which organ?")]
    assert order == sorted(order) and len(texts) == 2
    assert done.records["ct/c.dcm"]["coverage"] == {"images": [1, 1], "frames": [1, 1]}
    again = shown(run, folder, "--question", "Which organ?")
    assert "nothing to do" in again.stderr and len(again.lines) == 3
