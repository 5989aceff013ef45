"""Drugs of an output: those not in the source are flagged, other names of the same are not."""

import pytest

from medgemma_cli.safety.grounding import check

FOREIGN = [
    ("He takes metformin.", "He takes methotrexate."),
    ("Start hydroxyzine 25 mg.", "Start hydralazine 25 mg."),
    ("Continue Celebrex.", "Continue Celexa."),
    ("Continue clonidine.", "Continue clonazepam."),
    ("He takes Zantac.", "He takes Xanax."),
    ("On prednisone.", "On prednisolone."),
    ("On a statin.", "On atorvastatin."),
    ("Takes Lasix.", "Takes Losartan."),
    ("Takes aspirin.", "Takes acetaminophen."),
    ("Takes insulin lispro.", "Takes insulin glargine."),
    ("Takes metoprolol.", "Takes metoprolol and newdrugumab."),
    ("Takes metoprolol.", "Takes metoprolol and fictizumab."),
    ("Takes amlodipine.", "Takes amlodipine and bozipril."),
    ("Takes oxycodone.", "Takes Percocet."),
    ("Amoxicillin for otitis.", "Augmentin for otitis."),
    ("No medications.", "Takes warfarin."),
    ("Started apixaban.", "Started rivaroxaban."),
    ("MTX weekly.", "HCQ weekly."),
]
SAME = [
    ("Continue Lasix 40 mg.", "Continue furosemide 40 mg."),
    ("Takes Tylenol.", "Takes acetaminophen."),
    ("Takes paracetamol.", "Takes Tylenol."),
    ("Takes paracetamol.", "Takes acetaminophen."),
    ("Takes ASA.", "Takes aspirin."),
    ("On HCTZ.", "On hydrochlorothiazide."),
    ("On MTX.", "On methotrexate."),
    ("Salbutamol inhaler.", "Albuterol inhaler."),
    ("Adrenaline given.", "Epinephrine given."),
    ("GTN spray.", "Nitroglycerin spray."),
    ("Percocet prn.", "Oxycodone and acetaminophen as needed."),
    ("Augmentin.", "Amoxicillin-clavulanate."),
    ("Bactrim DS.", "Trimethoprim-sulfamethoxazole."),
    ("TMP-SMX.", "Bactrim."),
    ("Takes atorvastatin.", "Takes a statin."),
    ("Takes lisinopril.", "Takes an ACE inhibitor."),
    ("Takes Lantus.", "Takes insulin."),
    ("Takes insulin glargine.", "Takes Lantus."),
    ("Takes Eliquis.", "Takes an anticoagulant, apixaban."),
    ("Takes Advair.", "Takes fluticasone/salmeterol."),
    ("Zestoretic daily.", "Lisinopril and hydrochlorothiazide daily."),
    ("Start Ozempic.", "Start semaglutide."),
    ("Metoprolol succinate.", "Toprol XL."),
    ("Blood cultures in April.", "Blood cultures in April."),
    ("Admitted to hospital.", "The hospital admission."),
]


@pytest.mark.parametrize(("source", "output"), FOREIGN)
def test_a_drug_that_the_source_does_not_name_is_flagged(source: str, output: str) -> None:
    """Also look-alike names, a class made specific, and unknown words with a drug's stem."""
    assert "medication_not_in_source" in {flag.rule for flag in check(source, output).flags}


@pytest.mark.parametrize(("source", "output"), SAME)
def test_another_name_of_the_same_drug_passes(source: str, output: str) -> None:
    """Brands, synonyms, abbreviations, parts of a combination, and the class of a drug."""
    assert [flag.rule for flag in check(source, output).flags if flag.severity != "note"] == []


def test_a_misspelt_drug_of_the_source_is_not_checked() -> None:
    """A name spelled almost alike in the source is neither supported nor contradicted."""
    drug = next(
        f for f in check("Takes metropolol.", "Takes metoprolol.").facts if f.kind == "drug"
    )
    assert drug.verdict == "not checked" and drug.evidence == (6, 16)
