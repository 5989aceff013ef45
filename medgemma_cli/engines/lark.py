"""A contract's JSON Schema and the document's text → an llguidance grammar (its dialect of Lark).

Nothing but compact JSON of the schema matches: fields in order, lists and texts within their
bounds, and, where the schema says ``"format": "quote"`` (or another of `kinds.QUOTED`), a quote of
the document, or of the earlier document of a pair, as `quoting` defines it. In the model's own
words no control character and no escape but of quotation marks and backslashes is written.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from medgemma_cli import kinds, quoting
from medgemma_cli.kinds import DIGITS, TEXT_PATTERN, VALUE_PATTERN
from medgemma_cli.records import Which

_CHARACTER = r'([^"\\\x00-\x1F\x7F]|\\["\\])'
_FIRST = {TEXT_PATTERN: r"[\p{L}\p{N}]", VALUE_PATTERN: r'([^ "\\\x00-\x1F\x7F]|\\["\\])'}
_INTEGER = f"-?(0|[1-9][0-9]{{0,{DIGITS - 1}}})"
_NUMBER = rf"/{_INTEGER}(\.[0-9]{{1,6}})?/"
_WIDEST = 10**DIGITS - 1


def grammar(
    schema: dict[str, Any],
    document: str,
    barred: re.Pattern[str] | None = None,
    prior: str = "",
) -> str:
    """The grammar's text, for `LLMatcher.grammar_from_lark`.

    Args:
        barred: what no quote may have in it, such as the names of control tokens.
        prior: the earlier document, of a pair.

    Raises:
        ValueError: the schema has a keyword that is not decoded here, or wants a quote of a text
            of which nothing can be quoted.
    """
    maker = _Maker(schema, {"current": document, "prior": prior}, barred)
    start = maker.rule(schema)
    return "\n".join([f"start: {start}", *maker.lines, ""])


class _Maker:
    """Collects rules and terminals while it walks a schema."""

    def __init__(
        self, root: dict[str, Any], texts: dict[Which, str], barred: re.Pattern[str] | None
    ) -> None:
        self._root = root
        self._barred = barred
        self._texts = texts
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
        if node.get("format") in kinds.QUOTED:
            return f'"\\"" {self._quote(kinds.QUOTED[node["format"]])} "\\""'
        pattern = node["pattern"]
        if pattern in _FIRST:
            least, most = node.get("minLength", 1), node["maxLength"]
            rest = f"{_CHARACTER}{{{max(least - 1, 0)},{most - 1}}}"
            name = f"{'TEXT' if pattern == TEXT_PATTERN else 'VALUE'}_{least}_{most}"
            return f'"\\"" {self._terminal(name, f"/{_FIRST[pattern]}{rest}/")} "\\""'
        # Other patterns (a date's) are of plain characters, which JSON does not escape.
        pattern = pattern.removeprefix("^").removesuffix("$").replace("/", r"\/")
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

    def _is_barred(self, piece: str) -> bool:
        return piece == quoting.BARRIER or bool(self._barred and self._barred.search(piece))

    def _quote(self, which: Which) -> str:
        name = "QUOTE" if which == "current" else "PRIOR_QUOTE"
        if name in self._names:
            return name
        pieces = quoting.chunks(self._texts[which])
        if not pieces:
            raise ValueError("nothing of the document can be quoted")
        if len(pieces) == 1:
            return self._terminal(name, _literal(escaped(pieces[0])))
        written = [
            quoting.BARRIER if self._is_barred(piece) else escaped(piece) for piece in pieces
        ]
        chunks = json.dumps({"substring_chunks": written}, ensure_ascii=False)
        self._terminal(f"{name}_PART", f"%regex {chunks}")
        bounds = " | ".join(f"/{bound}/" for bound in quoting.BOUNDS)
        self._terminal("BOUNDS", bounds)
        return self._terminal(name, f"{name}_PART & BOUNDS")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def escaped(text: str) -> str:
    """A text as it stands between the quotes of a JSON string."""
    return _compact(text)[1:-1]


def _literal(text: str) -> str:
    """A Lark string that matches a text."""
    # Lark's lexer takes every character but this one as it is.
    return _compact(text).replace("\x7f", "\\u007f")
