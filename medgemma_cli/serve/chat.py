"""A conversation in OpenAI's shape → a prompt, with the preamble that every model reads.

What the user's turns say is data, as documents are: nothing in it can become a control token, and
quotes are taken from it. Where a client of this program has put its fence around a document, that
alone is the document, and what stands around it is the question. Where quotes of a pair are asked
for, the first of its two fences is around the earlier document, as in the templates for pairs.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from medgemma_cli import contracts, identity, quoting, templates
from medgemma_cli.readers.loading import sha256
from medgemma_cli.records import (
    RECORD_SCHEMA,
    Contract,
    Document,
    Flag,
    Image,
    Limits,
    Message,
    Part,
    Prompt,
    Source,
)
from medgemma_cli.safety.triage import triage_question
from medgemma_cli.serve.bodies import ChatBody, ChatMessage, ImagePart
from medgemma_cli.serve.pictures import from_base64

_OPEN = re.compile(r"<<<([0-9a-f]{8})\n")
_FENCES = 16  # more openings than that in one text are nobody's fence
_TOKENS = 700


class BadConversationError(ValueError):
    """What is asked cannot be honoured; the message says why, in words of our own."""


class Conversation(NamedTuple):
    """A prompt but for its pixels, which are read first; `images` has their bytes, in order."""

    messages: tuple[Message, ...]
    images: tuple[bytes, ...]
    contract: Contract
    limits: Limits

    @property
    def text(self) -> str:
        """The documents of the user's turns; of a pair the current one."""
        return self.prompt("").document

    def refused(self) -> Flag | None:
        """Why the last turn must not go to a model. Fenced documents are not looked at."""
        parts = self.messages[-1].parts
        fenced = any(part.kind == "fence" for part in parts)
        kinds = {"text"} if fenced else {"text", "document"}
        return triage_question("\n".join(part.text for part in parts if part.kind in kinds))

    def key(self, engine: dict[str, Any]) -> str:
        """Names the question, as a document's key does: the same key, the same answer."""
        said = [message.model_dump() for message in self.messages]
        images = [sha256(data) for data in self.images]
        limits = self.limits.model_dump()
        asked = ["chat/1", RECORD_SCHEMA, engine, said, images, self.contract.json_schema, limits]
        return identity.digest(asked)

    def template(self) -> templates.Template:
        """What asks, for the record: the client's own words."""
        system = "".join(part.text for part in self.messages[0].parts)
        return templates.Template(
            name="chat",
            path="",
            description="",
            accepts=("text", "image", "none"),
            system=system,
            body="",
            contract=self.contract,
            image_contract=self.contract,
            max_new_tokens=self.limits.max_new_tokens,
            hash=hashlib.sha256(system.encode("utf-8", "surrogatepass")).hexdigest(),
        )

    def prompt(self, key: str, images: tuple[Image, ...] = ()) -> Prompt:
        """The whole prompt, with its pictures."""
        return Prompt(
            id=key,
            messages=self.messages,
            images=images,
            contract=self.contract,
            limits=self.limits,
        )


def conversation(body: ChatBody) -> Conversation:
    """The conversation that a request asks to be gone on with.

    Raises:
        BadConversationError: turns out of order, an image that is no data URL, a schema that
            cannot be decoded.
    """
    system, turns = _turns(body.messages)
    images: list[bytes] = []
    messages = [Message(role="system", parts=(Part(kind="text", text=system),))]
    for role, said in turns:
        parts = [part for message in said for part in _parts(message, role, images)]
        messages.append(Message(role=role, parts=tuple(parts)))
    limits = Limits(
        max_new_tokens=body.max_completion_tokens or body.max_tokens or _TOKENS,
        temperature=body.temperature or 0.0,
        top_p=body.top_p or 1.0,
        seed=body.seed or 0,
    )
    plain = Conversation(tuple(messages), tuple(images), Contract(kind="text"), limits)
    asked = body.response_format
    if asked is None or asked.json_schema is None or asked.type == "text":
        return plain
    contract = _contract(asked.json_schema.schema_, plain.text)
    if contracts.wants_pairs(contract.block):
        messages[1] = _paired(messages[1])
    return plain._replace(messages=tuple(messages), contract=contract)


