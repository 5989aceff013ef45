"""Allergies: left out, denied, invented; and what is none."""

from pathlib import Path

import pytest

from medgemma_cli.safety.grounding import check

NOTES = Path(__file__).parents[3] / "raw" / "notes"

OMITTED = [
    (
        "Allergies: penicillin (anaphylaxis). Sore throat. Plan: azithromycin.",
        "Sore throat. Azithromycin was started.",
    ),
    ("Allergic to penicillin. Has cough.", "NKDA. Has cough."),
    ("Allergic to penicillin. Has cough.", "No known drug allergies. Has cough."),
    ("Allergic to penicillin and latex. Has cough.", "Allergic to penicillin. Has cough."),
    ("Penicillin allergy. Has a cough.", "The patient has a cough. Follow up soon."),
    ("She gets hives with sulfa. Has a UTI.", "She has a UTI. No allergies."),
    ("Anaphylaxis to peanuts. Has asthma.", "Has asthma."),
    ("ALLERGIES\n\nCodeine, shellfish.\n\nHPI\n\nBack pain.", "Back pain. No other history."),
    ("Allergic to sulfa. Has cough.", "Allergic to penicillin. Has cough."),
]
FINE = [
    ("Allergies: PCN. Cough.", "Cough. Penicillin allergy."),
    ("NKDA. Cough.", "Cough. No known allergies."),
    ("No known drug allergies. Cough.", "Cough."),
    ("Denies allergies. Cough.", "Cough. NKDA."),
    ("Seasonal allergies. Cough.", "Cough."),
    ("Mother is allergic to penicillin. Cough.", "Cough."),
    ("No allergy to penicillin. Cough.", "Cough."),
    ("Allergic to sulfa drugs. Cough.", "Cough; sulfa allergy."),
    ("Allergies: latex. Cough.", "Allergic to latex; cough."),
    ("Allergic rhinitis. Cough.", "Cough. Follow up."),
]


@pytest.mark.parametrize(("source", "output"), OMITTED)
def test_an_omitted_allergy_stops(source: str, output: str) -> None:
    """An allergy that a summary leaves out or denies is flagged, with severity stop."""
    flags = [flag for flag in check(source, output).flags if flag.rule == "omitted_allergy"]
    assert flags and flags[0].severity == "stop"


@pytest.mark.parametrize(("source", "output"), FINE)
def test_no_allergy_is_left_out(source: str, output: str) -> None:
    """Abbreviations, NKDA on both sides, relatives, and seasonal allergies."""
    assert [flag.rule for flag in check(source, output).flags if flag.severity != "note"] == []


def test_an_invented_allergy_is_flagged() -> None:
    """NKDA in the source, an allergy in the output."""
    rules = {flag.rule for flag in check("NKDA.", "Allergic to penicillin.").flags}
    assert "negation_flip" in rules and "medication_not_in_source" in rules


def test_a_sentence_about_a_long_note_omits_nothing() -> None:
    """One sentence sums nothing up, so it leaves nothing out."""
    note = (
        "Allergic to penicillin. " + "The cough began in March and has been dry since then. " * 10
    )
    assert not [
        f for f in check(note, "The cough has been dry.").flags if f.rule == "omitted_allergy"
    ]


LISTED = [
    ("clinic/cardiology-atrial-fibrillation.md", set()),
    ("discharge/hip-fracture.txt", {"Sulfa"}),
    ("emergency/ed-chest-pain.txt", {"lisinopril"}),
    ("letters/referral-dysphagia-2ww.txt", {"trimethoprim"}),
    ("nursing/ward-handover.md", {"penicillin"}),
    ("pharmacy/medication-reconciliation.md", {"sulfonamide", "codeine"}),
    ("soap/paediatric-asthma.md", {"peanut"}),
    ("surgery/laparoscopic-cholecystectomy.md", {"chlorhexidine"}),
]


@pytest.mark.parametrize(("name", "allergies"), LISTED, ids=[name for name, _ in LISTED])
def test_the_allergies_of_a_note_are_those_and_no_others(name: str, allergies: set[str]) -> None:
    """A note's medications are no allergies, wherever its list of allergies ends."""
    text = (NOTES / name).read_text("utf-8")
    facts = check(text, {"summary": "x."}).facts
    assert {fact.value for fact in facts if fact.kind == "omission"} == allergies


@pytest.mark.parametrize(
    ("source", "allergies"),
    [
        ("Allergies: penicillin. Takes lisinopril 10 mg daily.", {"penicillin"}),
        ("Allergies: penicillin. Sulfa. Codeine.", {"penicillin", "Sulfa", "Codeine"}),
        ("Allergies: penicillin,\nlatex\n\nAspirin daily.", {"penicillin", "latex"}),
        ("Allergies:\n- Codeine: rash\n- Latex\n\nAspirin.", {"Codeine", "Latex"}),
        ("## Allergies\n\nCodeine\n\n## Plan\n\nStart aspirin.", {"Codeine"}),
        ("Allergic to penicillin so azithromycin was given.", {"penicillin"}),
        ("Penicillin allergy, azithromycin prescribed.", {"Penicillin"}),
        ("Seasonal allergies: loratadine 10 mg.", set()),
        ("Peanut allergy (carries adrenaline).", {"Peanut"}),
    ],
)
def test_where_a_list_of_allergies_ends(source: str, allergies: set[str]) -> None:
    """At a treatment, a dose, an empty line or the next heading."""
    facts = check(source, {"summary": "x."}).facts
    assert {fact.value for fact in facts if fact.kind == "omission"} == allergies


def test_a_possible_allergy_is_not_a_known_one() -> None:
    """Raised certainty is told of allergies, too."""
    flags = check("Possible peanut allergy.", "Known peanut allergy.").flags
    assert [flag.rule for flag in flags] == ["unsupported_diagnosis"]


def test_an_output_that_promises_nothing_leaves_nothing_out() -> None:
    """`covers` decides over the form of the output."""
    source, output = "Allergic to latex. Has a cough.", {"summary": "Has a cough."}
    assert [flag.rule for flag in check(source, output).flags] == ["omitted_allergy"]
    assert check(source, output, covers=False).flags == ()
    assert [f.rule for f in check(source, "Cough.", covers=True).flags] == ["omitted_allergy"]
