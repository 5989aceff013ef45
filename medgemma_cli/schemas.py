"""A JSON Schema file → Python types: the part of JSON Schema that can be decoded.

Objects are closed and their properties all required. Strings are lines of text with bounds, a
`format` of ``date``, or of ``quote`` (it must stand in the document). Everything else is refused
when the template loads, by the keyword's name: a keyword passed over would be a promise broken.
"""

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
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum"},
    "number": set(),
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
        self._definitions: Node = root.get("$defs", {})
        self._quotable = quotable
        self._inside: list[str] = []

    def of(self, node: Any, name: str) -> Any:
        """The type of a node.

        Raises:
            ValueError: it cannot be decoded; the message names the keyword.
        """
        if not isinstance(node, dict):
            raise ValueError("a JSON Schema node is an object")
        if "$ref" in node:
            return self._reference(str(node["$ref"]), name)
        used = set(node) - _ANNOTATIONS
        if used & {"enum", "const"}:
            _refuse(used - {"enum", "const", "type"})
            return Literal[tuple(node.get("enum", [node.get("const")]))]
        if "anyOf" in used:
            _refuse(used - {"anyOf"})
            return reduce(or_, [self.of(option, name) for option in node["anyOf"]])
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in _KEYWORDS:
            raise ValueError(f"a node's type is one of {', '.join(_KEYWORDS)}")
        _refuse(used - _KEYWORDS[kind] - {"type"})
        if kind == "object":
            return self._object(node, name)
        if kind == "array":
            least = int(node.get("minItems", 0))
            most = int(node.get("maxItems", max(kinds.LIST_ITEMS, least)))
            return kinds.listed(self.of(node.get("items"), f"{name}_item"), least, most)
        return _string(node) if kind == "string" else _plain(kind, node)

    def _reference(self, reference: str, name: str) -> Any:
        place = re.fullmatch(r"#/\$defs/([^/]+)", reference)
        if place is None or place[1] not in self._definitions:
            raise ValueError("a $ref points into #/$defs of the same file")
        if place[1] in self._inside:
            raise ValueError("a $ref to what it is in cannot be decoded")
        self._inside.append(place[1])
        made = self.of(self._definitions[place[1]], f"{name}_{place[1]}")
        self._inside.pop()
        return made

    def _object(self, node: Node, name: str) -> Any:
        fields: Node = node.get("properties", {})
        if node.get("additionalProperties", False) is not False:
            raise ValueError("objects are closed: additionalProperties is false")
        if set(node.get("required", fields)) != set(fields):
            raise ValueError("all properties are required; allow null or a word in place of a gap")
        made = {key: self.of(below, f"{name}_{key}") for key, below in fields.items()}
        return kinds.closed(made, name, quotable=self._quotable)


def _string(node: Node) -> Any:
    if "format" in node:
        if node["format"] not in ("quote", "date"):
            raise ValueError("a string's format is quote or date")
        return kinds.SCALARS[node["format"]]
    longest = int(node.get("maxLength", kinds.TEXT_CHARACTERS))
    return kinds.text(longest, int(node.get("minLength", 1)))


def _plain(kind: str, node: Node) -> Any:
    if kind == "integer":
        bounds = {"least": node.get("minimum"), "most": node.get("maximum")}
        return kinds.whole(
            **{key: int(value) for key, value in bounds.items() if value is not None}
        )
    return None if kind == "null" else kinds.SCALARS[kind]


def _refuse(keywords: set[str]) -> None:
    if keywords:
        raise ValueError(f"the JSON Schema keyword {sorted(keywords)[0]!r} cannot be decoded")
