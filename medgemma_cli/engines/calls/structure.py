"""How a server is asked for an answer of a contract's shape, and what is tried when it refuses.

``grammar`` is the local engine's own grammar, quotes and all, for vLLM and SGLang with their
guidance backend; ``schema`` is the `response_format` of OpenAI's API; ``plain`` is that schema
without the keywords that only some servers know; ``none`` tells the schema in words. Whatever is
asked, the answer is judged by `retrying`: servers may pass over what they do not know.
"""

import copy
import json
from typing import Any, Literal

from medgemma_cli import decoding
from medgemma_cli.engines import lark
from medgemma_cli.engines.calls.wording import CONTROL
from medgemma_cli.records import Prompt

Level = Literal["grammar", "schema", "plain", "none"]
LEVELS: tuple[Level, ...] = ("grammar", "schema", "plain", "none")

_OURS = ("x-decide", "format", "title", "description", "default")
_BOUNDS = (
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
)


def lower(level: Level) -> Level | None:
    """What is tried after a level was refused."""
    rest = LEVELS[LEVELS.index(level) + 1 :]
    return rest[0] if rest else None


def fields(prompt: Prompt, level: Level, maker: str) -> dict[str, Any]:
    """What goes into the request for the shape of its answer.

    Args:
        maker: what the server calls itself (``owned_by``): SGLang names the field differently.

    Raises:
        ValueError: there is no grammar for this contract and document.
    """
    if prompt.contract.kind == "text" or level == "none":
        return {}
    schema = decoding.schema(prompt.contract.json_schema)
    if level == "grammar":
        text = lark.grammar(schema, prompt.document, CONTROL)
        return {"ebnf": text} if maker == "sglang" else {"structured_outputs": {"grammar": text}}
    # Our own server knows our own words: quotes are locked there, too.
    own = maker == "medgemma" and level == "schema"
    bare = schema if own else plain(schema, bounds=level == "schema")
    shape = {"name": "answer", "strict": True, "schema": bare}
    return {"response_format": {"type": "json_schema", "json_schema": shape}}


def words(prompt: Prompt, level: Level) -> str:
    """What is added to the last message where nothing but words can say the shape."""
    if prompt.contract.kind == "text" or level != "none":
        return ""
    schema = json.dumps(
        plain(decoding.schema(prompt.contract.json_schema), bounds=True), ensure_ascii=False
    )
    return f"\n\nAnswer with JSON of this JSON Schema alone, without a code fence: {schema}"


def plain(schema: dict[str, Any], *, bounds: bool) -> dict[str, Any]:
    """A schema without this project's own words and, without `bounds`, without any bounds."""
    dropped = (*_OURS, *(() if bounds else _BOUNDS))
    made: dict[str, Any] = _without(copy.deepcopy(schema), dropped, names=False)
    return made


def _without(node: Any, dropped: tuple[str, ...], *, names: bool) -> Any:
    """A node less some keywords; a field may have a keyword's name (`names`: these are fields)."""
    if isinstance(node, list):
        return [_without(item, dropped, names=False) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value
        if key in ("enum", "const", "required") and not names
        else _without(value, dropped, names=key in ("properties", "$defs") and not names)
        for key, value in node.items()
        if names or key not in dropped
    }
