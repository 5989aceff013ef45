"""What goes along with weights that are handed on: whose they are, and that they were changed.

Gemma Terms of Use, section 3.1, and Health AI Developer Foundations Terms of Use (MedGemma's),
section 3.1: a notice file with the sentence below, a copy of the terms for whoever gets the model,
and a statement that files were modified.
"""

from collections.abc import Sequence

NOTICE = "NOTICE"
GEMMA = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms"
)
HAI_DEF = (
    "HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use "
    "found at https://developers.google.com/health-ai-developer-foundations/terms"
)


def notice(base: str | None, adapter: str, changed: Sequence[str], kept: Sequence[str]) -> str:
    """The text of the notice file.

    Args:
        base: the base's name on the hub; None where it has none.
        adapter: the adapter's SHA-256.
    """
    named = base or "a checkpoint without a name on the hub"
    lines = [
        GEMMA,
        "",
        HAI_DEF,
        "(for MedGemma and other models of that collection)",
        "",
        f"This is a modified version of {named}.",
        f"A LoRA adapter (SHA-256 {adapter}) was merged into its weights.",
        f"Files changed: {', '.join(changed)}.",
        f"Files as they were: {', '.join(kept) or 'none'}.",
        "",
        "Whoever is given this model must be given a copy of the terms that it is under, and is",
        "bound by their restrictions of use. Another base than Gemma or MedGemma brings terms of",
        "its own.",
        "",
        "The output of this model is a draft for a clinician to check. It is no medical device.",
    ]
    return "\n".join(lines) + "\n"
