"""The answers about a document's parts → one answer in the same contract. Pure.

What has evidence is never written again: findings, rows and other lists are put one after the
other, repeats taken out; of several findings where one is wanted the model picks a number. Only
what has no quote (a summary, a grade) is written anew by the model, which sees the answers, and
only where the parts do not agree.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from medgemma_cli import contracts, decoding
from medgemma_cli.errors import DocumentError
from medgemma_cli.quoting import locate
from medgemma_cli.records import Contract, Generation, Place

Node = dict[str, Any]

LEFT_OUT = "left_out"
"""A note: ``left_out:FIELD:COUNT``, items that the contract has no room for."""
_LABEL = "answer"


class Answer(NamedTuple):
    """What was answered about a part of a document, or about several.

    Attributes:
        places: where its quotes stand in the whole document.
        quotable: whether its part had a text to quote; if not, what wants evidence is not used.
    """

    fields: dict[str, Any]
    places: tuple[Place, ...] = ()
    quotable: bool = True


class Settled(NamedTuple):
    """Fields that are known without the model, and what it is still to be asked.

    Attributes:
        picks: of fields whose finding is picked by number: option → the answer it is in.
    """

    fields: dict[str, Any]
    asked: Contract | None
    picks: dict[str, dict[str, Answer]]


def of_part(contract: Contract, generation: Generation, text: str, start: int) -> Answer:
    """What was answered about a part that begins at a character of the document.

    Raises:
        DocumentError: ``invalid_output``, ``empty_output``.
    """
    try:
        fields = decoding.parse(contract, generation.text).fields
    except ValueError:
        raise DocumentError("invalid_output") from None
    if contract.kind == "text" and not fields["answer"]:
        raise DocumentError("empty_output")
    places = []
    for where, quote in decoding.quotes(contract, fields):
        if span := locate(quote, text):
            first, last = span
            place = Place(where=where, quote=quote, start=start + first, end=start + last)
            places.append(place)
    return Answer(fields, tuple(places), contract.quotable)


def told(answers: Sequence[Answer], most: int | None = None) -> str:
    """The answers as the model reads them, numbered, `most` characters of each; without quotes."""
    return "\n\n".join(
        f"{_LABEL.capitalize()} {i}: "
        f"{json.dumps(_unquoted(answer.fields), ensure_ascii=False)[:most]}"
        for i, answer in enumerate(answers, 1)
    )


def _unquoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unquoted(item) for name, item in value.items() if name != "quote"}
    return [_unquoted(item) for item in value] if isinstance(value, list) else value


def settle(contract: Contract, answers: Sequence[Answer]) -> Settled:
    """What is known of the whole from the answers alone, but for its lists."""
    if contract.kind == "text":
        return Settled({}, contract, {})
    root = decoding.schema(contract.json_schema)
    fields: dict[str, Any] = {}
    asked: dict[str, list[str]] = {}
    picks: dict[str, dict[str, Answer]] = {}
    for name, given in root["properties"].items():
        node = decoding.resolve(given, root)
        if node.get("type") == "array":
            continue
        if _has_quote(node, root):
            found = _candidates(name, node, answers)
            values = [answer.fields[name] for answer in found.values()] or _words(node)
            if len(found) > 1:
                picks[name], asked[name] = found, list(found)
        else:
            values = _agreed(name, node, answers)
            if len(values) != 1:
                asked[name] = []
        if name not in asked and values:
            fields[name] = values[0]
    return Settled(fields, _contract(contract, asked) if asked else None, picks)


def _candidates(name: str, node: Node, answers: Sequence[Answer]) -> dict[str, Answer]:
    """The answers that have a finding here, by the number they are shown under; repeats once."""
    words, seen, found = _words(node), set[str](), dict[str, Answer]()
    for i, answer in enumerate(answers, 1):
        value = answer.fields.get(name)
        if not answer.quotable or value is None or value in words:
            continue
        mark = _mark(value)
        if mark not in seen:
            found[f"{_LABEL} {i}"] = answer
        seen.add(mark)
    return found


def _agreed(name: str, node: Node, answers: Sequence[Answer]) -> list[Any]:
    """The one value, if all say the same, or all but one "not stated" or the like; else more.

    A choice that is decided by its probabilities is always asked anew, or it would have none.
    """
    if "x-decide" in node:
        return []
    words = _words(node) if len(_options(node)) > 1 else []
    values = {json.dumps(answer.fields[name]): answer.fields[name] for answer in answers}
    told = [value for value in values.values() if value not in words]
    return told if told else list(values.values())


def _options(node: Node) -> list[Node]:
    found: list[Node] = node.get("anyOf", [node])
    return found


def _words(node: Node) -> list[Any]:
    """The words that may stand in a kind's place."""
    found: list[Any] = []
    for option in node.get("anyOf", []):
        found += [option["const"]] if "const" in option else option.get("enum", [])
        found += [None] if option.get("type") == "null" else []
    return found


def _has_quote(node: Node, root: Node) -> bool:
    node = decoding.resolve(node, root)
    below = [*node.get("properties", {}).values(), *node.get("anyOf", [])]
    below += [node["items"]] if "items" in node else []
    return node.get("format") == "quote" or any(_has_quote(one, root) for one in below)


def _contract(contract: Contract, asked: dict[str, list[str]]) -> Contract:
    """The fields that are still to be written; of those with options, which it is to be."""
    block = json.loads(contract.block)
    root = decoding.schema(contract.json_schema)
    if "$schema" in block:
        kinds = {n: {"enum": o} if o else block["properties"][n] for n, o in asked.items()}
        closed = {"properties": kinds, "required": list(kinds)}
        block = {**block, **closed}
    else:
        block = {name: " | ".join(o) if o else block[name] for name, o in asked.items()}
    rules = {name: root["properties"][name].get("x-decide") for name in asked}
    decide = {name: rule for name, rule in rules.items() if rule}
    return contracts.contract(block, quotable=contract.quotable, decide=decide)


