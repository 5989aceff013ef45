"""A contract's JSON Schema and the document's text → an llguidance grammar (its dialect of Lark).

Nothing but compact JSON of the schema matches: fields in order, lists and texts within their
bounds, and, where the schema says ``"format": "quote"``, a quote of the document as `quoting`
defines it. Control characters and escapes other than of quotes and backslashes are not written.
"""

import json
from collections.abc import Callable
from typing import Any

from medgemma_cli import quoting
from medgemma_cli.kinds import DIGITS, TEXT_PATTERN, VALUE_PATTERN

_CHARACTER = r'([^"\\\x00-\x1F\x7F]|\\["\\])'
_FIRST = r"[\p{L}\p{N}]"
_SIGN = r"[<>≤≥±~+\-]"
_INTEGER = f"-?(0|[1-9][0-9]{{0,{DIGITS - 1}}})"
_NUMBER = rf"/{_INTEGER}(\.[0-9]{{1,6}})?/"
_WIDEST = 10**DIGITS - 1


def grammar(schema: dict[str, Any], document: str) -> str:
    """The grammar's text, for `LLMatcher.grammar_from_lark`.

    Raises:
        ValueError: the schema has a keyword that is not decoded here, or wants a quote of a text
            of which nothing can be quoted.
    """
    maker = _Maker(schema, document)
    start = maker.rule(schema)
    return "\n".join([f"start: {start}", *maker.lines, ""])


class _Maker:
    """Collects rules and terminals while it walks a schema."""

    def __init__(self, root: dict[str, Any], document: str) -> None:
        self._root = root
        self._document = document
        self._names: dict[str, str] = {}
        self.lines: list[str] = []

    def rule(self, node: dict[str, Any]) -> str:
        """The right-hand side that a node stands for; shared ones become rules of their own."""
        if "$ref" in node:
            return self._named(node["$ref"])
        if "enum" in node or "const" in node:
            options = node["enum"] if "enum" in node else [node["const"]]
            return "(" + " | ".join(_literal(_compact(option)) for option in options) + ")"
        if "anyOf" in node:
            return "(" + " | ".join(self.rule(option) for option in node["anyOf"]) + ")"
        kinds: dict[Any, Callable[[dict[str, Any]], str]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": lambda _: self._terminal("NUMBER", _NUMBER),
            "boolean": lambda _: '("true" | "false")',
            "null": lambda _: '"null"',
        }
        if node.get("type") not in kinds:
            raise ValueError("the schema has a node of a type that cannot be decoded")
        return kinds[node.get("type")](node)

    def _named(self, reference: str) -> str:
        if reference not in self._names:
            self._names[reference] = f"r{len(self._names)}"
            node = self._root["$defs"][reference.rpartition("/")[2]]
            self.lines.append(f"{self._names[reference]}: {self.rule(node)}")
        return self._names[reference]

    def _object(self, node: dict[str, Any]) -> str:
        parts, before = [], "{"
        for name, value in node["properties"].items():
            parts += [_literal(f"{before}{_compact(name)}:"), self.rule(value)]
            before = ","
        return " ".join([*parts, _literal("}")])

    def _array(self, node: dict[str, Any]) -> str:
        item, least, most = self.rule(node["items"]), node["minItems"], node["maxItems"]
        more = f'("," {item}){{{max(least - 1, 0)},{most - 1}}}'
        items = f"{item} {more}" if most > 1 else item
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _string(self, node: dict[str, Any]) -> str:
        if node.get("format") == "quote":
            return f'"\\"" {self._quote()} "\\""'
        least, most = node.get("minLength", 1), node.get("maxLength", 1)
        if node["pattern"] == TEXT_PATTERN:
            name = f"TEXT_{least}_{most}"
            return f'"\\"" {self._terminal(name, f"/{_text(least, most)}/")} "\\""'
        if node["pattern"] == VALUE_PATTERN:
            signed = f"|{_SIGN}{_text(least - 1, most - 1)}" if most > 1 else ""
            value = f"/{_text(least, most)}{signed}/"
            return f'"\\"" {self._terminal(f"VALUE_{least}_{most}", value)} "\\""'
        # Other patterns (a date's) are of plain characters, which JSON does not escape.
        pattern = node["pattern"].removeprefix("^").removesuffix("$").replace("/", r"\/")
        return f'"\\"" {self._terminal(f"PATTERN_{len(self.lines)}", f"/{pattern}/")} "\\""'

    def _integer(self, node: dict[str, Any]) -> str:
        least, most = node["minimum"], node["maximum"]
        if (least, most) == (-_WIDEST, _WIDEST):
            return self._terminal("INTEGER", f"/{_INTEGER}/")
        name = f"integer_{len(self.lines)}"
        bounds = {"type": "integer", "minimum": least, "maximum": most}
        return self._terminal(name, f"%json {json.dumps(bounds)}")

    def _terminal(self, name: str, body: str) -> str:
        if name not in self._names:
            self._names[name] = name
            self.lines.append(f"{name}: {body}")
        return name

    def _quote(self) -> str:
        if "QUOTE" in self._names:
            return "QUOTE"
        pieces = quoting.chunks(self._document)
        if not pieces:
            raise ValueError("nothing of the document can be quoted")
        if len(pieces) == 1:
            return self._terminal("QUOTE", _literal(_escaped(pieces[0])))
        escaped = [piece if piece == quoting.BARRIER else _escaped(piece) for piece in pieces]
        chunks = json.dumps({"substring_chunks": escaped}, ensure_ascii=False)
        self._terminal("SUBSTRING", f"%regex {chunks}")
        bounds = " | ".join(f"/{bound}/" for bound in quoting.BOUNDS)
        self._terminal("BOUNDS", bounds)
        return self._terminal("QUOTE", "SUBSTRING & BOUNDS")


def _text(least: int, most: int) -> str:
    return f"{_FIRST}{_CHARACTER}{{{max(least - 1, 0)},{most - 1}}}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    """A text as it stands between the quotes of a JSON string."""
    return _compact(text)[1:-1]


def _literal(text: str) -> str:
    """A Lark string that matches a text."""
    return _compact(text)
