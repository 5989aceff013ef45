"""What the evaluations read: lines of a file, the current records of a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_cli.errors import ConfigError, NoInputError

if TYPE_CHECKING:
    from medgemma_cli.evaluating.lines import Line
    from medgemma_cli.records import Record


def lines(path: Path, what: str, *checks: "Callable[[Line], None]") -> "list[Line]":
    """The objects of a file of JSON Lines.

    Raises:
        NoInputError: 66, it cannot be read, or has no line. UsageError: 2, a line does not fit.
    """
    from medgemma_cli.evaluating.lines import objects

    try:
        with path.open("rb") as file:
            found = list(objects(file))
    except (OSError, ValueError):  # a NUL in the name is a ValueError
        raise NoInputError(f"{what} cannot be read.", "Check the path.") from None
    for line in found:
        for check in checks:
            check(line)
    if not found:
        raise NoInputError(f"{what} has no line.", "Check the path.")
    return found


def records(out: Path) -> "list[Record]":
    """The current records of a folder, sorted by name: no figure depends on their order.

    Raises:
        ConfigError: 78, it has no ledger, or a newer one. NoInputError: 66, it has no record.
    """
    from pydantic import ValidationError

    from medgemma_cli.ledger import current_lines
    from medgemma_cli.records import Record

    try:
        found = [Record.model_validate(line) for line in current_lines(out)]
    except ValidationError:
        raise ConfigError(
            "A current record is damaged.", "See what: medgemma verify OUT."
        ) from None
    if not found:
        raise NoInputError("That folder has no record.", "Give the -o of a run.")
    return sorted(found, key=lambda record: (record.source, record.summary or ""))
