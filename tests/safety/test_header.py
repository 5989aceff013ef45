"""An answer against the modality and the side of a DICOM header."""

import pytest

from medgemma_cli.records import Contract, Document, Generation, Source
from medgemma_cli.safety.header import check_header
from medgemma_cli.safety.verdict import judge


def rules(text: str, **header: str) -> list[str]:
    """The rules that an answer breaks."""
    return [flag.rule for flag in check_header(header, {"findings": [text]})]


@pytest.mark.parametrize(
    ("modality", "text"),
    [
        ("MR", "An axial CT slice of the abdomen."),
        ("MR", "Computed tomography of the knee"),
        ("CT", "MRI of the brain, axial."),
        ("CT", "This magnetic resonance image shows the liver."),
        ("CT", "X-ray of the chest."),
        ("US", "A chest radiograph."),
        ("DX", "Ultrasound image of the liver."),
        ("CR", "CT"),
        ("PT", "A CT slice."),
        ("XC", "Microscopy of tissue."),
    ],
)
def test_another_modality(modality: str, text: str) -> None:
    """It is flagged, also where the answer is a choice of one word."""
    assert rules(text, modality=modality) == ["modality_mismatch"]


@pytest.mark.parametrize(
    ("modality", "text"),
    [
        ("MR", "MRI of the knee. CT shows more of bone."),
        ("MR", "Compared with the prior CT nothing changed."),
        ("MR", "CT is recommended."),
        ("CT", "PET/CT, axial."),
        ("CT", "X-ray computed tomography of the chest."),
        ("MG", "An X-ray of the breast."),
        ("CR", "Chest x ray, frontal."),
        ("US", "Severe MR with a jet into the atrium."),
        ("CT", "Mr Smith was seen."),
        ("MR", "The contact is intact; cannot tell."),
        ("OT", "A CT slice."),
        ("", "A CT slice."),
        ("MR", "Doppler-free spectra, if any."),
    ],
)
def test_no_other_modality(modality: str, text: str) -> None:
    """The own one, comparisons, plans, other words, and headers that say nothing."""
    assert rules(text, modality=modality) == []


@pytest.mark.parametrize(
    ("side", "text", "flagged"),
    [
        ("R", "The left knee.", True),
        ("L", "Fluid in the right knee joint.", True),
        ("L", "The left knee, not the right.", False),
        ("R", "The right knee.", False),
        ("B", "The left knee.", False),
        ("R", "The plate was left in place.", False),
        ("L", "A marker on the right side of the image.", False),
        ("R", "Left out of this: the ankle.", False),
        ("R", "No fracture.", False),
    ],
)
def test_sides(side: str, text: str, flagged: bool) -> None:
    """The other side alone is flagged; words that are no side of a body are none."""
    assert rules(text, laterality=side) == (["side_mismatch"] if flagged else [])


def test_where_and_what() -> None:
    """The path, the span inside it, and words that are not the document's."""
    (flag,) = check_header({"modality": "MR"}, {"a": {"b": ["No.", "Axial: a CT slice."]}})
    assert (flag.where, flag.value, flag.severity) == ("a.b[1]", "CT", "review")
    assert flag.span == (9, 11)


def judged(header: dict[str, str], degraded: tuple[str, ...] = ()) -> dict[str, str]:
    """Rules and severities of a free answer about a picture."""
    source = Source(place="a.dcm", relative="a.dcm", origin="/a.dcm")
    picture = Document(
        source=source,
        sha256="0" * 64,
        bytes=1,
        media_type="application/dicom",
        coverage={"images": (1, 1)},
        degraded=degraded,
        header=header,
    )
    verdict = judge(picture, Contract(kind="text"), Generation(id="k", text="Left knee on CT."))
    assert verdict.status == ("flagged" if verdict.flags else "ok")
    return {flag.rule: flag.severity for flag in verdict.flags}


def test_in_the_verdict() -> None:
    """Every answer about a picture with a header is held to it."""
    found = judged({"modality": "MR", "laterality": "R"})
    assert found == {"modality_mismatch": "review", "side_mismatch": "stop"}
    assert judged({"modality": "CT", "laterality": "L"}) == {} == judged({})


def test_burned_in_text() -> None:
    """Is flagged where the reader noted it."""
    assert judged({}, ("burned_in_annotation",)) == {"burned_in_text": "review"}
