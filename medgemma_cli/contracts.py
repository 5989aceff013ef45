"""A template's `output:` block, or a JSON Schema file → pydantic model → `Contract`.

The notation is for people (docs/templates.md); the JSON Schema is what engines decode inside.
It has two annotations of our own: ``"format": "quote"`` for a string that must stand in the
document (`kinds.QUOTED` has the others, of pairs), and ``"x-decide"`` for a choice that is decided
by its probabilities.
"""

import json
import re
from functools import lru_cache, reduce
from operator import or_
from typing import Any, Literal

from pydantic import BaseModel

from medgemma_cli import kinds
from medgemma_cli.records import Contract
from medgemma_cli.schemas import SchemaKinds

OutputBlock = str | dict[str, Any]

# The evidence before the claim: what is written after a quote is conditioned on it.
_FINDINGS = {
    "finding": {"quote": "quote", "statement": "statement"},
    "new_finding": {"quote": "new_quote", "statement": "statement"},
    "resolved_finding": {"quote": "resolved_quote", "statement": "statement"},
    "unchanged_finding": {"prior_quote": "prior_quote", "quote": "quote", "statement": "statement"},
}
_KINDS = ("text", *_FINDINGS, *kinds.SCALARS)
_DEEPEST = 30
_RULE = {"positive", "negative", "threshold", "uncertain"}


class _Notation:
    """Kinds as a template writes them, as Python types.

    Args:
        quotable: whether there is a text to quote; if not, every `quote` is left out.
    """

    def __init__(self, *, quotable: bool) -> None:
        self._quotable = quotable

    def of(self, value: Any, name: str, *, item: bool = False) -> Any:
        """The type of a kind; a mapping becomes an object, a list of one kind a list."""
        if isinstance(value, list):
            return self._list(value, name)
        if isinstance(value, dict):
            fields = {key: self.of(kind, f"{name}_{key}") for key, kind in value.items()}
            return kinds.closed(fields, name, quotable=self._quotable)
        if not isinstance(value, str):
            raise ValueError("a kind is a word such as text, or a choice such as low | high")
        first, *others = options = [option.strip() for option in value.split("|")]
        kinds.check_options(options)
        if any(_is_kind(option) for option in others):
            raise ValueError("a kind comes before the words that may stand in its place")
        if others and not _is_kind(first):
            return Literal[tuple(options)]
        kind = self._scalar(first, name, item)
        return reduce(or_, [kind, Literal[tuple(others)]]) if others else kind

    def _scalar(self, value: str, name: str, item: bool) -> Any:
        if value in _FINDINGS:
            return self.of(_FINDINGS[value], name)
        if value == "text" and item:
            return kinds.text(kinds.ITEM_CHARACTERS, 4, kinds.TEXT_PATTERN)
        if value == "text":
            return kinds.text(kinds.TEXT_CHARACTERS, 8, kinds.TEXT_PATTERN)
        if match := re.fullmatch(r"text\(([1-9]\d{0,3})\)", value):
            return kinds.text(int(match[1]))
        if value not in kinds.SCALARS:
            raise ValueError(f"there is no kind called {value!r}; there are {', '.join(_KINDS)}")
        return kinds.SCALARS[value]

    def _list(self, value: list[Any], name: str) -> Any:
        least, most = int(value[:1] == ["finding"]), kinds.LIST_ITEMS
        if len(value) == 2 and (match := re.fullmatch(r"(\d{1,3})\.\.(\d{1,3})", str(value[1]))):
            least, most = int(match[1]), int(match[2])
        elif len(value) != 1:
            raise ValueError("a list names one kind, as in [text], and bounds, as in [text, 0..8]")
        return kinds.listed(self.of(value[0], name, item=True), least, most)


def _is_kind(option: str) -> bool:
    return re.sub(r"\(\d+\)$", "", option) in _KINDS


@lru_cache(maxsize=64)
def model(block: str, quotable: bool) -> type[BaseModel]:
    """The pydantic model of an `output:` block given as JSON.

    Raises:
        ValueError: the block is malformed.
    """
    value = json.loads(block)
    if "$schema" in value:
        made = SchemaKinds(value, quotable=quotable).of(value, "Output")
    else:
        made = _Notation(quotable=quotable).of(value, "Output")
    if not (isinstance(made, type) and issubclass(made, BaseModel)):
        raise ValueError("the schema's root is an object")
    return made


