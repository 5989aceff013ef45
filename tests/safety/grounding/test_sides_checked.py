"""Left, right and both: flips are flagged, words that only look like sides are not."""

import pytest

from medgemma_cli.safety.grounding import check

FLIPPED = [
    ("Right knee pain.", "Left knee pain."),
    ("R knee pain.", "L knee pain."),
    ("Rt shoulder injury.", "Lt shoulder injury."),
    ("Infiltrate in the RLL.", "Infiltrate in the left lower lobe."),
    ("RUQ pain.", "LUQ pain."),
    ("Cataract OD.", "Cataract of the left eye."),
    ("Glaucoma OS.", "Glaucoma OD."),
    ("Bilateral leg edema.", "Left leg edema."),
    ("Left leg edema.", "Bilateral leg edema."),
    ("Weakness of the left arm.", "Weakness of the right upper extremity."),
    ("Pain in the knee on the left.", "Pain in the right knee."),
    ("Left-sided weakness.", "Right-sided weakness."),
    ("Right hip fracture and left wrist sprain.", "Left hip fracture and right wrist sprain."),
    ("Left ear infection.", "Right ear infection."),
    ("Mass in the right breast.", "Mass in the left breast."),
    ("Left kidney stone.", "Right kidney stone."),
    ("Left ventricular hypertrophy.", "Right ventricular hypertrophy."),
    ("Right lower extremity swelling.", "Left lower extremity swelling."),
    ("Right inguinal hernia.", "Left inguinal hernia."),
    ("He left the clinic with right knee pain.", "Left knee pain."),
]
FINE = [
    ("Right knee pain.", "Pain in the right knee."),
    ("R knee pain.", "Right knee pain."),
    ("Infiltrate in the RLL.", "Right lower lobe infiltrate."),
    ("Cataract OD.", "Cataract in the right eye."),
    ("Left and right knee pain.", "Bilateral knee pain."),
    ("Left knee pain. Right knee pain.", "Pain in both knees."),
    ("Bilateral edema of the legs.", "Edema of both legs."),
    ("He left the clinic.", "He left the clinic."),
    ("Right knee pain. He left the clinic right away.", "He left with right knee pain."),
    (
        "Start treatment right away. Left knee pain.",
        "Left knee pain; treatment started right away.",
    ),
    ("L2 compression fracture. Right knee pain.", "L2 fracture and right knee pain."),
    ("Left arm weakness.", "Weakness of the left upper extremity."),
    ("RUE weakness.", "Right arm weakness."),
    ("Left shoulder pain and right hip pain.", "Right hip pain and left shoulder pain."),
    ("Right-sided abdominal pain.", "Abdominal pain on the right side."),
    ("She was left without medication. Right foot ulcer.", "Right foot ulcer."),
    ("Gave 2 L of fluid. Right arm IV.", "2 L of fluid through the right arm."),
    ("BLE edema.", "Bilateral lower extremity edema."),
    ("Right wrist: fracture.", "Fracture of the right wrist."),
]


@pytest.mark.parametrize(("source", "output"), FLIPPED)
def test_another_side_is_flagged(source: str, output: str) -> None:
    """Words, letters, lobes, quadrants and eyes; one side for both and both for one."""
    assert "laterality_flip" in {flag.rule for flag in check(source, output).flags}


@pytest.mark.parametrize(("source", "output"), FINE)
def test_the_same_side_passes(source: str, output: str) -> None:
    """Abbreviations and order do not matter, and "left the clinic" is no side."""
    assert [flag.rule for flag in check(source, output).flags if flag.severity != "note"] == []
