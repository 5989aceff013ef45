"""JSON Lines from a user: an object a line; what does not fit is named by its number alone."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from medgemma_cli.errors import UsageError


class Line(NamedTuple):
    """An object and the number of its line, from 1."""

    number: int
    fields: dict[str, Any]


def bad_line(number: int, why: str, page: str = "evaluation") -> UsageError:
    """The error that a line is; it never quotes the line. `page` of docs/ has the rules."""
    return UsageError(f"Line {number}: {why}.", f"Correct the line; docs/{page}.md has all.")


def objects(raw: Iterable[bytes], page: str = "evaluation") -> Iterator[Line]:
    """The objects of the lines; empty lines are passed over.

    Raises:
        UsageError: 2, a line is no JSON object of UTF-8.
    """
    # pydantic's parser, as everywhere; it refuses no NaN, which the readers of fields do.
    from pydantic_core import from_json

    for number, data in enumerate(raw, 1):
        if not data.strip():
            continue
        try:
            fields = from_json(data.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise bad_line(number, "it is no JSON object", page)
        yield Line(number, fields)


def need_label(line: Line) -> None:
    """See that a line's label is 0 or 1.

    Raises:
        UsageError: 2.
    """
    label = line.fields.get("label")
    if label not in (0, 1):  # True and False are, too
        raise bad_line(line.number, "its label is neither 0 nor 1")


def need_score(line: Line) -> None:
    """See that a line's score is a probability.

    Raises:
        UsageError: 2.
    """
    score = line.fields.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise bad_line(line.number, "its score is no probability from 0 to 1")
