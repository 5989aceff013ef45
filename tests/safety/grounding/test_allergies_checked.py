"""Allergies: left out, denied, invented; and what is none."""

import pytest

from medgemma_cli.safety.grounding import check

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