def unquotable(contract: Contract) -> Contract:
    """The contract of a part of which nothing can be quoted."""
    if contract.kind == "text" or not contract.quotable:
        return contract
    properties = decoding.schema(contract.json_schema)["properties"]
    decide = {n: node["x-decide"] for n, node in properties.items() if "x-decide" in node}
    return contracts.contract(json.loads(contract.block), quotable=False, decide=decide)


def whole(
    contract: Contract, settled: Settled, written: dict[str, Any], answers: Sequence[Answer]
) -> tuple[Answer, tuple[str, ...]]:
    """The answer about all of it, in the contract's order, and notes of what was left out.

    Args:
        written: what the model wrote of what it was asked.
    """
    if contract.kind == "text":
        return Answer(written), ()
    root = decoding.schema(contract.json_schema)
    fields: dict[str, Any] = {}
    places: list[Place] = []
    notes: list[str] = []
    for name, given in root["properties"].items():
        node = decoding.resolve(given, root)
        if node.get("type") == "array":
            kept, left = _joined(name, _usable(node, root, answers), node["maxItems"])
            fields[name] = [item.value for item in kept]
            for i, item in enumerate(kept):
                places += _moved(item.places, item.where, f"{name}[{i}]")
            notes += [f"{LEFT_OUT}:{name}:{left}"] if left else []
        elif name in settled.picks:
            answer = settled.picks[name][written[name]]
            fields[name] = answer.fields[name]
            places += _under(answer.places, name)
        else:
            fields[name] = (settled.fields | written).get(name)
            if _has_quote(node, root):
                places += _first_under(answers, name, fields[name])
    return Answer(fields, tuple(places)), tuple(notes)


def with_lists(
    contract: Contract, answer: Answer, lists: Answer
) -> tuple[dict[str, Any], tuple[Place, ...]]:
    """An answer with the lists of another in place of its own: the fields, and where quotes are."""
    root = decoding.schema(contract.json_schema)
    fields: dict[str, Any] = {}
    places: list[Place] = []
    for name, given in root["properties"].items():
        chosen = lists if decoding.resolve(given, root).get("type") == "array" else answer
        fields[name] = chosen.fields[name]
        places += _under(chosen.places, name)
    return fields, tuple(places)


def _usable(node: Node, root: Node, answers: Sequence[Answer]) -> list[Answer]:
    """Without those of parts that had nothing to quote, where evidence is wanted."""
    return [answer for answer in answers if answer.quotable or not _has_quote(node, root)]


def _first_under(answers: Sequence[Answer], name: str, value: Any) -> Iterator[Place]:
    for answer in answers:
        if answer.fields.get(name) == value:
            yield from _under(answer.places, name)
            return


def _under(places: Iterable[Place], where: str) -> list[Place]:
    """The quotes at a path and below it."""
    below = (f"{where}.", f"{where}[")
    return [place for place in places if place.where == where or place.where.startswith(below)]


def _moved(places: Iterable[Place], old: str, new: str) -> Iterator[Place]:
    for place in places:
        yield place.model_copy(update={"where": new + place.where.removeprefix(old)})


# -- lists --------------------------------------------------------------------------------------


class _Item(NamedTuple):
    """One item of a list: where it was, in which answer, and its quotes."""

    value: Any
    answer: int
    rank: int
    where: str
    places: list[Place]


def _joined(name: str, answers: Sequence[Answer], most: int) -> tuple[list[_Item], int]:
    """The lists one after the other, and how many items there was no room for."""
    items = list(_distinct(name, answers))
    kept = _fair(items, most)
    return kept, len(items) - len(kept)


def _distinct(name: str, answers: Sequence[Answer]) -> Iterator[_Item]:
    """Without what says the same, or rests on the very words of an earlier part's item.

    Parts overlap: what both tell of the same place is taken from the earlier one.
    """
    marks: set[str] = set()
    earlier: set[tuple[int, int]] = set()
    for number, answer in enumerate(answers):
        here: set[tuple[int, int]] = set()
        quotes = _by_item(name, answer)
        for rank, value in enumerate(answer.fields[name]):
            places = quotes.get(rank, [])
            stands = {(place.start, place.end) for place in places}
            here |= stands
            mark = _mark(value)
            if mark in marks or (stands and stands <= earlier):
                continue
            marks.add(mark)
            yield _Item(value, number, rank, f"{name}[{rank}]", places)
        earlier |= here


def _by_item(name: str, answer: Answer) -> dict[int, list[Place]]:
    found: dict[int, list[Place]] = {}
    for place in answer.places:
        if place.where.startswith(f"{name}["):
            index = int(place.where[len(name) + 1 :].partition("]")[0])
            found.setdefault(index, []).append(place)
    return found


def _mark(value: Any) -> str:
    """Two findings are one if they quote the same, as in `decoding`; two texts but for case."""
    if isinstance(value, dict) and {"quote", "statement"} == set(value):
        value = value["quote"]
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    return json.dumps(value)


def _fair(items: list[_Item], most: int) -> list[_Item]:
    """As many as there may be: every part's first, then every part's second; in order again.

    Where not all of a rank fit, those taken are spread evenly over the document.
    """
    kept: list[_Item] = []
    for rank in sorted({item.rank for item in items}):
        row = [item for item in items if item.rank == rank]
        free = most - len(kept)
        if free < len(row):
            row = [row[i * len(row) // free] for i in range(free)]
        kept += row
        if len(kept) == most:
            break
    return sorted(kept, key=lambda item: (item.answer, item.rank))
