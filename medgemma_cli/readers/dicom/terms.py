"""What of a DICOM header may leave the reader: words of closed lists, and nothing else.

A header is full of identifiers, and any element may hold a name by mistake. So nothing of it is
copied: a value is looked up here, and what is not here is left out. Terms: DICOM PS3.3 C.7.3.1.1.1
(modality), PS3.16 Annex L (body part examined), PS3.3 C.7.3.1.1 and C.8.11.7 (laterality).
"""

from collections.abc import Mapping

from medgemma_cli.records import Image

MODALITIES = {
    "BI": "biomagnetic imaging", "BMD": "bone densitometry", "CR": "computed radiography",
    "CT": "computed tomography", "DG": "diaphanography", "DX": "digital radiography",
    "ECG": "electrocardiography", "EPS": "cardiac electrophysiology", "ES": "endoscopy",
    "GM": "general microscopy", "HD": "haemodynamic waveform", "IO": "intra-oral radiography",
    "IVOCT": "intravascular optical coherence tomography", "IVUS": "intravascular ultrasound",
    "LS": "laser surface scan", "MG": "mammography", "MR": "magnetic resonance",
    "NM": "nuclear medicine", "OCT": "optical coherence tomography",
    "OP": "ophthalmic photography", "OPT": "ophthalmic tomography", "OT": "other",
    "PT": "positron emission tomography", "PX": "panoramic radiography",
    "RF": "fluoroscopy", "RG": "radiographic imaging", "RTIMAGE": "radiotherapy image",
    "SEG": "segmentation", "SM": "slide microscopy", "TG": "thermography", "US": "ultrasound",
    "XA": "X-ray angiography", "XC": "photograph",
}  # fmt: skip
_BODY_PARTS_WORDS = """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ANUS AORTA APPENDIX ARM ARTERY AXILLA BACK BILEDUCT
    BLADDER BRACHIALPLEXUS BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM
    CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA
    CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR
    FIBULA FINGER FOOT FOREARM FOREHEAD GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS IAC
    ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUMEN LUNG MANDIBLE
    MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT
    OVARY PANCREAS PARATHYROID PAROTID PATELLA PELVIS PENIS PHARYNX PITUITARY PLACENTA
    PROSTATE RADIUS RADIUSULNA RECTUM RIB SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SI
    SIJOINT SINUS SKULL SMALLBOWEL SPINE SPLEEN SSPINE STERNUM STOMACH TESTIS THIGH THORAX
    THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE ULNA
    UMBILICUS URETER URETHRA UTERUS VAGINA VEIN VULVA WHOLEBODY WRIST ZYGOMA
"""
BODY_PARTS = frozenset(_BODY_PARTS_WORDS.split())
SIDES = {"R": "right", "L": "left", "B": "both sides"}
# How pixels became 8 bits: see `pixels`.
RENDERINGS = {
    "ct-windows": "Red shows -1024 to 1024 HU, green -135 to 215 HU, blue 0 to 80 HU.",
    "window": "",
    "lut": "",
    "minimum-maximum": "",
    "colour": "",
}
_ALLOWED: Mapping[str, object] = {
    "modality": MODALITIES,
    "body_part": BODY_PARTS,
    "laterality": SIDES,
    "rendering": RENDERINGS,
}
SERIES, FRAMES = "slices", "frames"


def known(**values: str) -> dict[str, str]:
    """Of modality, body part, laterality and rendering those that are words of the lists."""
    found = {}
    for name, value in values.items():
        word = value.strip() if name == "rendering" else "".join(value.upper().split())
        if word in _ALLOWED[name]:  # type: ignore[operator]
            found[name] = word
    return found


def captioned(
    images: tuple[Image, ...], header: Mapping[str, str], coverage: Mapping[str, tuple[int, int]]
) -> tuple[Image, ...]:
    """The images with what a prompt says beside them; as they are without a header.

    The first has an introduction. Each of several has ``SLICE k`` or ``FRAME k`` after it, from 1
    on among those that are shown.
    """
    if not header:
        return images
    unit = SERIES if SERIES in coverage else FRAMES
    total = coverage.get(unit, (1, 1))[1]
    word = "SLICE" if unit == SERIES else "FRAME" if total > 1 else ""
    first = _introduction(header, unit, len(images), total)
    return tuple(
        image.model_copy(
            update={
                "introduction": "" if i else first,
                "label": f"{word} {i + 1}" if word else "",
            }
        )
        for i, image in enumerate(images)
    )


def _introduction(header: Mapping[str, str], unit: str, shown: int, total: int) -> str:
    modality = header.get("modality", "")
    name = f"{modality} ({MODALITIES[modality]})" if modality else "not stated"
    if unit == SERIES:
        what = f"{shown} of {total} slices of one series, evenly chosen, in order of position"
    elif total > 1:
        what = f"{shown} of {total} frames of one recording, evenly chosen, in their order"
    else:
        what = "One image"
    part = header.get("body_part", "not stated")
    side = SIDES.get(header.get("laterality", ""), "not stated")
    seen = RENDERINGS.get(header.get("rendering", ""), "")
    return f"{what}. Modality: {name}. Body part: {part}. Side: {side}. {seen}".strip()
