"""A table on standard output: drawn on a terminal, columns of plain text elsewhere."""

import sys
from collections.abc import Sequence

Row = Sequence[str]


def show(head: Row, rows: Sequence[Row], numbers: Sequence[str] = ()) -> None:
    """Print a table; cells are shown as they are, so make them `visible` first.

    Args:
        numbers: the columns, by their heads, that stand on the right.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        _draw(head, rows, numbers)
    else:
        _write(head, rows, numbers)


def _draw(head: Row, rows: Sequence[Row], numbers: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        side = "right" if name in numbers else "left"
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))  # a Text has no markup
    Console(markup=False, emoji=False, highlight=False).print(table)


def _write(head: Row, rows: Sequence[Row], numbers: Sequence[str]) -> None:
    from medgemma_cli.progress import emit

    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        emit("  ".join(cells).rstrip())
