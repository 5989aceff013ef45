"""The prompts of a long document's parts. Pure."""

from medgemma_cli.records import Message, Part, Prompt

BEGINNING = "The beginning of a longer document; what follows is not shown.\n"
"""Stands before the beginning of a document, where no more of it is shown."""


def notice(k: int, n: int) -> str:
    """Stands before a part of a document."""
    return f"Part {k} of {n} of one long document; answer about this part alone.\n"


def document_of(prompt: Prompt) -> str:
    """The document's text, once: a template may show it twice.

    None of a pair: a part of one document says nothing beside the whole of the other.
    """
    parts = [part for message in prompt.messages for part in message.parts]
    if any(part.kind == "prior" for part in parts):
        return ""
    return next((part.text for part in parts if part.kind == "document"), "")


def shown(prompt: Prompt, text: str, *, first: bool, said: str) -> Prompt:
    """The same prompt with a part of the document in its place; the first part has the images.

    The fence holds, since its marker is not in the whole text; what is said of the part stands
    outside of it.
    """
    messages = []
    for message in prompt.messages:
        parts: list[Part] = []
        for i, part in enumerate(message.parts):
            opens = part.kind == "fence" and message.parts[i + 1 : i + 2]
            if part.kind == "document":
                parts.append(part.model_copy(update={"text": text}))
            elif opens and message.parts[i + 1].kind == "document":
                parts.append(part.model_copy(update={"text": said + part.text}))
            elif first or part.kind not in ("image", "label"):
                parts.append(part)
        messages.append(Message(role=message.role, parts=tuple(parts)))
    images = prompt.images if first else ()
    return prompt.model_copy(update={"messages": tuple(messages), "images": images})
