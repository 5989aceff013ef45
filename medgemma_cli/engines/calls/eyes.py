"""Does a server's model see? Asked of the server, for some leave images out without a word."""

from typing import Any

from medgemma_cli.engines.calls.client import Client
from medgemma_cli.engines.calls.replies import Refused
from medgemma_cli.engines.calls.wording import data_url
from medgemma_cli.records import Image

_SIDE = 64
_ASKED = "Answer yes."


async def sees(client: Client, model: str) -> bool | None:
    """Ask the same twice, for one token, once with a grey square: an image costs tokens.

    Returns:
        None where the server does not count its prompt's tokens, and so cannot tell.

    Raises:
        Again, ModelUnavailableError: the server did not answer.
    """
    square = Image(width=_SIDE, height=_SIDE, rgb=bytes([128]) * 3 * _SIDE * _SIDE)
    picture = {"type": "image_url", "image_url": {"url": data_url(square)}}
    text = {"type": "text", "text": _ASKED}
    without = (await client.chat(_body(model, [text]))).prompt_tokens
    try:
        beside = (await client.chat(_body(model, [picture, text]))).prompt_tokens
    except Refused:
        return False
    if not without or not beside:
        return None
    return beside > without


def _body(model: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0.0}
