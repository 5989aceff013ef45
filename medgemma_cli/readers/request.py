"""One chat request, the `body` of a line of a batch file: its turns, its images, its options.

Shapes are those of OpenAI's chat completions. Nothing is fetched: an image is a `data:` URL.
"""

import base64
import binascii
import json
import re
from typing import Any, NamedTuple

from medgemma_cli.errors import DocumentError
from medgemma_cli.readers import asked, image
from medgemma_cli.readers.limits import Content, ReadLimits
from medgemma_cli.records import Image, Message, Part, Request

KIND = "application/x-chat-request"
VERSION = f"request/1 {image.VERSION}"
MEDIA_TYPES: dict[str, str] = {}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_KINDS = frozenset({*image.MEDIA_TYPES.values(), "image/jpg"})
_DATA = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)((?:;[^;,]{1,80})*);base64,", re.IGNORECASE)


class Parsed(NamedTuple):
    """A request, and its images as they stand in it: base64."""

    request: Request
    images: tuple[str, ...]


def canonical(body: dict[str, Any]) -> str:
    """A body as JSON that is the same for the same body: ASCII, names in order."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def said(messages: tuple[Message, ...]) -> str:
    """What the user says, the text that an answer is checked against."""
    parts = [part for turn in messages if turn.role == "user" for part in turn.parts]
    return "\n\n".join(part.text for part in parts if part.kind == "document")


def read(data: bytes, limits: ReadLimits) -> Content:
    """What the user says, and the images, in their order.

    Raises:
        DocumentError: as `parse`; ``image_data``, no base64; a code of the image's reader;
            ``too_many_pixels``, all images together.
    """
    parsed = parse(data)
    text = said(parsed.request.messages)
    asked.contract(parsed.request.schema_block, text)
    coverage = {"characters": (len(text), len(text))} if text.strip() else {}
    images: list[Image] = []
    notes: list[str] = []
    left = limits.max_pixels
    for written in parsed.images:
        found = image.read(_octets(written), limits._replace(max_pixels=left))
        images += found.images
        notes += found.degraded
        left -= sum(one.width * one.height for one in found.images)
        for unit, (seen, total) in found.coverage.items():
            before = coverage.get(unit, (0, 0))
            coverage[unit] = (before[0] + seen, before[1] + total)
    return Content(
        text=text, images=tuple(images), coverage=coverage, degraded=tuple(dict.fromkeys(notes))
    )


def _octets(written: str) -> bytes:
    try:
        data = base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        raise DocumentError("image_data") from None
    if not data:
        raise DocumentError("image_data")
    return data


def parse(data: bytes) -> Parsed:
    """The request in the bytes of a canonical body; no image is decoded.

    Raises:
        DocumentError: ``request_body``, ``request_option``, ``request_format``,
            ``request_messages`` (no turns of system, user and assistant that end with the user's),
            ``image_link`` (an address), ``image_data`` (no `data:` URL of a raster image),
            ``encoding`` (half a character).
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise DocumentError("request_body") from None
    if not isinstance(body, dict):
        raise DocumentError("request_body")
    made, block = asked.options(body), asked.schema_block(body)
    turns = body.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DocumentError("request_messages")
    images: list[str] = []
    messages = tuple(_message(turn, images) for turn in turns)
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if len(spoken) % 2 == 0 or spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"]:
        raise DocumentError("request_messages")
    _check_text(messages)
    return Parsed(Request(messages=messages, schema_block=block, **made), tuple(images))


def _check_text(messages: tuple[Message, ...]) -> None:
    for message in messages:
        for part in message.parts:
            try:
                part.text.encode()
            except UnicodeEncodeError:
                raise DocumentError("encoding") from None


def _message(turn: dict[str, Any], images: list[str]) -> Message:
    """A turn; the images that it shows are put behind those of the turns before."""
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise DocumentError("request_messages")
    if any(turn[name] not in (None, []) for name in turn.keys() - {"role", "content"}):
        raise DocumentError("request_messages")  # a name, or calls of tools
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise DocumentError("request_messages")
    kind = _ROLES[role]
    parts: list[Part] = []
    for item in content:
        part = _part(item, kind == "user", images)
        if parts and part.kind == parts[-1].kind != "image":
            part = Part(kind=part.kind, text=f"{parts.pop().text}\n{part.text}")
        parts.append(part)
    if not any(part.kind == "image" or part.text.strip() for part in parts):
        raise DocumentError("request_messages")
    return Message.model_validate({"role": kind, "parts": tuple(parts)})


def _part(item: Any, users: bool, images: list[str]) -> Part:
    """A part of a turn. What the user says is data; in the encoding, every text is."""
    if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str):
        return Part(kind="document" if users else "text", text=item["text"])
    if isinstance(item, dict) and item.get("type") == "image_url" and users:
        images.append(_written(item.get("image_url")))
        return Part(kind="image")
    raise DocumentError("request_messages")


def _written(shown: Any) -> str:
    """The base64 of an image's URL."""
    url = shown.get("url") if isinstance(shown, dict) else shown
    if not isinstance(url, str):
        raise DocumentError("request_messages")
    if not url[:5].lower() == "data:":
        raise DocumentError("image_link")
    head = _DATA.match(url[:300])
    if head is None or head[1].lower() not in _KINDS:
        raise DocumentError("image_data")
    return url[head.end() :]
