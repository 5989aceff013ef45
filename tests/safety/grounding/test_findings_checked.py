"""Negation, certainty and of whom: flips are flagged, other words for the same are not."""

import pytest

from medgemma_cli.safety.grounding import check

FLIPPED = [
    ("She denies chest pain.", "She reports chest pain."),
    ("She reports chest pain.", "She denies chest pain."),
    ("No fever, chills, or cough.", "Fever, chills and cough."),
    ("No fever, chills, or cough.", "Presents with a cough."),
    ("Denies SOB.", "Reports dyspnea."),
    ("Has hypertension.", "No history of hypertension."),
    ("PE was ruled out.", "CT showed a pulmonary embolism."),
    ("CT rules out appendicitis.", "CT shows appendicitis."),
    ("Negative for pneumonia, positive for pleural effusion.", "Positive for pneumonia."),
    ("Negative for DVT or PE, positive for cellulitis.", "No cellulitis."),
    ("Denies nausea but has vomiting.", "Reports nausea."),
    ("Denies nausea but has vomiting.", "Denies vomiting."),
    ("He no longer has headaches.", "He has headaches."),
    ("Without evidence of fracture.", "There is a fracture."),
    ("Fever is absent.", "Fever is present."),
    ("Fever and chills were denied.", "Reports chills."),
    ("Abdomen is nontender.", "Abdomen is tender."),
    ("The patient is afebrile.", "The patient is febrile."),
    ("Never smoked.", "Smokes."),
    ("She does not use a cane.", "She does use a cane."),
    (
        "She did not hold methotrexate for the vaccine.",
        "She did hold methotrexate for the vaccine.",
    ),
    ("Ibuprofen did not help the pain.", "Ibuprofen did help the pain."),
    ("Not only fever but also rash.", "No fever."),
    ("No murmurs, rubs, or gallops.", "There are murmurs, rubs, and gallops."),
    ("Cannot exclude pulmonary embolism.", "No pulmonary embolism."),
    ("Gait is stable.", "Gait is unstable."),
    ("Diabetes is well controlled.", "Diabetes is uncontrolled."),
    ("Increase the dose of insulin.", "Decrease the dose of insulin."),
    ("Stop lisinopril.", "Continue lisinopril."),
    ("Biopsy was benign.", "Biopsy was malignant."),
    ("The wound has improved since the visit.", "The wound has worsened since the visit."),
    ("No family history of breast cancer.", "Family history of breast cancer."),
    (
        "There is no evidence of metastasis on the CT scan.",
        "There is evidence of metastasis on the CT scan.",
    ),
    ("Troponin was negative, MI excluded.", "Myocardial infarction confirmed."),
    ("[doctor] do you have any chest pain ?\n[patient] no .", "Reports chest pain."),
]
RAISED = [
    ("Possible pneumonia.", "The patient has pneumonia."),
    ("Findings suspicious for malignancy.", "Malignancy."),
    ("Likely gout of the toe.", "Gout of the toe."),
    ("Cannot exclude pulmonary embolism.", "Pulmonary embolism."),
    ("Rule out DVT.", "DVT."),
    ("R/O MI.", "Myocardial infarction."),
    ("? appendicitis", "Appendicitis."),
    ("Concern for sepsis.", "Sepsis."),
    ("Differential includes lymphoma and sarcoidosis.", "The patient has lymphoma."),
    ("Mother had breast cancer.", "Patient has breast cancer."),
    ("Family history of stroke.", "History of stroke."),
    ("His father has diabetes.", "He has diabetes."),
    ("Return if you develop chest pain.", "He has chest pain."),
    ("Risk of stroke was discussed.", "He had a stroke."),
    ("Screening for colon cancer.", "Colon cancer."),
    ("Pneumonia cannot be excluded.", "Pneumonia."),
    ("May represent tuberculosis.", "Tuberculosis."),
]
FINE = [
    ("Known HTN.", "High blood pressure."),
    ("Has a history of MI.", "History of a heart attack."),
    ("Denies SOB.", "No shortness of breath."),
    ("Denies SOB.", "Denies dyspnea."),
    ("Afib on warfarin.", "Atrial fibrillation on warfarin."),
    ("No fever, chills, or cough.", "Denies cough, fever or chills."),
    ("Denies chest pain but reports palpitations.", "Reports palpitations; denies chest pain."),
    (
        "Negative for pneumonia, positive for pleural effusion.",
        "Pleural effusion without pneumonia.",
    ),
    ("PE was ruled out.", "No pulmonary embolism."),
    ("No change in the headache.", "Headache unchanged."),
    ("No increase in pain of the knee.", "Pain in the knee is not increased."),
    ("Not only fever but also rash.", "Fever and rash."),
    ("Gram negative bacteremia.", "Gram-negative bacteremia."),
    ("Possible pneumonia.", "Pneumonia is possible."),
    ("Possible pneumonia.", "Suspected pneumonia."),
    ("Pneumonia.", "Pneumonia confirmed."),
    ("Cannot exclude pulmonary embolism.", "Pulmonary embolism not excluded."),
    ("PE is unlikely.", "No PE."),
    ("Mother had breast cancer.", "Family history of breast cancer (mother)."),
    ("Mother reports that he has a fever.", "Fever."),
    ("Mother had breast cancer. The patient has asthma.", "Asthma."),
    ("Return if you develop chest pain.", "Return for chest pain."),
    ("Abdomen is nontender.", "No abdominal tenderness."),
    ("Abdomen is nontender.", "Abdomen is not tender."),
    ("The patient is afebrile.", "No fever."),
    ("Nonsmoker.", "Does not smoke."),
    ("T2DM.", "Type 2 diabetes mellitus."),
    ("COPD exacerbation.", "Exacerbation of chronic obstructive pulmonary disease."),
    ("Swelling of the left ankle, no swelling of the right ankle.", "Left ankle edema."),
    ("No pain in the calf. Pain in the knee.", "Pain in the knee."),
    ("No pain in the calf. Pain in the knee.", "No calf pain."),
    ("He no longer has headaches.", "Headaches resolved."),
    ("Chest pain without radiation.", "Chest pain that does not radiate."),
    ("Discharged home.", "The patient was discharged home."),
    ("Stroke volume is normal.", "Normal stroke volume."),
    ("[doctor] any fever or chills ?\n[patient] no .", "Denies fever and chills."),
    ("[doctor] any fever or chills ?\n[patient] yes , some fever .", "Reports fever."),
    ("Denies fever. Has cough.", "Cough without fever."),
    ("Stop lisinopril.", "Lisinopril was stopped."),
    ("Discontinue aspirin due to bleeding.", "Aspirin was discontinued due to bleeding."),
    ("Unable to bear weight.", "Cannot bear weight."),
    ("Hypertension is well controlled.", "Well-controlled hypertension."),
    ("The pain is not relieved by rest.", "Pain persists despite rest."),
    ("No known drug allergies.", "NKDA."),
]


