"""A prompt → the messages of a chat request, in which no text can be a control token.

A server gets plain text and finds control tokens in it itself, so `engines.encoding` cannot help:
the text must be changed. A name of a control token gets a space after its first character, which
keeps it readable and makes other tokens of it. The names are those of the chat templates and
processors of common model families; a model may have others, which is not covered. Placeholders
of de-identified notes (``<NAME>``, ``[DATE]``) stay as they are.
"""

import base64
import io
import re
from typing import Any

from medgemma_cli.records import Image, Message, Part, Prompt

# Gemma 3 and 4, ChatML, Llama 2 to 4, Mistral, Phi, DeepSeek, GLM; llama.cpp's and vLLM's markers.
CONTROL = re.compile(
    r"<(?="
    r"(?:(?:start|end)_of_[a-z_]{1,30}|unused\d{1,6}|[a-z_]{1,30}_soft_token|__media__"
    r"|/?(?:s|bos|eos|pad|unk|mask|image|img|video|audio|think|tool_call|tool_response)"
    r"|[a-z_]{1,30}_placeholder|reserved_special_token_\d{1,6}|image-\d{1,4}|</?SYS>)>"
    r"|[|｜][^<>\s]{1,64}>|[^<>|｜\s]{1,64}[|｜]>)"
    r"|\[(?=(?:multimodal|/?INST|/?IMG|IMG_BREAK|IMG_END|gMASK|sMASK|/?TOOL_[A-Z_]{1,30}"
    r"|/?AVAILABLE_TOOLS|/?SYSTEM_PROMPT|/?THINK|CLS|SEP|PAD|UNK|MASK|BOS|EOS|img-\d{1,4})\])"
)


def neutral(text: str) -> tuple[str, int]:
    """The text with names of control tokens cut in two, and how many there were."""
    return CONTROL.subn(r"\g<0> ", text)


class Worded:
    """A prompt in the words of the chat API.

    Attributes:
        messages: as the API has them; plain text where there is no image.
        split: how many control tokens' names were cut in two.
        words: how many words all of the text has.
    """

    def __init__(self, prompt: Prompt, more: str = "") -> None:
        self.split = 0
        self.words = 0
        images = iter(prompt.images)
        turns = [*prompt.messages]
        if more:
            last = turns[-1]
            parts = (*last.parts, Part(kind="text", text=more))
            turns[-1] = last.model_copy(update={"parts": parts})
        self.messages = [self._message(turn, images) for turn in turns]

    def _message(self, message: Message, images: Any) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        # Joined first: a name must not be made of two parts' ends.
        text = ""
        for part in message.parts:
            if part.kind == "image":
                content += self._text(text)
                content.append(_shown(next(images)))
                text = ""
            else:
                text += part.text
        content += self._text(text)
        if all(item["type"] == "text" for item in content):
            return {"role": message.role, "content": "".join(item["text"] for item in content)}
        return {"role": message.role, "content": content}

    def _text(self, text: str) -> list[dict[str, Any]]:
        if not text:
            return []
        text, found = neutral(text)
        self.split += found
        self.words += len(text.split())
        return [{"type": "text", "text": text}]


def least_tokens(words: int) -> int:
    """The least number of tokens that so many words may be.

    A word is at least one token in vocabularies that do not join words, as Gemma's does not; a
    tenth less, for those that do so here and there.
    """
    return words * 9 // 10


def count_words(prompt: Prompt) -> int:
    """The words of all of a prompt's text."""
    return sum(len(part.text.split()) for message in prompt.messages for part in message.parts)


def _shown(image: Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}


def data_url(image: Image) -> str:
    """The image as a PNG in a ``data:`` URL: nothing is lost, and nothing is fetched."""
    from PIL import Image as Pillow

    file = io.BytesIO()
    picture = Pillow.frombytes("RGB", (image.width, image.height), image.rgb)
    picture.save(file, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
