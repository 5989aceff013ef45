"""What a contract's fields may hold, and contracts with fewer of them. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from medgemma_cli import contracts, decoding
from medgemma_cli.records import Contract

Node = dict[str, Any]


def fields_of(contract: Contract) -> Iterator[tuple[str, Node]]:
    """Every field of a structured answer, with its JSON Schema."""
    root = decoding.schema(contract.json_schema)
    for name, given in root["properties"].items():
        yield name, decoding.resolve(given, root)


def is_list(node: Node) -> bool:
    """Whether a field is a list."""
    return node.get("type") == "array"


def words(node: Node) -> list[Any]:
    """The words that may stand in a kind's place ("not stated")."""
    found: list[Any] = []
    for option in node.get("anyOf", []):
        found += [option["const"]] if "const" in option else option.get("enum", [])
        found += [None] if option.get("type") == "null" else []
    return found


def has_quote(contract: Contract, node: Node) -> bool:
    """Whether there is evidence in a field."""
    root = decoding.schema(contract.json_schema)
    return _has_quote(node, root)


def _has_quote(node: Node, root: Node) -> bool:
    node = decoding.resolve(node, root)
    below = [*node.get("properties", {}).values(), *node.get("anyOf", [])]
    below += [node["items"]] if "items" in node else []
    return node.get("format") == "quote" or any(_has_quote(one, root) for one in below)


def narrowed(contract: Contract, asked: dict[str, list[str]]) -> Contract:
    """The fields that are still to be written; of those with options, which it is to be."""
    block = json.loads(contract.block)
    if "$schema" in block:
        kinds = {n: {"enum": o} if o else block["properties"][n] for n, o in asked.items()}
        closed = {"properties": kinds, "required": list(kinds)}
        block = {**block, **closed}
    else:
        block = {name: " | ".join(o) if o else block[name] for name, o in asked.items()}
    decide = {name: rule for name, rule in _rules(contract).items() if name in asked}
    return contracts.contract(block, quotable=contract.quotable, decide=decide)


def unquotable(contract: Contract) -> Contract:
    """The contract of a part of which nothing can be quoted."""
    if contract.kind == "text" or not contract.quotable:
        return contract
    decide = _rules(contract)
    return contracts.contract(json.loads(contract.block), quotable=False, decide=decide)


def _rules(contract: Contract) -> dict[str, Any]:
    root = decoding.schema(contract.json_schema)
    named = root["properties"].items()
    return {name: node["x-decide"] for name, node in named if "x-decide" in node}