def _paired(message: Message) -> Message:
    """The first turn, with the first of its two fenced documents as the earlier one.

    Raises:
        BadConversationError: it does not have two.
    """
    parts = list(message.parts)
    fenced = [i for i, part in enumerate(parts) if i and parts[i - 1].kind == "fence"]
    found = [i for i in fenced if parts[i].kind == "document"]
    if len(found) != 2:
        raise BadConversationError(
            "quotes of a pair are asked for, and there are not two documents"
        )
    parts[found[0]] = parts[found[0]].model_copy(update={"kind": "prior"})
    return message.model_copy(update={"parts": tuple(parts)})


def _turns(messages: Sequence[ChatMessage]) -> tuple[str, list[tuple[Any, list[ChatMessage]]]]:
    """The system text, behind the preamble, and turns that alternate, the user's first and last."""
    own = []
    turns: list[tuple[Any, list[ChatMessage]]] = []
    for message in messages:
        if message.role in ("system", "developer"):
            if not isinstance(message.content, str):
                own += [part.text for part in message.content if not isinstance(part, ImagePart)]
            else:
                own.append(message.content)
        elif turns and turns[-1][0] == message.role:
            turns[-1][1].append(message)
        else:
            turns.append((message.role, [message]))
    if not turns or turns[0][0] != "user" or turns[-1][0] != "user":
        raise BadConversationError("a conversation begins and ends with the user's turn")
    before = templates.preamble()
    text = "\n".join(own).strip()
    # A client of this program sends the preamble itself.
    return (text if text.startswith(before) else f"{before}\n{text}".strip()), turns


def _parts(message: ChatMessage, role: str, images: list[bytes]) -> list[Part]:
    content = message.content
    if isinstance(content, str):
        return _text(content, role)
    made: list[Part] = []
    for part in content:
        if not isinstance(part, ImagePart):
            made += _text(part.text, role)
        elif role != "user":
            raise BadConversationError("images are the user's")
        else:
            made.append(Part(kind="image"))
            images.append(_image(part.image_url.url))
    return made


def _image(url: str) -> bytes:
    if url[:5].lower() != "data:":
        raise BadConversationError("images are data URLs; nothing is fetched")
    try:
        return from_base64(url)
    except ValueError as error:
        raise BadConversationError(str(error)) from None


def _text(text: str, role: str) -> list[Part]:
    """A text as data; with its fences apart, if it has any."""
    if role != "user":
        return [Part(kind="text", text=text)] if text else []
    made: list[Part] = []
    at = tried = 0
    while tried < _FENCES and (begin := _OPEN.search(text, at)) is not None:
        tried += 1
        closing = f"\n{begin[1]}>>>"
        end = text.find(closing, begin.end())
        if end < 0:
            break
        if text[at : begin.start()]:
            made.append(Part(kind="text", text=text[at : begin.start()]))
        made.append(Part(kind="fence", text=begin[0]))
        made.append(Part(kind="document", text=text[begin.end() : end]))
        made.append(Part(kind="fence", text=closing))
        at = end + len(closing)
    if text[at:]:
        made.append(Part(kind="text" if made else "document", text=text[at:]))
    return made


def _contract(schema: dict[str, Any], text: str) -> Contract:
    try:
        return contracts.of_schema(schema, quotable=quoting.is_quotable(text))
    except (ValueError, RecursionError, TypeError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise BadConversationError(f"the JSON Schema cannot be decoded: {why}") from None


def with_pictures(talk: Conversation, key: str, images: Document | None) -> Document:
    """What the answer is checked against: the texts, and the pictures that were read with them."""
    asked = talk.prompt(key)
    current = _document(asked.document, key, images)
    return (
        current.model_copy(update={"prior": _document(asked.prior, key)})
        if asked.prior
        else current
    )


def _document(text: str, key: str, images: Document | None = None) -> Document:
    place = f"request/{key[:12]}"
    data = text.encode("utf-8", "surrogatepass")
    return Document(
        source=images.source if images else Source(place=place, relative=place, origin="-"),
        sha256=sha256(data),
        bytes=len(data),
        media_type="text/plain" if images is None else "multipart/mixed",
        text=text,
        images=images.images if images else (),
        coverage={"characters": (len(text), len(text)), **(images.coverage if images else {})},
        degraded=images.degraded if images else (),
        header=images.header if images else {},
    )
