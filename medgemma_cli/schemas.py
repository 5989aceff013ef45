"""A JSON Schema file → Python types: the part of JSON Schema that can be decoded.

Objects are closed and their properties all required. Strings are lines of text with bounds, a
`format` of ``date``, or of ``quote`` (it must stand in the document), or one of the patterns of
`kinds`, so that the schema of a template's own contract can be read back. Everything else is
refused when the template loads, by the keyword's name: a keyword passed over would be a promise
broken.
"""

import json
import re
from functools import reduce
from operator import or_
from typing import Any, Literal

from medgemma_cli import kinds

Node = dict[str, Any]

_ANNOTATIONS = {"$schema", "$id", "$defs", "$comment", "title", "description", "examples"}
_KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format", "pattern"},
    "integer": {"minimum", "maximum"},
    "number": {"exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
}


class SchemaKinds:
    """The types of a schema's nodes.

    Args:
        root: the whole schema.
        quotable: whether there is a text to quote; if not, quotes are left out.
    """

    def __init__(self, root: Node, *, quotable: bool) -> None:
        self._definitions = _mapping(root, "$defs")
        self._quotable = quotable
        self._inside: list[str] = []

    def of(self, node: Any, name: str) -> Any:
        """The type of a node.

        Raises:
            ValueError: it cannot be decoded; the message names the keyword.
        """
        if not isinstance(node, dict):
            raise ValueError("a JSON Schema node is an object")
        used = set(node) - _ANNOTATIONS
        for keyword, make in (
            ("$ref", self._reference),
            ("enum", _choice),
            ("const", _choice),
            ("anyOf", self._any),
        ):
            if keyword in used:
                _refuse(used - {keyword, "type" if keyword in ("enum", "const") else keyword})
                return make(node, name)
        _refuse(used - {"type"}.union(*_KEYWORDS.values()))
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in _KEYWORDS:
            raise ValueError(f"a node's type is one of {', '.join(_KEYWORDS)}")
        _refuse(used - _KEYWORDS[kind] - {"type"})
        if kind == "object":
            return self._object(node, name)
        if kind == "array":
            least = _count(node, "minItems", 0)
            most = _count(node, "maxItems", max(kinds.LIST_ITEMS, least))
            return kinds.listed(self.of(node.get("items"), f"{name}_item"), least, most)
        return _string(node) if kind == "string" else _plain(kind, node)

    def _any(self, node: Node, name: str) -> Any:
        options = node["anyOf"]
        if not isinstance(options, list) or not options:
            raise ValueError("anyOf is a list of nodes")
        if len({json.dumps(option, sort_keys=True) for option in options}) < len(options):
            raise ValueError("anyOf has the same node twice")
        return reduce(or_, [self.of(option, f"{name}_{i}") for i, option in enumerate(options)])

    def _reference(self, node: Node, name: str) -> Any:
        place = re.fullmatch(r"#/\$defs/([^/]+)", str(node["$ref"]))
        if place is None or place[1] not in self._definitions:
            raise ValueError("a $ref points into #/$defs of the same file")
        if place[1] in self._inside:
            raise ValueError("a $ref to what it is in cannot be decoded")
        self._inside.append(place[1])
        made = self.of(self._definitions[place[1]], f"{name}_{place[1]}")
        self._inside.pop()
        return made

    def _object(self, node: Node, name: str) -> Any:
        fields = _mapping(node, "properties")
        required = node.get("required", list(fields))
        if node.get("additionalProperties", False) is not False:
            raise ValueError("objects are closed: additionalProperties is false")
        if not isinstance(required, list) or sorted(map(str, required)) != sorted(fields):
            raise ValueError("all properties are required; allow null or a word in place of a gap")
        made = {key: self.of(below, f"{name}_{key}") for key, below in fields.items()}
        return kinds.closed(made, name, quotable=self._quotable)


def _choice(node: Node, name: str) -> Any:
    options = node["enum"] if "enum" in node else [node["const"]]
    if not isinstance(options, list) or not options:
        raise ValueError("enum is a list of values")
    plain = {"string": str, "integer": int, "boolean": bool, "null": type(None)}
    wanted = [plain.get(str(node["type"]))] if "type" in node else list(plain.values())
    if any(type(option) not in wanted for option in options):
        raise ValueError("the values of enum and const are strings, integers, booleans or null")
    kinds.check_options([option for option in options if isinstance(option, str)])
    return Literal[tuple(options)]


def _string(node: Node) -> Any:
    pattern = node.get("pattern", kinds.VALUE_PATTERN)
    if pattern == kinds.DATE_PATTERN:
        _refuse(set(node) & {"minLength", "maxLength", "format"})
        return kinds.SCALARS["date"]
    if pattern not in (kinds.VALUE_PATTERN, kinds.TEXT_PATTERN):
        _refuse({"pattern"})
    if "format" in node:
        _refuse(set(node) & {"pattern"})
        if node["format"] not in ("date", *kinds.QUOTED):
            raise ValueError("a string's format is quote or date, or, of pairs, another quote's")
        _refuse(set(node) & {"minLength", "maxLength"})
        return kinds.SCALARS[node["format"]]
    longest = _count(node, "maxLength", kinds.TEXT_CHARACTERS)
    return kinds.text(longest, _count(node, "minLength", 1), pattern)


def _plain(kind: str, node: Node) -> Any:
    # Numbers have the bounds that their grammar has, and no others.
    for keyword, sign in (("exclusiveMinimum", -1), ("exclusiveMaximum", 1)):
        if node.get(keyword, sign * 10**kinds.DIGITS) != sign * 10**kinds.DIGITS:
            _refuse({keyword})
    if kind == "integer":
        return kinds.whole(_number(node, "minimum"), _number(node, "maximum"))
    return type(None) if kind == "null" else kinds.SCALARS[kind]


def _count(node: Node, keyword: str, default: int) -> int:
    value = node.get(keyword, default)
    if type(value) is not int or not 0 <= value <= kinds.LONGEST:
        raise ValueError(f"{keyword} is a whole number from 0 to {kinds.LONGEST}")
    return value


def _number(node: Node, keyword: str) -> int | None:
    value = node.get(keyword)
    if value is not None and type(value) is not int:
        raise ValueError(f"{keyword} is a whole number")
    return value


def _mapping(node: Node, keyword: str) -> Node:
    value = node.get(keyword, {})
    if not isinstance(value, dict):
        raise ValueError(f"{keyword} maps names to nodes")
    return value


def _refuse(keywords: set[str]) -> None:
    if keywords:
        raise ValueError(f"the JSON Schema keyword {sorted(keywords)[0]!r} cannot be decoded")
