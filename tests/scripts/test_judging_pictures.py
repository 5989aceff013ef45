"""What the judge of pictures makes of a summary: it must not be pleased with anything."""

import pytest

from scripts.build_demo import judge
from scripts.build_demo.drawn import Facts, description, every_fact

LEFT = Facts("chest", 1, side="left", zone="upper", size="large")
DRAWN = [facts for facts in every_fact() if facts.kind in judge.KINDS]


@pytest.mark.parametrize("facts", DRAWN)
def test_its_own_description_is_right(facts: Facts) -> None:
    """And no other drawing's is right for it."""
    assert judge._told(facts, description(facts)) == {"kind": True, "label": True, "whole": True}
    for other in every_fact():
        assert judge._told(facts, description(other))["whole"] == (other == facts)


@pytest.mark.parametrize(
    ("summary", "right"),
    [
        ("", set()),
        ("The patient presents with left ear pain.", set()),
        ("A chest film.", {"kind"}),
        ("Frontal chest film with clear lungs on both sides.", {"kind"}),
        ("Frontal chest film with an opacity and clear lungs.", {"kind"}),
        ("Chest film with a large opacity in the lower zone of the left lung.", {"kind", "label"}),
        ("Chest film and stained tissue: a large opacity.", set()),
    ],
)  # fmt: skip
def test_less_is_less(summary: str, right: set[str]) -> None:
    """Another side, both labels at once, or a complaint: each counts for what it is."""
    told = judge._told(LEFT, summary)
    assert {name for name, hit in told.items() if hit} == right
