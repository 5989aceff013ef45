"""What an engine wrote → validated output, how sure the model was of it, and what was decided."""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from medgemma_cli import choices, contracts
from medgemma_cli.records import Contract, Flag, Generation


class Output(NamedTuple):
    """A checked answer, and what was done to it (`repeats_dropped:…`, `at_bound:…`)."""

    fields: dict[str, Any]
    notes: tuple[str, ...] = ()


class Leaf(NamedTuple):
    """A value of a JSON text that is no object or list: where, and its characters with quotes."""

    path: str
    start: int
    end: int
    value: Any


def parse(contract: Contract, text: str) -> Output:
    """Validate what an engine wrote against its contract.

    Raises:
        ValueError: it is no JSON of the contract. Carries no text of the answer.
    """
    if contract.kind == "text":
        return Output({"answer": text.strip()})
    try:
        made = contracts.model(contract.block, contract.quotable).model_validate_json(text)
    except (ValidationError, ValueError):
        # `from None`: pydantic's message quotes its input.
        raise ValueError("the answer does not fit the contract") from None
    fields = made.model_dump()
    at_bound = [f"at_bound:{path}" for path in _full(schema(contract.json_schema), text)]
    return Output(fields, (*_drop_repeats(fields), *at_bound))


@lru_cache(maxsize=64)
def schema(text: str) -> dict[str, Any]:
    """A contract's JSON Schema, parsed."""
    value: dict[str, Any] = json.loads(text)
    return value


def resolve(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The node that a `$ref` stands for, or the node."""
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _drop_repeats(value: Any, where: str = "") -> Iterator[str]:
    """Take out list items that repeat an earlier one, or its quote; a grammar cannot forbid it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _drop_repeats(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        marks = [item["quote"] if _has_quote(item) else item for item in value]
        kept = [item for i, item in enumerate(value) if marks[i] not in marks[:i]]
        if len(kept) < len(value):
            yield f"repeats_dropped:{where}:{len(value) - len(kept)}"
        value[:] = kept


def _has_quote(item: Any) -> bool:
    return isinstance(item, dict) and "quote" in item


def quotes(contract: Contract, fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every quote of an output, with the path of what it belongs to (``key_findings[0]``)."""
    if contract.kind == "json":
        root = schema(contract.json_schema)
        yield from _quotes(root, root, fields, "")


def _quotes(
    node: dict[str, Any], root: dict[str, Any], value: Any, where: str
) -> Iterator[tuple[str, str]]:
    node = _meant(node, root, "properties" if isinstance(value, dict) else "items")
    if isinstance(value, dict):
        for name, item in value.items():
            below = resolve(node["properties"][name], root)
            if below.get("format") == "quote":
                yield where or name, item
            else:
                yield from _quotes(below, root, item, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            if node["items"].get("format") == "quote":
                yield f"{where}[{i}]", item
            else:
                yield from _quotes(node["items"], root, item, f"{where}[{i}]")


def leaves(text: str) -> Iterator[Leaf]:
    """Every value of a JSON object, in order, with its place in the text.

    Raises:
        ValueError: the text is no JSON.
    """
    yield from _Scanner(text).value("", 0)


class _Scanner:
    """Walks a JSON text; `json` itself does not tell where a value stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = json.JSONDecoder()
        self.end = 0

    def value(self, path: str, at: int) -> Iterator[Leaf]:
        at = self._skip(at)
        opening = self._text[at : at + 1]
        if opening not in ("{", "["):
            value, self.end = self._decoder.raw_decode(self._text, at)
            yield Leaf(path, at, self.end, value)
            return
        index, at = 0, self._skip(at + 1)
        while self._text[at : at + 1] not in ("}", "]", ""):
            inside = f"{path}[{index}]"
            if opening == "{":
                key, at = self._decoder.raw_decode(self._text, at)
                inside, at = f"{path}.{key}" if path else key, self._skip(at) + 1
            yield from self.value(inside, at)
            index, at = index + 1, self._skip(self.end)
            at = self._skip(at + 1) if self._text[at : at + 1] == "," else at
        self.end = at + 1

    def _skip(self, at: int) -> int:
        while self._text[at : at + 1] in (" ", "\n", "\r", "\t"):
            at += 1
        return at


def node_at(root: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema's node of a value, by its path as in ``results[0].flag``."""
    node = root
    for step in path.replace("[", ".[").split("."):
        if step.startswith("["):
            node = _meant(node, root, "items").get("items", {})
        else:
            node = _meant(node, root, "properties").get("properties", {}).get(step, {})
    return resolve(node, root)


def _meant(node: dict[str, Any], root: dict[str, Any], keyword: str) -> dict[str, Any]:
    """Of a node's alternatives the one that has the keyword; the node itself without any."""
    node = resolve(node, root)
    options = [resolve(option, root) for option in node.get("anyOf", [node])]
    return next((option for option in options if keyword in option), node)


def _full(root: dict[str, Any], text: str) -> Iterator[str]:
    for leaf in leaves(text):
        node = node_at(root, leaf.path)
        nodes = [n for n in node.get("anyOf", [node]) if "maxLength" in n]
        if nodes and isinstance(leaf.value, str) and len(leaf.value) >= nodes[0]["maxLength"]:
            yield leaf.path


def settle(
    contract: Contract, generation: Generation, output: Output
) -> tuple[Output, dict[str, Any] | None, list[Flag]]:
    """How sure the model was, and the choices that its probabilities decide.

    Returns:
        the output, a choice in its band of doubt now ``uncertain``; the record's `confidence`;
        a flag for each such choice.
    """
    if not generation.tokens and not generation.choices:
        return output, None, []
    if contract.kind == "text":
        whole = Leaf("answer", 0, len(generation.text), "")
        return output, choices.confidence({"answer": choices.of_text(generation, whole)}), []
    root = schema(contract.json_schema)
    scored = {score.at: score.options for score in generation.choices}
    fields: dict[str, dict[str, Any]] = {}
    flags: list[Flag] = []
    settled = dict(output.fields)
    for leaf in leaves(generation.text):
        node = node_at(root, leaf.path)
        if leaf.start in scored:
            options = scored[leaf.start]
            fields[leaf.path] = choices.of_choice(options, leaf.value)
            if rule := node.get("x-decide"):
                value, flag = choices.decide(leaf.path, options, rule)
                settled[leaf.path] = value
                flags += [flag] if flag else []
        elif "maxLength" in node and (measured := choices.of_text(generation, leaf)):
            fields[leaf.path] = measured
    return Output(settled, output.notes), choices.confidence(fields), flags
