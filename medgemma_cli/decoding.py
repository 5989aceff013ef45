"""Output contracts: a template's `output:` block → pydantic model → JSON Schema → output."""

import json
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from medgemma_cli.records import Contract

# A text begins with a letter or digit and has no control characters: a base model left free
# starts with punctuation and stays there.
_PATTERN = r"^[\p{L}\p{N}][^\u0000-\u001f\u007f]*$"
_TEXT_CHARACTERS = 500
_ITEM_CHARACTERS = 200
_STATEMENT_CHARACTERS = 160
_LIST_ITEMS = 5

OutputBlock = str | dict[str, Any]


class Output(NamedTuple):
    """A checked answer, and what was done to it (`repeats_dropped:…`, `at_bound:…`)."""

    fields: dict[str, Any]
    notes: tuple[str, ...]


class _Object(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


def _text(longest: int, shortest: int = 1) -> Any:
    constraints = StringConstraints(min_length=shortest, max_length=longest, pattern=_PATTERN)
    return Annotated[str, constraints]


_Statement = Annotated[
    str, StringConstraints(min_length=8, max_length=_STATEMENT_CHARACTERS, pattern=_PATTERN)
]


class ImageFinding(_Object):
    """A statement about a document that has no text to quote."""

    statement: _Statement


class Finding(_Object):
    """A statement, and the words of the document that carry it."""

    statement: _Statement
    quote: _Statement


_SCALARS: dict[str, Any] = {
    "text": _text(_TEXT_CHARACTERS, shortest=8),
    "integer": int,
    "number": float,
    "boolean": bool,
    "finding": Finding,
}


def _kind(value: Any, quotable: bool) -> Any:
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError("a list names one kind, as in [text]")
        is_text = value[0] == "text"
        item: Any = _text(_ITEM_CHARACTERS, shortest=4) if is_text else _kind(value[0], quotable)
        shortest = 1 if value[0] == "finding" else 0
        return Annotated[list[item], Field(min_length=shortest, max_length=_LIST_ITEMS)]
    if not isinstance(value, str):
        raise ValueError("a kind is a word such as text, or a choice such as low | high")
    options = tuple(option.strip() for option in value.split("|"))
    if len(options) > 1:
        if "" in options or len(set(options)) < len(options):
            raise ValueError("a choice has an empty or repeated option")
        return Literal[options]
    if value not in _SCALARS:
        raise ValueError(f"there is no kind called {value!r}; there are {', '.join(_SCALARS)}")
    return ImageFinding if value == "finding" and not quotable else _SCALARS[value]


@lru_cache(maxsize=32)
def _model(block: str, quotable: bool) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (_kind(kind, quotable), ...) for name, kind in json.loads(block).items()
    }
    return create_model("Output", __base__=_Object, **fields)


def contract(block: OutputBlock, *, quotable: bool = True) -> Contract:
    """The contract of an `output:` block: ``text``, or a mapping of field names to kinds.

    A document without text is not `quotable`: its findings are statements alone.

    Raises:
        ValueError: the block is malformed; the message says how and quotes only the template.
    """
    if block == "text":
        return Contract(kind="text")
    if not isinstance(block, dict) or not block:
        raise ValueError("output is `text`, or a mapping of field names to kinds")
    if bad := [name for name in block if not str(name).isidentifier() or name.startswith("_")]:
        raise ValueError(f"not a field name: {bad[0]!r}")
    schema = _model(json.dumps(block), quotable).model_json_schema()
    return Contract(kind="json", json_schema=json.dumps(schema, ensure_ascii=False))


def parse(block: str, text: str, *, quotable: bool = True) -> Output:
    """Validate what an engine wrote against an `output:` block, given as JSON.

    Raises:
        ValueError: it is no JSON of the contract. Carries no text of the answer.
    """
    if block == '"text"':
        return Output({"answer": text.strip()}, ())
    try:
        fields = _model(block, quotable).model_validate_json(text).model_dump()
    except (ValidationError, ValueError):
        # `from None`: pydantic's message quotes its input.
        raise ValueError("the answer does not fit the contract") from None
    return _tidy(fields)


def _tidy(fields: dict[str, Any]) -> Output:
    """Drop list items that repeat an earlier one; note those, and texts that fill their bound."""
    notes: list[str] = []
    for name, value in fields.items():
        if isinstance(value, list):
            kept = [item for i, item in enumerate(value) if item not in value[:i]]
            if len(kept) < len(value):
                notes.append(f"repeats_dropped:{name}:{len(value) - len(kept)}")
            fields[name] = kept
        for where, text in _texts(name, fields[name]):
            if len(text) >= _bound(where):
                notes.append(f"at_bound:{where}")
    return Output(fields, tuple(notes))


def _texts(where: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(where, value)]
    if isinstance(value, list):
        return [pair for i, item in enumerate(value) for pair in _texts(f"{where}[{i}]", item)]
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _texts(f"{where}.{key}", item)]
    return []


def _bound(where: str) -> int:
    if where.endswith((".statement", ".quote")):
        return _STATEMENT_CHARACTERS
    return _ITEM_CHARACTERS if where.endswith("]") else _TEXT_CHARACTERS
