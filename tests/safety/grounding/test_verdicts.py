"""Verdicts, offsets, fields, languages, omissions, provenance: what a caller relies on."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.safety.grounding import Findings, check

NOTE = (
    "HPI\n\nJohn Miller is a 58-year-old male with right knee pain since 03/04/2021. "
    "He denies fever and chills. Possible gout.\n\n"
    "MEDICATIONS\n\nAllopurinol 100 mg twice daily. Lisinopril 20 mg daily.\n\n"
    "RESULTS\n\nPotassium 6.8 mmol/L. Uric acid 9.2 mg/dL.\n\n"
    "PLAN\n\nFollow up in 2 weeks."
)
FAITHFUL = [
    "Allopurinol 100 mg twice daily.",
    "Lisinopril 20 mg daily.",
    "Potassium 6.8 mmol/L.",
    "Right knee pain since March 4, 2021.",
    "He denies fever and chills.",
    "A 58-year-old male.",
    "Follow up in 2 weeks.",
]
CORRUPTIONS = [
    ("100", "300"),
    ("100", "1000"),
    ("mg", "mcg"),
    ("twice", "four times"),
    ("20", "2"),
    ("20", "25"),
    ("6.8", "8.6"),
    ("6.8", "0.68"),
    ("mmol/L", "mg/dL"),
    ("Allopurinol", "Amlodipine"),
    ("Lisinopril", "Losartan"),
    ("Right", "Left"),
    ("4,", "14,"),
    ("March", "May"),
    ("2021", "2012"),
    ("denies", "reports"),
    ("58", "85"),
    ("2 weeks", "2 months"),
    ("2 weeks", "12 weeks"),
]
PAIRS = [(text, old, new) for text in FAITHFUL for old, new in CORRUPTIONS if old in text]


def verdicts(findings: Findings) -> set[str]:
    """The verdicts of the facts."""
    return {fact.verdict for fact in findings.facts}


@pytest.mark.parametrize("text", FAITHFUL)
def test_a_faithful_output_is_supported(text: str) -> None:
    """Each of the outputs to corrupt is faithful: all its facts are supported."""
    assert verdicts(check(NOTE, text)) == {"supported"}


@pytest.mark.parametrize(("text", "old", "new"), PAIRS)
def test_no_corruption_comes_out_as_supported(text: str, old: str, new: str) -> None:
    """One fact corrupted by rule (digit, magnitude, unit, drug, negation, side, date) is caught."""
    findings = check(NOTE, text.replace(old, new, 1))
    assert "contradicted" in verdicts(findings) and findings.flags


def test_the_counts_are_those_of_the_facts() -> None:
    """Supported, contradicted and not checked add up to the facts."""
    findings = check(NOTE, "Allopurinol 300 mg. Fever. Gout. He has an appointment.")
    assert sum(findings.counts.values()) == len(findings.facts) > 3


def test_spans_point_into_both_texts() -> None:
    """A fact's span is in the output, its evidence and a flag's span in the source."""
    output = "Knee pain.\n\nPotassium 8.6 mmol/L."
    findings = check(NOTE, output)
    fact = next(f for f in findings.facts if f.rule == "number_mismatch")
    assert output[slice(*fact.span)] == "8.6 mmol/L"
    assert fact.evidence and NOTE[slice(*fact.evidence)] == "6.8 mmol/L"
    assert findings.flags[0].span == fact.evidence


def test_offsets_count_code_points() -> None:
    """Signs outside the basic plane and letters that change length shift nothing."""
    source = "😀 İstanbul clinic. Potassium 6.8 mmol/L."
    flag = check(source, "Potassium 8.6 mmol/L.").flags[0]
    assert flag.span and source[slice(*flag.span)] == "6.8 mmol/L"


def test_fields_are_checked_with_their_path() -> None:
    """Every string of a record is checked; a flag says which."""
    output = {"summary": "Right knee pain.", "plan": ["Follow up in 2 weeks.", "Lisinopril 40 mg."]}
    flags = [flag for flag in check(NOTE, output).flags if flag.severity == "review"]
    assert [(flag.rule, flag.where) for flag in flags] == [("number_mismatch", "plan[1]")]


def test_fields_of_one_object_belong_together() -> None:
    """A dose in its own field meets the drug in the field beside it."""
    drugs = [{"name": "allopurinol", "dose": "20 mg"}, {"name": "lisinopril", "dose": "100 mg"}]
    wheres = [flag.where for flag in check(NOTE, {"medications": drugs}).flags]
    assert wheres == ["medications[0].dose", "medications[1].dose"]


def test_quotes_are_no_claims() -> None:
    """A field that holds a quote is source text and is not checked."""
    output = {"findings": [{"quote": "Left knee 999 mg warfarin", "statement": "Right knee pain."}]}
    assert check(NOTE, output).flags == ()


@pytest.mark.parametrize(
    "output",
    [
        "La paciente tiene dolor de la rodilla izquierda y toma 400 mg de alopurinol.",
        "Der Patient hat Schmerzen im linken Knie und nimmt 400 mg Allopurinol.",
        "Le patient a une douleur au genou gauche depuis le mois de mars.",
        "Пациент жалуется на боль в левом колене.",
        "患者は左膝の痛みを訴えている。",
    ],
)
def test_another_language_is_not_checked(output: str) -> None:
    """A sentence in a language the rules do not know has one verdict, and is never supported."""
    findings = check(NOTE, output)
    assert verdicts(findings) == {"not checked"}
    assert {flag.rule for flag in findings.flags} == {"not_checked_language"}


def test_a_source_in_another_language_supports_nothing() -> None:
    """Where the source is not English, nothing of the output is called supported."""
    source = "La paciente tiene dolor de la rodilla derecha y toma 100 mg de alopurinol."
    assert verdicts(check(source, "Allopurinol 100 mg.")) == {"not checked"}


def test_omissions_name_drugs_critical_results_and_follow_up() -> None:
    """What a summary leaves out is listed; what it has is not."""
    left = check(NOTE, "Right knee pain. Takes Zestril.").omissions
    assert "medication: allopurinol" in left
    assert any(item.startswith("critical result: potassium") for item in left)
    assert any(item.startswith("follow-up") for item in left)
    assert not any("lisinopril" in item for item in left)


def test_provenance_says_not_addressed_and_never_verified() -> None:
    """The best window of the source with a score; below the threshold there is a note."""
    findings = check(
        NOTE, "Right knee pain since March. The cardiology ward was renovated recently."
    )
    near, far = findings.provenance
    assert near.addressed and near.window and "knee pain" in NOTE[slice(*near.window)]
    assert not far.addressed and findings.flags[-1].rule == "unsupported"
    assert findings.flags[-1].severity == "note" and "verified" not in findings.flags[-1].why


def test_reasons_hold_no_document_text() -> None:
    """A flag's `why` is plain words: names of the source stand in `value` or nowhere."""
    findings = check("CANARY7Q takes warfarin 5 mg.", "CANARY7Q takes warfarin 6 mg and CANARYmab.")
    assert findings.flags and not any("CANARY" in flag.why for flag in findings.flags)


@pytest.mark.parametrize(
    "output", ["", " \n ", "{}", "...", "?", "\x00", "²", "١٢ mg", "1/0", "0/0 mg", "q0h"]
)
def test_odd_outputs_do_no_harm(output: str) -> None:
    """Nothing to check, signs alone, other scripts' digits."""
    assert check(NOTE, output).omissions
    assert check(output, NOTE).facts


_TEXT = st.text(
    alphabet=st.one_of(st.sampled_from(list("0123456789./-:,;?% \nmgqhxLRno½²°")), st.characters()),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(_TEXT, _TEXT)
def test_any_two_texts_can_be_checked(source: str, output: str) -> None:
    """No text makes it fail, and every span lies inside its text."""
    findings: Any = check(source, output)
    for fact in findings.facts:
        assert 0 <= fact.span[0] <= fact.span[1] <= len(output)
        assert fact.evidence is None or 0 <= fact.evidence[0] <= fact.evidence[1] <= len(source)
