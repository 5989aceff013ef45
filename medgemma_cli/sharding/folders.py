"""`OUT/.shards`: an output folder for each shard, what each says of itself, and who is missing."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from medgemma_cli.errors import ConfigError
from medgemma_cli.files import SHARDS, replace_file
from medgemma_cli.ledger import RECORDS, current_lines, slot_of
from medgemma_cli.ledger.book import MERGE
from medgemma_cli.records import Frozen
from medgemma_cli.sharding.split import Shard

STATE = "shard.json"
_NAME = re.compile(r"([1-9]\d{0,7})-of-([1-9]\d{0,7})")


class State(Frozen):
    """What a shard says of itself in `shard.json`, written when a run begins and when it ends.

    Attributes:
        complete: whether a run came to the end of the shard's documents.
        settings: a digest of what was asked of them, and how they were read.
        total: how many documents all shards have, as this one walked them.
        listing: a digest of their names.
        taken: how many of them are the shard's.
        records: its own current records; what was merged before is not among them.
        size: bytes of its ledger then.
    """

    state_schema: Literal["medgemma.shard/1"] = Field(default="medgemma.shard/1", alias="schema")
    number: int
    of: int
    complete: bool
    settings: str
    total: int | None = None
    listing: str | None = None
    taken: int = 0
    records: int = 0
    size: int = 0


class Half(Frozen):
    """How far a merge is: `before` is the ledger's size at its beginning, in bytes.

    `appended` says that every line is in the ledger for good; what is left is to write summaries
    and to clear away.
    """

    before: int
    appended: bool


def found(out: Path) -> dict[Shard, Path]:
    """The folders of shards that are not merged, in order."""
    shards: dict[Shard, Path] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(out / SHARDS):
            match = _NAME.fullmatch(entry.name)
            if match and entry.is_dir(follow_symlinks=False):
                shards[Shard(int(match[1]), int(match[2]))] = Path(entry.path)
    return dict(sorted(shards.items(), key=lambda one: (one[0].of, one[0].number)))


def half_merged(out: Path) -> bool:
    """Whether a merge was begun and did not end."""
    return (out / SHARDS / MERGE).exists()


def refuse_unmerged(out: Path) -> None:
    """A run of the whole folder would do again what its shards have done.

    Raises:
        ConfigError: 78.
    """
    if shards := found(out):
        told = "1 shard that is" if len(shards) == 1 else f"{len(shards)} shards that are"
        raise ConfigError(
            f"The output folder has {told} not merged.",
            "Merge them with `medgemma merge`, or go on with --shard.",
        )


def refuse_others(out: Path, shard: Shard) -> None:
    """Two ways of splitting at once would do documents twice.

    Raises:
        ConfigError: 78, there are shards of another number.
    """
    for other in found(out):
        if other.of != shard.of:
            raise ConfigError(
                f"The output folder has shards of {other.of}, not of {shard.of}.",
                f"Use --shard i/{other.of}, or merge them first with `medgemma merge`.",
            )


def read_state(folder: Path, shard: Shard) -> State | None:
    """What a shard says of itself; None where it says nothing that can be believed."""
    try:
        state = State.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValidationError):
        return None
    return state if (state.number, state.of) == shard else None


def write_state(folder: Path, state: State, *, fsync: bool) -> None:
    """Put it in place at once.

    Raises:
        OSError: as the system says.
    """
    replace_file(folder / STATE, state.model_dump_json(by_alias=True).encode(), fsync=fsync)


def complete(folder: Path, shard: Shard) -> bool:
    """Whether the shard's last run ended with nothing left, and its ledger is as it left it."""
    state = read_state(folder, shard)
    with contextlib.suppress(OSError):
        size = (folder / RECORDS).stat().st_size
        return state is not None and state.complete and state.size == size
    return False


def read_merge(out: Path) -> Half | None:
    """How far an interrupted merge is; None where there is none.

    Raises:
        ConfigError: 78, it says nothing that can be believed.
    """
    try:
        return Half.model_validate_json((out / SHARDS / MERGE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise ConfigError(
            f"{SHARDS}/{MERGE}, which says how far a merge is, cannot be read.",
            "Restore the output folder from a copy, or check its permissions.",
        ) from None


def write_merge(out: Path, half: Half) -> None:
    """Put it in place at once, durably.

    Raises:
        OSError: as the system says.
    """
    replace_file(out / SHARDS / MERGE, half.model_dump_json().encode())


def standing_lines(
    out: Path, wanted: Callable[[dict[str, Any]], bool] = lambda line: True
) -> Iterator[dict[str, Any]]:
    """The current records of a folder and of its shards, which are newer; see `current_lines`.

    Raises:
        ConfigError: 78, there is no ledger, or a newer one.
    """
    shards = found(out)
    newer: set[str] = set()

    def first(line: dict[str, Any]) -> bool:
        newer.add(slot_of(line["source"], line["summary"]))
        return wanted(line)

    def second(line: dict[str, Any]) -> bool:
        return slot_of(line["source"], line["summary"]) not in newer and wanted(line)

    for folder in shards.values():
        if (folder / RECORDS).is_file():
            yield from current_lines(folder, first)
    if not shards or (out / RECORDS).is_file():
        yield from current_lines(out, second)
