"""The words that stand on every record and summary, and the answers that no model writes.

The preamble that every model reads is `prompts/_preamble.md`. All of it is in English.
"""

NOTICE = (
    "Machine-made draft for a clinician to check against the source. "
    "It assists and does not diagnose; it is not medical advice."
)
# The FDA's guidance on decision support (2026) does not exempt software that reads images.
IMAGE_NOTICE = (
    f"{NOTICE} An image was read: research use only, not for diagnosis; "
    "a qualified reader must review the image."
)
REFUSAL_NOTICE = (
    "Fixed words, not written by a model. This tool assists clinicians; it does not diagnose."
)

EMERGENCY_ANSWER = """\
This may be an emergency. Do not wait for an answer from this tool.

- Call your local emergency number now: 999 or 112 (UK), 112 (Europe), 911 (US and Canada), \
000 (Australia), 111 (New Zealand).
- If somebody may have taken too much of something or swallowed a poison, call even if they feel \
well. US poison control: 1-800-222-1222.
- If you, or somebody near you, may want to die: call the emergency number, or talk to somebody \
now: 988 (US and Canada), Samaritans 116 123 (UK and Ireland), Lifeline 13 11 14 (Australia). \
Do not stay alone, and do not leave them alone.

This tool summarises clinical documents. It cannot help in an emergency, and no model has read \
your question. If this is not happening now, ask about the document: for example, "What does the \
note say about chest pain?\""""

ADVICE_ANSWER = """\
This tool does not give personal medical advice, and no model has read your question. Please ask \
a doctor, a nurse or a pharmacist. If it may be an emergency, call your local emergency number now.

What it can do: say what a clinical document says, with the words it was taken from. For example:

- medgemma ask "What does the letter say about warfarin?" -f letter.md
- medgemma ask "Which medicines were stopped, and when?" -f discharge.md
- medgemma ask "What follow-up is planned?" -f letter.md"""

_ANSWERS = {"emergency": EMERGENCY_ANSWER, "personal_advice": ADVICE_ANSWER}


def notice(has_images: bool) -> str:
    """The notice of a record; for images it also says research use, review required."""
    return IMAGE_NOTICE if has_images else NOTICE


def fixed_answer(rule: str) -> str:
    """What `ask` answers in place of a model, by the rule that stopped the question."""
    return _ANSWERS[rule]
