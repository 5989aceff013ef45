"""What was answered about a part of a document, or about several. Pure."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from medgemma_cli import decoding
from medgemma_cli.errors import DocumentError
from medgemma_cli.quoting import locate
from medgemma_cli.records import Contract, Generation, Place

LABEL = "answer"
"""How an answer is called where the model is to choose one: ``answer 3``."""


class Answer(NamedTuple):
    """One answer.

    Attributes:
        places: where its quotes stand in the whole document.
        quotable: whether its part had a text to quote; if not, what wants evidence is not used.
        span: from where to where its part goes.
    """

    fields: dict[str, Any]
    places: tuple[Place, ...] = ()
    quotable: bool = True
    span: tuple[int, int] = (0, 0)


def of_part(contract: Contract, generation: Generation, text: str = "", start: int = 0) -> Answer:
    """What was answered about a part that begins at a character of the document.

    Raises:
        DocumentError: the generation's own code, ``invalid_output``, ``empty_output``.
    """
    if generation.error:
        raise DocumentError(generation.error)
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
    return Answer(fields, tuple(places), contract.quotable, (start, start + len(text)))


def told(answers: Sequence[Answer], most: int | None = None) -> str:
    """The answers as the model reads them, numbered, `most` characters of each; without quotes."""
    return "\n\n".join(
        f"{LABEL.capitalize()} {i}: {json.dumps(_unquoted(a.fields), ensure_ascii=False)[:most]}"
        for i, a in enumerate(answers, 1)
    )


def _unquoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unquoted(item) for name, item in value.items() if name != "quote"}
    return [_unquoted(item) for item in value] if isinstance(value, list) else value


def said(value: Any) -> str:
    """The words of a value, quotes apart."""
    if isinstance(value, dict):
        return " ".join(said(item) for name, item in value.items() if name != "quote")
    if isinstance(value, list):
        return " ".join(map(said, value))
    return "" if value is None else str(value)


def under(places: Sequence[Place], where: str) -> list[Place]:
    """The quotes at a path and below it."""
    below = (f"{where}.", f"{where}[")
    return [place for place in places if place.where == where or place.where.startswith(below)]