@pytest.mark.parametrize(("source", "output"), FLIPPED)
def test_a_flip_is_flagged(source: str, output: str) -> None:
    """What the source denies is not affirmed, nor the other way round, whatever the words."""
    assert "negation_flip" in {flag.rule for flag in check(source, output).flags}


@pytest.mark.parametrize(("source", "output"), RAISED)
def test_raised_certainty_is_flagged(source: str, output: str) -> None:
    """What is possible, a risk, or a relative's is not the patient's diagnosis."""
    assert "unsupported_diagnosis" in {flag.rule for flag in check(source, output).flags}


@pytest.mark.parametrize(("source", "output"), FINE)
def test_the_same_in_other_words_passes(source: str, output: str) -> None:
    """Synonyms, abbreviations, pseudo-negation, scopes and places raise no flag."""
    assert [flag.rule for flag in check(source, output).flags if flag.severity != "note"] == []


CHEST = (
    "Chest radiograph. No focal airspace disease. No pleural effusion or pneumothorax. Heart size "
    "is normal. No acute osseous abnormality. Lungs are clear. No suspicious pulmonary nodule. "
    "There is no significant interval change. No definite fracture."
)


@pytest.mark.parametrize(
    "output",
    [
        "There is no focal airspace disease.",
        "There are no suspicious pulmonary nodules.",
        "There is no acute osseous abnormality.",
        "Neither pleural effusion nor pneumothorax is seen.",
        "No definite or suspicious fracture.",
        "There is no significant interval change.",
        "The heart is not enlarged.",
        "Normal heart size, clear lungs.",
    ],
)
def test_the_words_inside_a_denial_are_denied_too(output: str) -> None:
    """ "No focal" and "there is no focal" deny the same, whichever phrase is the cue."""
    flags = check(CHEST, output).flags
    assert [flag.rule for flag in flags if flag.severity != "note"] == []


@pytest.mark.parametrize(
    "output",
    [
        "There is focal airspace disease.",
        "There is an acute osseous abnormality.",
        "The lungs are not clear.",
        "Heart size is abnormal.",
        "A suspicious pulmonary nodule.",
    ],
)
def test_a_denial_that_is_dropped_is_a_flip(output: str) -> None:
    """The same words without the denial, or with one of their own."""
    assert "negation_flip" in {flag.rule for flag in check(CHEST, output).flags}
