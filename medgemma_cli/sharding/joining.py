"""`medgemma merge`: the shards of a folder become its ledger and its summaries.

Order: see that no shard is missing, half done or at odds with the others → note how long the
ledger is → append the shards' lines, byte for byte, and sync them → note that they are in → write
their summaries, and put their sheets of views beside them → clear the shards away. Killed before
the second note, what was appended is cut off again and all is done anew; killed after it, only
what is left is done. No run takes the folder in between.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from medgemma_cli import files, summaries, views
from medgemma_cli.committing import GROUP, has_page
from medgemma_cli.errors import ConfigError, DocumentError, RunAgainError, StorageError
from medgemma_cli.files import SHARDS
from medgemma_cli.ledger import RECORDS, DamagedRecordError, Entry, Ledger
from medgemma_cli.ledger.appending import storage_error
from medgemma_cli.ledger.book import MERGE
from medgemma_cli.ledger.lines import parse_line, raw_lines
from medgemma_cli.ledger.locking import Lock
from medgemma_cli.sharding import clearing, folders
from medgemma_cli.sharding.folders import Half, State
from medgemma_cli.sharding.split import Shard

Note = Callable[[str], None]


class Joined(NamedTuple):
    """What a merge came to: `status` counts the current records that came from shards.

    `altered` counts summaries and sheets of views that could not be put in place: files of
    somebody else stand there.
    """

    shards: int
    status: Counter[str]
    altered: int


def merge(out: Path, *, partial: bool = False, note: Note = lambda text: None) -> Joined:
    """Join the shards of a folder. With none there, nothing is done.

    Args:
        partial: take what is there, though shards are missing, half done or of other settings.
        note: told of what a reader should know, without document text.

    Raises:
        RunAgainError: 75, shards are missing or half done, or a run is under way.
        ConfigError: 78, they are of different numbers or settings, or share a document.
        StorageError: 74. OutputError: 73.
    """
    if not folders.found(out) and not folders.half_merged(out):
        if not (out / RECORDS).is_file():
            raise ConfigError("That folder has no shards and no ledger.", "Give the -o of a run.")
        return Joined(0, Counter(), 0)
    _take_back(out)
    with Ledger(out, merging=True) as ledger:
        shards = folders.found(out)
        try:
            half = folders.read_merge(out)
            if half is None:
                half = _append(ledger, shards, partial=partial, note=note)
            elif not half.appended:  # another merge began just now, and died
                raise RunAgainError("A merge was interrupted just now.", "Merge again.")
            joined = _finish(ledger, half.before, shards, note)
            for shard, folder in shards.items():
                clearing.clear(out, shard, folder, ledger.by_key)
            clearing.clear_rest(out)
        except OSError as error:
            raise storage_error(error) from None
        for warning in ledger.warnings:
            note(f"warning: {warning}")
    return joined


def _take_back(out: Path) -> None:
    """Cut off what a merge appended that did not come to its end."""
    lock = Lock(out)
    try:
        half = folders.read_merge(out)
        if half is None or half.appended:
            return
        path = out / RECORDS
        if path.stat().st_size < half.before:
            raise ConfigError(
                f"{RECORDS} is shorter than when the merge began.", "Restore it from a copy."
            )
        with path.open("r+b") as file:
            file.truncate(half.before)
            os.fsync(file.fileno())  # before what says that it is to be done
        (out / SHARDS / MERGE).unlink()
    except OSError as error:
        raise storage_error(error) from None
    finally:
        lock.release()


# -- the lines ------------------------------------------------------------------------------------


def _append(ledger: Ledger, shards: dict[Shard, Path], *, partial: bool, note: Note) -> Half:
    """Every line of every shard, durable; or none."""
    if not partial:
        _check_numbers(shards)
    states: dict[Shard, State | None] = {}
    seen: set[str] = set()
    for shard, folder in shards.items():
        # Open for writing: a torn tail is cut off here, and nobody else writes meanwhile.
        with Ledger(folder) as part:
            states[shard] = _believed(folder, shard, part)
            for slot in part.current:
                if slot in seen:
                    raise _shared()
                seen.add(slot)
            for warning in part.warnings:
                note(f"warning: shard {shard.number}: {warning}")
    if partial:
        if lacking := _lacking(states):
            note(f"warning: {lacking}")
    else:
        _check_whole(states)
        _compare(states, note)
    half = Half(before=ledger.size, appended=False)
    folders.write_merge(ledger.out, half)
    for folder in shards.values():
        for _, raw in raw_lines(folder / RECORDS):
            if parse_line(raw) is not None:  # a damaged one is in its shard's quarantine
                ledger.append_line(raw)
    ledger.sync()
    half = half.model_copy(update={"appended": True})
    _check_counts(ledger, half.before, seen)
    folders.write_merge(ledger.out, half)
    return half


def _check_numbers(shards: dict[Shard, Path]) -> None:
    if len({shard.of for shard in shards}) > 1:
        raise ConfigError(
            "There are shards of different numbers.",
            f"Move those that are not wanted out of {SHARDS}, then merge again.",
        )


def _believed(folder: Path, shard: Shard, part: Ledger) -> State | None:
    """What the shard says of itself, if its ledger is as it says and it came to its end."""
    state = folders.read_state(folder, shard)
    if state is None or not state.complete:
        return None
    whole = state.size == part.size and state.records == len(part.current)
    return state if whole else None


def _lacking(states: dict[Shard, State | None]) -> str | None:
    """``shards are missing (2, 5) and half done (3)``; None where all is there."""
    of = next(iter(states)).of if states else 0
    missing = [number for number in range(1, of + 1) if Shard(number, of) not in states]
    half = [shard.number for shard, state in states.items() if state is None]
    told = [
        f"{what} ({', '.join(map(str, numbers[:10]))}{', …' if len(numbers) > 10 else ''})"
        for what, numbers in (("missing", missing), ("half done", half))
        if numbers
    ]
    return f"of {of} shards some are {' and '.join(told)}" if told else None


def _check_whole(states: dict[Shard, State | None]) -> None:
    if lacking := _lacking(states):
        raise RunAgainError(
            f"There is work left: {lacking}.",
            "Run those with --shard, or merge what is there with --partial.",
        )
    if len({state.settings for state in states.values() if state}) > 1:
        raise ConfigError(
            "The shards were asked different things: model, template or settings differ.",
            "Run all of them with the same options, or merge them as they are with --partial.",
        )


def _compare(states: dict[Shard, State | None], note: Note) -> None:
    """Shards that saw different folders: some document may be in none of them."""
    known = [state for state in states.values() if state]
    if len({state.listing for state in known}) > 1:
        note("warning: the inputs changed between shards; a run of the whole folder finds the rest")
    elif known and sum(state.taken for state in known) != known[0].total:
        raise ConfigError(
            "The shards' documents do not add up to all.", "Run all of them again with --shard."
        )


def _check_counts(ledger: Ledger, before: int, slots: set[str]) -> None:
    there = {slot for slot, entry in ledger.current.items() if entry.offset >= before}
    if there != slots:
        raise StorageError(
            "What was appended is not what the shards have.", "Check the disk, then merge again."
        )


def _shared() -> ConfigError:
    return ConfigError(
        "Two shards have a record of the same document.",
        f"Their folders in {SHARDS} were changed from outside; run all shards again.",
    )


# -- the summaries and the sheets -----------------------------------------------------------------


def _finish(ledger: Ledger, before: int, shards: dict[Shard, Path], note: Note) -> Joined:
    """Summaries and sheets as the records say; of what was appended alone."""
    new = [entry for entry in ledger.current.values() if entry.offset >= before]
    for name in summaries.walk(ledger.out):
        if summaries.is_temporary(name):  # a killed merge's
            (ledger.out / name).unlink(missing_ok=True)
    altered = 0
    for at in range(0, len(new), GROUP):
        pages = [_page(ledger, entry) for entry in new[at : at + GROUP]]
        altered += sum(page is False for page in pages)
        summaries.write(ledger.out, [page for page in pages if isinstance(page, tuple)])
    altered += _put_sheets(ledger.out, new, shards, note)
    return Joined(len(shards), Counter(entry.status for entry in new), altered)


def _page(ledger: Ledger, entry: Entry) -> tuple[str, str] | bool | None:
    """Name and text of a summary to be written; None for none; False where another file stands."""
    try:
        record = ledger.read(entry)
    except DamagedRecordError:
        ledger.drop(entry)
        return None
    if not has_page(record):
        return None
    path = f"{ledger.out}/{entry.slot}"
    if summaries.state(path, entry.key, entry.created) == "current":
        return None
    with contextlib.suppress(DocumentError):
        summaries.check_free(ledger.out, entry.slot, lambda key: key in ledger.by_key)
        return entry.slot, summaries.render(record)
    return False


def _put_sheets(out: Path, new: list[Entry], shards: dict[Shard, Path], note: Note) -> int:
    """What the model saw, from the shards; how many have another file in their place."""
    wanted = [(views.name_of(entry.slot), entry.key) for entry in new if entry.views]
    wanted = [(name, key) for name, key in wanted if views.state(out / name, key) != "current"]
    if not wanted:
        return 0
    kept = {name: folder / name for folder in shards.values() for name in views.walk(folder)}
    there = [
        name for name, key in wanted if name in kept and views.state(kept[name], key) == "current"
    ]
    if lost := len(wanted) - len(there):
        note(f"warning: {lost} sheets of views are gone or changed; a run makes them again")
    free = [name for name in there if views.is_free(out, name)]
    for at in range(0, len(free), GROUP):
        some = free[at : at + GROUP]
        files.replace_files((out / name, summaries.read(kept[name])) for name in some)
    return len(there) - len(free)
