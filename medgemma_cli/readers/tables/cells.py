"""What is asked of a table, and what a row of it says."""

from collections.abc import Mapping
from typing import NamedTuple


class Columns(NamedTuple):
    """Which columns are read, and the bounds: `max_bytes` holds for a row, and a list of JSON."""

    text: str | None = None
    image: str | None = None
    id: str | None = None
    encoding: str | None = None
    max_bytes: int = 50_000_000

    @property
    def used(self) -> dict[str, str]:
        """Those that are asked for, by their uses: for a record, see `columns_of`."""
        uses = {"text": self.text, "image": self.image, "id": self.id}
        return {use: name for use, name in uses.items() if name is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are asked for."""
        return tuple(name for name in (self.text, self.image, self.id) if name is not None)


class Cells(NamedTuple):
    """A row: its number, from 1, and what stands in its columns, or a code of `errors.FAULTS`.

    `numbered` says that ids were asked for, and that this row has a number for want of one.
    """

    number: int
    text: str = ""
    image: str = ""
    id: str | None = None
    error: str | None = None
    numbered: bool = False


def cells_of(number: int, fields: Mapping[str, object], columns: Columns) -> Cells:
    """The cells of a row; its error is ``no_column``, ``row_not_text`` or ``row_empty``."""
    identity = fields.get(columns.id) if columns.id is not None else None
    whole = isinstance(identity, int) and not isinstance(identity, bool)
    known = str(identity).strip() if whole or isinstance(identity, str) else ""
    made = Cells(number, id=known or None, numbered=columns.id is not None and not known)
    if not any(name in fields for name in (columns.text, columns.image) if name is not None):
        return made._replace(error="no_column")
    text = fields.get(columns.text) if columns.text is not None else None
    image = fields.get(columns.image) if columns.image is not None else None
    text, image = "" if text is None else text, "" if image is None else image
    if not isinstance(text, str) or not isinstance(image, str):
        return made._replace(error="row_not_text")
    made = made._replace(text=text, image=image.strip())
    return made if text.strip() or made.image else made._replace(error="row_empty")
