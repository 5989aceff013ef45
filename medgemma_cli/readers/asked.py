"""How a chat request wants to be answered: its options, each honoured, without effect, or refused.

Names and bounds are those of OpenAI's chat completions, with vLLM's additions; an option that
would change the answer and cannot be had is refused, never passed over.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from medgemma_cli.errors import DocumentError
from medgemma_cli.records import Contract

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MOST_TOKENS = 1_000_000
_HOTTEST = 5
_SEEDS = 1 << 63
_MOST_VALUES = 5_000
_KNOWN = {"messages", "model", "response_format"}
# They say nothing about the answer.
_IDLE = {
    "metadata",
    "parallel_tool_calls",
    "priority",
    "prompt_cache_key",
    "request_id",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "user",
}
# What of each leaves the answer as it is; None does so of all.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_p": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "skip_special_tokens": (True,),
    "stop": ([], ""),
    "stop_token_ids": ([],),
    "stream": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (-1, 0),
    "top_logprobs": (0,),
    "use_beam_search": (False,),
}
_Check = Callable[[Any], bool]


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and least <= value <= most


# In the request's order of precedence: the last one that is given counts.
_HONOURED: tuple[tuple[str, str, _Check], ...] = (
    ("max_tokens", "max_new_tokens", lambda value: _whole(value, 1, _MOST_TOKENS)),
    ("max_completion_tokens", "max_new_tokens", lambda value: _whole(value, 1, _MOST_TOKENS)),
    ("min_tokens", "min_new_tokens", lambda value: _whole(value, 0, _MOST_TOKENS)),
    ("temperature", "temperature", lambda value: _number(value, 0, _HOTTEST)),
    ("top_p", "top_p", lambda value: _number(value, 0.01, 1)),
    ("seed", "seed", lambda value: _whole(value, -_SEEDS, _SEEDS - 1)),
)


def options(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of `records.Request` that a body's options make.

    Raises:
        DocumentError: ``request_body``, one has the wrong type or is out of bounds;
            ``request_option``, one is asked for that cannot be had, or is not known.
    """
    honoured = {name for name, _, _ in _HONOURED}
    for name in body.keys() - honoured - _KNOWN - _IDLE:
        value = body[name]
        if value is not None and not any(_same(value, one) for one in _NEUTRAL.get(name, ())):
            raise DocumentError("request_option")
    made: dict[str, Any] = {}
    for name, field, right in _HONOURED:
        value = body.get(name)
        if value is not None and not right(value):
            raise DocumentError("request_body")
        if value is not None:
            made[field] = value
    return made


def _same(value: Any, neutral: Any) -> bool:
    """Equal, where true is no 1 and false no 0."""
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)


def schema_block(body: dict[str, Any]) -> str:
    """The `output:` block of a body's `response_format`, in JSON; empty for free text.

    Raises:
        DocumentError: ``request_body``, it is no object; ``request_format``, it is of another
            type than ``text`` and ``json_schema``.
    """
    wanted = body.get("response_format")
    if wanted is None:
        return ""
    if not isinstance(wanted, dict):
        raise DocumentError("request_body")
    if wanted.get("type") == "text":
        return ""
    about = wanted.get("json_schema")
    schema = about.get("schema") if isinstance(about, dict) else None
    if wanted.get("type") != "json_schema" or not isinstance(schema, dict):
        raise DocumentError("request_format")
    return json.dumps({**schema, "$schema": _DRAFT})


def contract(block: str, text: str) -> Contract:
    """The contract of a `schema_block`, for an answer about this text.

    Raises:
        DocumentError: ``request_format``, the schema cannot be decoded.
    """
    from medgemma_cli import contracts, quoting

    quotable = quoting.is_quotable(text)
    if not block:
        return Contract(kind="text", quotable=quotable)
    try:
        schema = json.loads(block)
        if _unfolded(schema, schema.get("$defs"), {}) > _MOST_VALUES:
            raise DocumentError("request_format")
        return contracts.contract(schema, quotable=quotable)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DocumentError("request_format") from None


def _unfolded(node: Any, definitions: Any, known: dict[str, int]) -> int:
    """How many values a schema has once its references are followed, which may double and double.

    Args:
        known: of definitions that were met; one that is in itself is refused elsewhere.
    """
    if isinstance(node, list):
        return sum(_unfolded(item, definitions, known) for item in node)
    if not isinstance(node, dict):
        return 1
    count = 1
    for name, value in node.items():
        if name == "$ref" and isinstance(value, str) and isinstance(definitions, dict):
            defined = value.removeprefix("#/$defs/")
            if defined not in known:
                known[defined] = 0
                known[defined] = _unfolded(definitions.get(defined), definitions, known)
            count += known[defined]
        else:
            count += _unfolded(value, definitions, known)
    return count
