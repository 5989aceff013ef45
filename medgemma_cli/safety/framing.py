"""The words that stand on every record and summary. The preamble is `prompts/_preamble.md`."""

NOTICE = (
    "Machine-made draft for a clinician to check against the source. "
    "It assists and does not diagnose; it is not medical advice."
)
IMAGE_NOTICE = (
    f"{NOTICE} An image was read: research use only, not for diagnosis; "
    "a qualified reader must review the image."
)


def notice(has_images: bool) -> str:
    """The notice of a record; for images it also says research use, review required."""
    return IMAGE_NOTICE if has_images else NOTICE