@lru_cache(maxsize=64)
def wants_quotes(block: str) -> bool:
    """Whether an `output:` block given as JSON has quotes, where there is a text to quote."""
    return bool(_formats(block) & set(kinds.QUOTED))


@lru_cache(maxsize=64)
def wants_pairs(block: str) -> bool:
    """Whether an `output:` block given as JSON has quotes that only a pair of documents has."""
    return bool(_formats(block) & kinds.PAIRED)


def _formats(block: str) -> set[str]:
    schema = json.dumps(model(block, True).model_json_schema())
    return set(re.findall(r'"format": "(\w+)"', schema))


def selects(block: str, name: str) -> bool:
    """Whether a field of an `output:` block given as JSON is a list that picks what matters.

    That is one without bounds of its own, as `[finding]`; a table, or a list that says how much it
    may hold, as `[text, 0..20]`, names all there is.
    """
    value = json.loads(block).get(name) if block else None
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)


def contract(
    block: OutputBlock, *, quotable: bool = True, decide: dict[str, Any] | None = None
) -> Contract:
    """The contract of an `output:` block: ``text``, a mapping of names to kinds, a JSON Schema.

    Args:
        quotable: whether the document has text to quote; without, findings are statements alone.
        decide: how choices are decided by their probabilities, by field.

    Raises:
        ValueError: the block is malformed; the message says how and quotes only the template.
    """
    if block == "text":
        if decide:
            raise ValueError("decide: a free text has no choices")
        return Contract(kind="text", quotable=quotable)
    if not isinstance(block, dict) or not block:
        raise ValueError("output is `text`, or a mapping of field names to kinds")
    _check_plain(block, 0)
    text = json.dumps(block)
    schema = model(text, quotable).model_json_schema()
    if not isinstance(decide or {}, dict):
        raise ValueError("decide is a mapping of fields to rules")
    for name, rule in (decide or {}).items():
        node = schema["properties"].get(name, {})
        node["x-decide"] = _rule(name, rule, node.get("enum", []))
    schema_text = json.dumps(schema, ensure_ascii=False)
    return Contract(kind="json", json_schema=schema_text, block=text, quotable=quotable)


def of_schema(schema: dict[str, Any], *, quotable: bool = True) -> Contract:
    """The contract of a JSON Schema, perhaps one of our own with its rules in it.

    Raises:
        ValueError: it cannot be decoded; the message names the keyword.
    """
    _check_plain(schema, 0)
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        raise ValueError("the schema's root is an object")
    rules = {
        name: node["x-decide"]
        for name, node in properties.items()
        if isinstance(node, dict) and "x-decide" in node
    }
    kept = {
        name: {word: value for word, value in node.items() if word != "x-decide"}
        if isinstance(node, dict)
        else node
        for name, node in properties.items()
    }
    block = {
        **schema,
        "properties": kept,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }
    return contract(block, quotable=quotable, decide=rules)


def _check_plain(value: Any, depth: int) -> None:
    """Nothing but what JSON has, and not nested deeper than anybody reads."""
    if depth > _DEEPEST:
        raise ValueError("output is nested too deeply")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("not a field name: names are plain words, in quotes if need be")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)
    elif not isinstance(value, str | int | float | None):
        raise ValueError("a kind is a word such as text, or a choice such as low | high")


def _rule(name: str, rule: Any, options: list[str]) -> dict[str, Any]:
    """A rule with its numbers read; they may be texts, as a template's front matter has them."""
    if not isinstance(rule, dict) or not {"positive", "negative"} <= set(rule) <= _RULE:
        raise ValueError(f"decide names {', '.join(sorted(_RULE))}; the first two must be there")
    if bad := [key for key in ("positive", "negative") if rule[key] not in options]:
        raise ValueError(f"decide: {bad[0]} is no option of {name!r}")
    if rule["positive"] == rule["negative"]:
        raise ValueError("decide: positive and negative are the same option")
    try:
        threshold = float(rule.get("threshold", 0.5))
        low, high = map(float, rule.get("uncertain", [threshold, threshold]))
    except (TypeError, ValueError):
        raise ValueError("decide: threshold is a number, uncertain a list of two") from None
    if not 0 <= low <= threshold <= high <= 1:
        raise ValueError("decide: 0 ≤ uncertain's low ≤ threshold ≤ uncertain's high ≤ 1")
    read = {"threshold": threshold, "uncertain": [low, high]}
    return {"positive": rule["positive"], "negative": rule["negative"], **read}
