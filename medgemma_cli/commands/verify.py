"""`medgemma verify OUT`: ledger, summaries and sources against each other. Needs no model."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_cli.commands import options as o
from medgemma_cli.errors import GATE, OK, ConfigError, StorageError

if TYPE_CHECKING:
    from medgemma_cli.ledger import Ledger
    from medgemma_cli.verifying import Difference


def verify(
    out: Annotated[Path, typer.Argument(help="The -o of a run.")] = Path("summaries"),
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what follows from the ledger; keep what it replaces."),
    ] = False,
    sources: Annotated[
        bool, typer.Option("--sources/--no-sources", help="Read the sources again, too.")
    ] = True,
    encoding: o.Encoding = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="The differences, a JSON object a line.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No final line.")] = False,
) -> None:
    """Compare the ledger with its summaries and sources; exit 4 if anything differs.

    Every quote is looked up in its source again. Nothing is changed without --repair.
    """
    from medgemma_cli.progress import emit

    counts: Counter[str] = Counter()
    found: Counter[str] = Counter()
    left: Counter[str] = Counter()
    try:
        for difference in _differences(
            out, counts, repair=repair, sources=sources, encoding=encoding
        ):
            found[difference.kind] += 1
            left[difference.kind] += not difference.repaired
            emit(_line(difference, as_json=json_lines))
    except OSError as error:
        raise StorageError(
            f"The output folder cannot be read or written ({error.strerror}).",
            "Check its permissions and the free space, then verify again.",
        ) from None
    if not quiet:
        emit(_final(counts, found, left, out), sys.stderr)
    raise typer.Exit(GATE if left.total() else OK)


def _differences(
    out: Path, counts: Counter[str], *, repair: bool, sources: bool, encoding: str | None
) -> "Iterator[Difference]":
    from medgemma_cli.ledger import RECORDS
    from medgemma_cli.sharding import folders

    shards = folders.found(out)
    counts["shards that are not merged"] = len(shards)
    if (out / RECORDS).is_file() or not shards:
        yield from _of_folder(out, counts, repair=repair, sources=sources, encoding=encoding)
    for folder in shards.values():
        if (folder / RECORDS).is_file():
            found = _of_folder(folder, counts, repair=repair, sources=sources, encoding=encoding)
            where = folder.relative_to(out)
            yield from (one._replace(name=f"{where}/{one.name}") for one in found)


def _of_folder(
    out: Path, counts: Counter[str], *, repair: bool, sources: bool, encoding: str | None
) -> "Iterator[Difference]":
    from medgemma_cli.ledger import RECORDS
    from medgemma_cli.readers.limits import ReadLimits
    from medgemma_cli.readers.pool import ReaderPool
    from medgemma_cli.verifying import Verifier, ledger_differences

    if not (out / RECORDS).is_file():
        raise ConfigError(f"There is no {RECORDS} in that folder.", "Give the -o of a run.")
    with _shared(out):
        lines = list(ledger_differences(out))
    with _opened(out, repair=repair) as ledger:
        # Opening the ledger to write has mended its lines.
        yield from (difference._replace(repaired=repair) for difference in lines)
        verifier = Verifier(ledger, repair=repair)
        yield from verifier.of_the_folder()
    if sources:
        limits = ReadLimits(encoding=encoding)
        with ReaderPool() as reading:
            yield from verifier.of_the_sources(reading, limits)
    counts.update(verifier.counts)


@contextlib.contextmanager
def _shared(out: Path) -> "Iterator[None]":
    """Keep runs out while looking."""
    from medgemma_cli.ledger.locking import share

    descriptor = share(out)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _opened(out: Path, *, repair: bool) -> "Iterator[Ledger]":
    from medgemma_cli.ledger import Ledger

    held = contextlib.nullcontext() if repair else _shared(out)
    with held, Ledger(out, read_only=not repair) as ledger:
        yield ledger


def _line(difference: "Difference", *, as_json: bool) -> str:
    from medgemma_cli.display import visible
    from medgemma_cli.verifying import KINDS

    if as_json:
        return json.dumps(difference._asdict())
    what = "repaired: " if difference.repaired else ""
    return f"{what}{difference.kind}\t{visible(difference.name)}\t{KINDS[difference.kind]}"


def _final(counts: Counter[str], found: Counter[str], left: Counter[str], out: Path) -> str:
    from medgemma_cli.display import visible
    from medgemma_cli.verifying import REPAIRABLE

    looked = ", ".join(f"{counts[name]} {name}" for name in ("records", "summaries", "sources"))
    if counts["sheets"]:
        looked += f", {counts['sheets']} sheets"
    for name in ("sources not checked", "quotes not checked"):
        looked += f", {name} of {counts[name]}" if counts[name] else ""
    name = "shards that are not merged"
    looked += f", in {counts[name]} {name}" if counts[name] else ""
    if not found:
        return f"medgemma: verified: {looked}; nothing differs"
    told = ", ".join(f"{n} {kind}" for kind, n in found.most_common())
    line = f"medgemma: verified: {looked}; {left.total()} of {found.total()} differ still: {told}"
    if any(left[kind] for kind in REPAIRABLE):
        line += f"; mend with: medgemma verify {visible(str(out))} --repair"
    return line
