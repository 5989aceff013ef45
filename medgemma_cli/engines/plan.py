"""What of a contract the writing of an answer needs to know, by the place in its schema."""

from typing import Any

from medgemma_cli import decoding, kinds
from medgemma_cli.engines.grammar import Compiler

# A text up to here may be a value: cut short, 125 would read 1.
_LONGEST_VALUE = 60
_NUMBER = 18  # tokens of the longest number, a character each, and its end


class Plan:
    """The places of a schema, as `JsonState.path` names them.

    Attributes:
        choices: the options of each choice, to be scored.
        rules: how a choice is decided by its probabilities.
        quotes: the places of quotes.
        texts: the places of texts of the model's own; short ones (values) are not among them.
        slack: the tokens that words in a kind's place may take over what stands there else.
    """

    def __init__(self, schema: str, compiler: Compiler) -> None:
        self.choices: dict[str, list[str]] = {}
        self.rules: dict[str, Any] = {}
        self.quotes: set[str] = set()
        self.texts: set[str] = set()
        self.slack = 4
        self._root = decoding.schema(schema)
        self._compiler = compiler
        self._twice: set[str] = set()
        self._walk(self._root, "", 1)

    def _walk(self, node: dict[str, Any], path: str, times: int) -> None:
        node = decoding.resolve(node, self._root)
        if "anyOf" in node:
            words = [option for option in node["anyOf"] if "const" in option or "enum" in option]
            for option in node["anyOf"]:
                if option not in words:
                    self._walk(option, path, times)
            options = [str(w) for word in words for w in word.get("enum", [word.get("const")])]
            words_take = max((len(self._compiler.tokens(o)) for o in options), default=0)
            numbers = any(o.get("type") in ("integer", "number") for o in node["anyOf"])
            self.slack += times * max(words_take, _NUMBER * numbers)
        elif "properties" in node:
            for name, below in node["properties"].items():
                self._walk(below, f"{path}.{name}" if path else name, times)
        elif "items" in node:
            self._walk(node["items"], f"{path}[]", times * max(node["minItems"], 1))
        else:
            self._leaf(node, path)

    def _leaf(self, node: dict[str, Any], path: str) -> None:
        options = node.get("enum", [])
        if options and all(isinstance(option, str) for option in options):
            # Two alternatives may have a choice at the same place: then neither can be scored.
            if self.choices.setdefault(path, options) != options:
                self._twice.add(path)
            self.rules[path] = node.get("x-decide")
        elif node.get("format") in kinds.QUOTED:
            self.quotes.add(path)
        elif node.get("maxLength", 0) > _LONGEST_VALUE:
            self.texts.add(path)

    def options(self, path: str) -> list[str] | None:
        """The options of the choice at a place, where there is one."""
        return None if path in self._twice else self.choices.get(path)
