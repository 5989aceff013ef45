"""What a run is given: files, folders and lists → documents → pairs → a shard's part of them."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_cli.errors import NoInputError, UsageError

if TYPE_CHECKING:
    from medgemma_cli.pairing import Rule
    from medgemma_cli.pairing.grouping import Sources
    from medgemma_cli.readers import ReadLimits
    from medgemma_cli.readers.tables import Columns
    from medgemma_cli.records import Source
    from medgemma_cli.sharding.split import Shard


def listed(files_from: str | None) -> list[str]:
    """The paths of `--files-from`; of standard input where it is ``-``.

    Raises:
        UsageError: 2, the list cannot be read. NoInputError: 66, standard input is closed.
    """
    from medgemma_cli.discover import read_list

    if files_from is None:
        return []
    try:
        if files_from == "-":
            if sys.stdin is None:
                raise NoInputError("Standard input is closed.", "Pipe the list into it.")
            return read_list(os.fsdecode(line) for line in sys.stdin.buffer)
        with Path(files_from).open("rb") as file:
            return read_list(os.fsdecode(line) for line in file)
    except OSError:
        raise UsageError("The list of --files-from cannot be read.", "Check its path.") from None


def find(
    paths: Sequence[str],
    out: Path,
    *,
    files: Sequence[str] = (),
    include: Sequence[str],
    exclude: Sequence[str],
    columns: "Columns | None",
    rule: "Rule | None",
    limit: int | None,
) -> "Sources":
    """The documents, or with a rule their pairs; there is one at least.

    Raises:
        NoInputError: 66, there is none. UsageError: 2, OUT or a path cannot be what it is.
    """
    from medgemma_cli import discover, pairing, readers

    discover.check_output_folder(paths, out, files)
    discover.check_tables(paths, columns)
    sources: Sources = discover.Discovery(
        paths,
        readers.SUFFIXES,
        files=files,
        include=include,
        exclude=exclude,
        out=out,
        columns=columns,
        limit=limit if rule is None else None,
    )
    if rule is not None:
        sources = pairing.Pairs(sources, rule, limit)
    if next(iter(sources), None) is None:
        raise NoInputError(
            f"No {'pair' if rule else 'document'} was found{_skipped_text(sources)}.",
            "Give a folder, files or a glob; `medgemma run --help` lists the kinds.",
        )
    return sources


def _skipped_text(sources: "Sources") -> str:
    """`; skipped 3: 2 .pdf, 1 .xyz`, or nothing."""
    from medgemma_cli.commands.report import skipped

    return skipped(sources.skipped)


def make_shard(text: str | None, *, fresh: bool) -> "Shard | None":
    """`--shard i/n`.

    Raises:
        UsageError: 2, it is no such thing, or goes with `--fresh`.
    """
    if text is None:
        return None
    from medgemma_cli.sharding.split import parse

    if fresh:
        raise UsageError(
            "--fresh starts the whole folder anew, and --shard does a part of it.",
            "Choose another -o, or use --force.",
        )
    return parse(text)


def make_portion(sources: "Sources", part: "Shard | None") -> "Sources":
    """All sources, or those of a shard: of pairs, those whose current document is the shard's."""
    if part is None:
        return sources
    from medgemma_cli.sharding.split import Portion

    return Portion(sources, part)


def unpaired(sources: "Sources") -> "Iterable[tuple[str, Source]]":
    """What `--pair-by` leaves out, with the reason; of a shard, what it leaves out in all."""
    from medgemma_cli.pairing import Pairs
    from medgemma_cli.sharding.split import Portion

    whole = sources.whole if isinstance(sources, Portion) else sources
    return whole.alone if isinstance(whole, Pairs) else ()


def make_columns(
    text: str | None, image: str | None, identity: str | None, limits: "ReadLimits"
) -> "Columns | None":
    """The columns of tables; None where no table is to be read.

    Raises:
        UsageError: 2, rows would have an id and nothing else.
    """
    from medgemma_cli.readers.tables import Columns

    if text is None and image is None:
        if identity is not None:
            raise UsageError(
                "--id-column goes with --text-column or --image-column.",
                "Say which column has the documents.",
            )
        return None
    return Columns(text, image, identity, limits.encoding, limits.max_bytes)
