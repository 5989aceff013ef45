"""The kinds of values an output may have, as Python types for pydantic.

Their patterns and bounds are those of the decoding grammar: what it lets through, validates.
"""

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, create_model

from medgemma_cli.records import Which

# A text begins with a letter or digit and has no control characters: a base model left free
# starts with punctuation and stays there.
_REST = r"[^\u0000-\u001f\u007f]*$"
TEXT_PATTERN = rf"^[\p{{L}}\p{{N}}]{_REST}"
# A short one may be a value or a unit, which begins with anything: <5, ++, (3.5-5.0), %, /HPF.
VALUE_PATTERN = rf"^[^ \u0000-\u001f\u007f]{_REST}"
# ISO 8601, to the year, month or day; only days that exist (1900 to 2099).
DATE_PATTERN = (
    r"^((19|20)[0-9]{2}(-(0[1-9]|1[0-2]))?"
    r"|(19|20)[0-9]{2}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)"
    r"|(0[13578]|1[02])-31)"
    r"|((19|20)(0[48]|[2468][048]|[13579][26])|2000)-02-29)$"
)
DIGITS = 9
TEXT_CHARACTERS = 500
ITEM_CHARACTERS = 200
LIST_ITEMS = 5
LONGEST = 10_000
MOST_OPTIONS = 64
_STATEMENT_CHARACTERS = 160
_QUOTE_CHARACTERS = 20_000  # more than any quote of `quoting` has
_MOST_ITEMS = 100
_LIMIT = 10**DIGITS


def text(longest: int, shortest: int = 1, pattern: str = VALUE_PATTERN) -> Any:
    """A line of text, its bounds in characters."""
    if not 1 <= shortest <= longest <= LONGEST:
        raise ValueError("a text's least length is from 1 to its greatest, up to 10,000")
    constraints = StringConstraints(min_length=shortest, max_length=longest, pattern=pattern)
    return Annotated[str, constraints]


def whole(least: int | None = None, most: int | None = None) -> Any:
    """A whole number within bounds.

    Raises:
        ValueError: no number is within them, or they are wider than can be decoded.
    """
    low, high = 1 - _LIMIT if least is None else least, _LIMIT - 1 if most is None else most
    if not -_LIMIT < low <= high < _LIMIT:
        raise ValueError(f"an integer's minimum is under its maximum, both below 10^{DIGITS}")
    return Annotated[int, Field(ge=low, le=high)]


def check_options(options: list[str]) -> None:
    """Refuse options that could not be told apart, or not be read.

    Raises:
        ValueError: one is empty, stands twice or has a control character.
    """
    if "" in options or len(set(options)) < len(options):
        raise ValueError("a choice (enum) has an empty or repeated option")
    if len(options) > MOST_OPTIONS:
        raise ValueError(f"a choice (enum) has over {MOST_OPTIONS} options")
    if not all(option.isprintable() for option in options):
        raise ValueError("a choice (enum) has an option with a control character")


def listed(item: Any, least: int, most: int) -> Any:
    """A list of that many items.

    Raises:
        ValueError: the bounds make no sense, or are too wide to decode.
    """
    if not 0 <= least <= most <= _MOST_ITEMS or most == 0:
        raise ValueError(
            f"a list has a least and a most of items, the most from 1 to {_MOST_ITEMS}"
        )
    return Annotated[list[item], Field(min_length=least, max_length=most)]


def _quote(form: str) -> Any:
    bounds = StringConstraints(min_length=1, max_length=_QUOTE_CHARACTERS)
    return Annotated[str, bounds, WithJsonSchema({"type": "string", "format": form})]


QUOTED: dict[str, Which] = {
    "quote": "current",
    "prior_quote": "prior",
    "new_quote": "current",
    "resolved_quote": "prior",
}
"""The formats of quotes → the document of a pair that they are of; alone, it is the current one.

Those of what is new or resolved should not stand in the other document, too.
"""
PAIRED = frozenset(QUOTED) - {"quote"}
"""Those that a single document cannot have."""
_QUOTES = [_quote(form) for form in QUOTED]
SCALARS: dict[str, Any] = {
    "integer": whole(),
    "number": Annotated[float, Field(gt=-_LIMIT, lt=_LIMIT)],
    "boolean": bool,
    "date": Annotated[str, StringConstraints(pattern=DATE_PATTERN)],
    **{form: _quote(form) for form in QUOTED},
    "statement": text(_STATEMENT_CHARACTERS, 8, TEXT_PATTERN),
}


class _Object(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, protected_namespaces=(), allow_inf_nan=False
    )


def _quotes(kind: Any) -> bool:
    """Whether a kind is a quote, a list of them, or a quote with a word in its place."""
    if kind in _QUOTES:
        return True
    inside = get_args(kind)
    # An Annotated's first argument is its type, the rest are its bounds.
    return any(map(_quotes, inside[:1] if get_origin(kind) is Annotated else inside))


def closed(fields: dict[Any, Any], name: str, *, quotable: bool) -> type[BaseModel]:
    """An object of these fields, all of them there and no others; quotes only if `quotable`.

    Raises:
        ValueError: a name is not a plain identifier, or nothing is left.
    """
    for key in fields:
        if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
            raise ValueError(f"not a field name: {key!r}")
    kept = {key: kind for key, kind in fields.items() if quotable or not _quotes(kind)}
    if not kept:
        raise ValueError("an object has fields, and not quotes alone")
    # By alias: pydantic keeps some names, such as copy and json, for itself.
    made: dict[str, Any] = {
        f"field_{i}": (kind, Field(alias=key)) for i, (key, kind) in enumerate(kept.items())
    }
    return create_model(name, __base__=_Object, **made)
