"""The answer about all of a document, made of its parts' answers. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from medgemma_cli.longdocs import lists
from medgemma_cli.longdocs.answers import Answer, said, under
from medgemma_cli.longdocs.forms import fields_of, has_quote, is_list
from medgemma_cli.longdocs.settling import Settled
from medgemma_cli.records import Contract, LeftOut, Place


class Lists(NamedTuple):
    """The lists of a whole answer, where their quotes stand, and what had no room in them."""

    fields: dict[str, list[Any]]
    places: tuple[Place, ...]
    left: tuple[LeftOut, ...]


def lists_of(contract: Contract, answers: Sequence[Answer]) -> Lists:
    """Every list of the contract, out of the answers; see `lists`."""
    fields: dict[str, list[Any]] = {}
    places: list[Place] = []
    left: list[LeftOut] = []
    for name, node in fields_of(contract) if contract.kind == "json" else ():
        if not is_list(node):
            continue
        # Without evidence nothing goes in where it is wanted.
        wanted = has_quote(contract, node)
        usable = [answer for answer in answers if answer.quotable or not wanted]
        kept, over = lists.joined(name, usable, node["maxItems"])
        fields[name] = [item.value for item in kept]
        for i, item in enumerate(kept):
            places += item.moved(f"{name}[{i}]")
        if over:
            words = tuple(said(item.value) for item in over)
            left.append(LeftOut(where=name, said=words))
    return Lists(fields, tuple(places), tuple(left))


def whole(
    contract: Contract,
    settled: Settled,
    written: dict[str, Any],
    answers: Sequence[Answer],
) -> Answer:
    """The answer about all of it, in the contract's order.

    Args:
        written: what the model wrote of what it was asked.
    """
    if contract.kind == "text":
        return Answer(written)
    made = lists_of(contract, answers)
    fields: dict[str, Any] = {}
    places = list(made.places)
    for name, node in fields_of(contract):
        if name in made.fields:
            fields[name] = made.fields[name]
        elif name in settled.picks:
            answer = settled.picks[name][written[name]]
            fields[name] = answer.fields[name]
            places += under(answer.places, name)
        else:
            fields[name] = (settled.fields | written).get(name)
            if has_quote(contract, node):
                places += _first_under(answers, name, fields[name])
    return Answer(fields, tuple(places))


def with_lists(contract: Contract, answer: Answer, made: Lists) -> Answer:
    """An answer with other lists in place of its own."""
    fields = {name: made.fields.get(name, answer.fields[name]) for name, _ in fields_of(contract)}
    own = [p for name in fields if name not in made.fields for p in under(answer.places, name)]
    return Answer(fields, (*own, *made.places))


def _first_under(answers: Sequence[Answer], name: str, value: Any) -> Iterator[Place]:
    for answer in answers:
        if answer.fields.get(name) == value:
            yield from under(answer.places, name)
            return
