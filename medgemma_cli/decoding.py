"""What an engine wrote → validated output, how sure the model was of it, and what was decided."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import ValidationError

from medgemma_cli import choices, contracts, kinds
from medgemma_cli.jsonplaces import Leaf, leaves, load
from medgemma_cli.records import Contract, Flag, Generation, Which


class Output(NamedTuple):
    """A checked answer, and what was done to it (`repeats_dropped:…`, `at_bound:…`).

    `dropped` has the paths, in what was written, of the items that were taken out; `full` those of
    tables that have as many rows as they may.
    """

    fields: dict[str, Any]
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    full: tuple[str, ...] = ()


def parse(contract: Contract, text: str) -> Output:
    """Validate what an engine wrote against its contract.

    Raises:
        ValueError: it is no JSON of the contract. Carries no text of the answer.
    """
    if contract.kind == "text":
        return Output({"answer": text.strip()})
    try:
        load(text)
        made = contracts.model(contract.block, contract.quotable).model_validate_json(text)
    except (ValidationError, ValueError):
        # `from None`: pydantic's message quotes its input.
        raise ValueError("the answer does not fit the contract") from None
    fields = made.model_dump(by_alias=True)
    root = schema(contract.json_schema)
    values = list(_values(root, root, fields, ""))
    lists = [
        path
        for path, node, value in values
        if isinstance(value, list) and len(value) >= node["maxItems"]
    ]
    full = [path for path, _, value in values if path in lists and _is_table(value)]
    dropped = tuple(_drop_repeats(fields))
    again = Counter(path.rpartition("[")[0] for path in dropped)
    notes = [f"repeats_dropped:{path}:{count}" for path, count in again.items()]
    texts = [
        path
        for path, node, value in _values(root, root, fields, "")
        if isinstance(value, str) and len(value) >= node.get("maxLength", math.inf)
    ]
    notes += [f"at_bound:{path}" for path in [*lists, *texts]]
    return Output(fields, tuple(notes), dropped, tuple(full))


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
        for i, item in enumerate(value):
            yield from _drop_repeats(item, f"{where}[{i}]")
        # As JSON: 1 and true are equal in Python.
        marks = [json.dumps(_evidence(item) if _is_finding(item) else item) for item in value]
        again = [i for i, mark in enumerate(marks) if mark in marks[:i]]
        yield from (f"{where}[{i}]" for i in again)
        value[:] = [item for i, item in enumerate(value) if i not in again]


def _is_table(value: list[Any]) -> bool:
    """Whether a list has rows: what is left out of it is missing, not merely less important."""
    return any(isinstance(item, dict) and not _is_finding(item) for item in value)


def _is_finding(item: Any) -> bool:
    """Two rows of a table may quote the same line; two findings say the same."""
    own = {"prior_quote", "quote", "statement"}
    return isinstance(item, dict) and {"statement"} <= set(item) <= own


def _evidence(finding: dict[str, Any]) -> Any:
    """What a finding quotes; of one that quotes nothing, all of it."""
    return [value for name, value in finding.items() if name != "statement"] or finding


class Quoted(NamedTuple):
    """A quote of an output, the path of what it belongs to (``key_findings[0]``), its format."""

    where: str
    text: str
    form: str

    @property
    def which(self) -> Which:
        """The document of a pair that it is to be of."""
        return kinds.QUOTED[self.form]


def quoted(contract: Contract, fields: dict[str, Any]) -> Iterator[Quoted]:
    """Every quote of an output."""
    if contract.kind == "json":
        root = schema(contract.json_schema)
        for path, node, value in _values(root, root, fields, ""):
            if node.get("format") in kinds.QUOTED:
                where = path if path.endswith("]") else path.rpartition(".")[0] or path
                yield Quoted(where, value, node["format"])


def quotes(contract: Contract, fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every quote of an output, with the path of what it belongs to."""
    yield from ((quote.where, quote.text) for quote in quoted(contract, fields))


def _values(
    node: dict[str, Any], root: dict[str, Any], value: Any, where: str
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every value that is no object, with its path and its node; a list before its items."""
    node = _meant(node, root, value)
    if isinstance(value, dict):
        for name, item in value.items():
            below = f"{where}.{name}" if where else name
            yield from _values(node["properties"][name], root, item, below)
    elif isinstance(value, list):
        yield where, node, value
        for i, item in enumerate(value):
            yield from _values(node["items"], root, item, f"{where}[{i}]")
    else:
        yield where, node, value


def _meant(node: dict[str, Any], root: dict[str, Any], value: Any) -> dict[str, Any]:
    """The node, or of its alternatives the one that a valid value is of."""
    node = resolve(node, root)
    options = [resolve(option, root) for option in node.get("anyOf", [])]
    # The words that may stand in a kind's place come after it, and are meant first.
    options.sort(key=lambda option: "const" not in option and "enum" not in option)
    return next((option for option in options if _is_of(option, value)), node)


def _is_of(node: dict[str, Any], value: Any) -> bool:
    if "enum" in node or "const" in node:
        return value in node.get("enum", [node.get("const")])
    if isinstance(value, dict):
        return set(node.get("properties", ())) == set(value)
    names = {str: "string", list: "array", bool: "boolean", int: "integer", float: "number"}
    kind = names.get(type(value), "null")
    return node.get("type") in (kind, "number" if kind == "integer" else kind)


def settle(
    contract: Contract, generation: Generation, output: Output
) -> tuple[Output, dict[str, Any] | None, list[Flag]]:
    """How sure the model was, and the choices that its probabilities decide.

    Returns:
        the output, a choice in its band of doubt now ``uncertain``; the record's `confidence`;
        a flag for each such choice.
    """
    if contract.kind == "text" and not generation.tokens:
        return output, None, []
    if contract.kind == "text":
        whole = Leaf("answer", 0, len(generation.text), "")
        return output, choices.confidence({"answer": choices.of_text(generation, whole)}), []
    root = schema(contract.json_schema)
    written = json.loads(generation.text)
    nodes = {path: node for path, node, _ in _values(root, root, written, "")}
    scored = {score.at: score.options for score in generation.choices}
    fields: dict[str, dict[str, Any]] = {}
    flags: list[Flag] = []
    settled = dict(output.fields)
    undecided: list[str] = []
    for leaf in leaves(generation.text):
        path, node = _now(leaf.path, output.dropped), nodes[leaf.path]
        if path is None:
            continue
        if leaf.start in scored:
            options = scored[leaf.start]
            fields[path] = choices.of_choice(options, leaf.value)
            if rule := node.get("x-decide"):
                settled[path], flag = choices.decide(path, options, rule)
                flags += [flag] if flag else []
        elif "x-decide" in node:
            undecided.append(f"undecided:{path}")
        elif "maxLength" in node and (measured := choices.of_text(generation, leaf)):
            fields[path] = measured
    settled_output = output._replace(fields=settled, notes=(*output.notes, *undecided))
    return settled_output, choices.confidence(fields), flags


def _now(path: str, dropped: tuple[str, ...]) -> str | None:
    """A path of what was written, in the output; None if its item was taken out."""
    made = ""
    before = ""
    for step in re.findall(r"\[\d+\]|[^\[]+", path):
        place = f"{before}{step}"
        if place in dropped:
            return None
        if step.startswith("["):
            earlier = [f"{before}[{i}]" for i in range(int(step[1:-1]))]
            made += f"[{sum(item not in dropped for item in earlier)}]"
        else:
            made += step
        before = place
    return made
