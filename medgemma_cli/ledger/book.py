"""`records.jsonl`, the commit point: append-only, one writer, repaired on opening.

Promise: no finished work is done again unasked; only what was in flight at a kill.
A *slot* is one document's place in the output folder (its summary file's name); the last line of
a slot is its current record.
"""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from medgemma_cli.errors import ConfigError, OutputError, StorageError
from medgemma_cli.files import QUARANTINE, SHARDS, make_folder, replace_file, sync_folder
from medgemma_cli.ledger.appending import AppendOnly
from medgemma_cli.ledger.lines import RECORDS, Entry, entry_for, entry_of, parse_line, raw_lines
from medgemma_cli.ledger.locking import Lock
from medgemma_cli.records import Record

# Below `SHARDS` while shards are being merged; see `sharding.joining`.
MERGE = "merge.json"


class DamagedRecordError(Exception):
    """A line that was indexed is no record. Says nothing of what it holds."""


class Ledger:
    """The records of one output folder, open for one writer. Use as a context manager.

    Args:
        below: of a shard, the ledger of the whole folder, read only: what is merged already.
        merging: whoever opens it goes on with a merge; all others are refused in the middle of one.

    Attributes:
        current: slot → the entry of its last line.
        by_key: key → the last entry with it, whatever its slot.
        warnings: what opening found and mended, in plain words without document text.
    """

    def __init__(
        self,
        out: Path,
        *,
        fsync: bool = True,
        read_only: bool = False,
        below: "Ledger | None" = None,
        merging: bool = False,
    ) -> None:
        self.out = out
        self.path = out / RECORDS
        self.current: dict[str, Entry] = {}
        self.by_key: dict[str, Entry] = {}
        self.warnings: list[str] = []
        self.below = below
        self._merging = merging
        self._fsync = fsync
        self._read_only = read_only
        self._lock: Lock | None = None
        self._file: AppendOnly | None = None

    def __enter__(self) -> Self:
        """Lock, repair and index.

        Raises:
            OutputError: 73, the folder cannot be written.
            RunAgainError: 75, another run holds it.
            ConfigError: 78, a newer ledger, a filesystem that cannot lock, or a merge that was
                interrupted.

        With `read_only` there is no lock and no repair, and a missing ledger is an empty one.
        """
        if self._read_only:
            self._peek()
            return self
        try:
            make_folder(self.out, fsync=self._fsync)
            self._lock = Lock(self.out)
            self._refuse_half_merged()
            self._file = AppendOnly(self.path, fsync=self._fsync)
            if self._fsync:
                sync_folder(self.out)  # the ledger's name must last, too
            self._open(self._file)
        except (OSError, StorageError) as error:
            self.close()
            why = error.strerror if isinstance(error, OSError) else "it cannot be repaired"
            raise OutputError(
                f"The output folder cannot be written ({why}).",
                "Check -o, its permissions and the free space.",
            ) from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and the lock."""
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()
        self._file = self._lock = None

    @property
    def size(self) -> int:
        """Bytes of whole lines: what is committed from now on begins there or later."""
        return self._file.size if self._file is not None else 0

    # -- opening ------------------------------------------------------------------------------

    def _refuse_half_merged(self) -> None:
        # What stands behind the merge's beginning may be cut off when it is begun again.
        if not self._merging and (self.out / SHARDS / MERGE).exists():
            raise ConfigError(
                "A merge of this output folder was interrupted.", "Run `medgemma merge` on it."
            )

    def _peek(self) -> None:
        if self.path.is_file():
            for offset, raw in raw_lines(self.path):
                if (line := parse_line(raw)) is not None:
                    self._remember(entry_of(line, offset))

    def _open(self, file: AppendOnly) -> None:
        for offset, raw in raw_lines(self.path):
            if not raw.endswith(b"\n"):
                self._mend_tail(file, offset, raw)
                break
            line = parse_line(raw)
            if line is not None:
                self._remember(entry_of(line, offset))
                continue
            self.quarantine(raw)
            self.warnings.append(
                f"{RECORDS}: a damaged line at byte {offset} was copied to {QUARANTINE}/ and "
                "left; its document runs again."
            )

    def _mend_tail(self, file: AppendOnly, offset: int, raw: bytes) -> None:
        """Complete or cut off a last line without its newline."""
        line = parse_line(raw)
        if line is not None:
            file.append(b"\n")
            self._remember(entry_of(line, offset))
        else:
            self.quarantine(raw)
            file.cut(offset)
            self.warnings.append(f"{RECORDS}: an unfinished last line was moved to {QUARANTINE}/.")
        file.sync()

    def quarantine(self, raw: bytes) -> None:
        """Keep a copy of bytes that are not understood; the same bytes are kept once."""
        path = self.out / QUARANTINE / f"line-{hashlib.sha256(raw).hexdigest()[:16]}"
        if not path.exists():
            replace_file(path, raw)

    # -- starting over ------------------------------------------------------------------------

    def forget(self) -> None:
        """Empty the index: as if the folder were new."""
        self.current.clear()
        self.by_key.clear()

    def start_over(self) -> str:
        """Move the old ledger to the quarantine and go on with an empty one; the folder's name."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        folder = self.out / QUARANTINE / stamp
        make_folder(folder)
        os.replace(self.path, folder / RECORDS)
        self._opened().close()
        self._file = AppendOnly(self.path, fsync=self._fsync)
        sync_folder(self.out)
        self.forget()
        return f"{QUARANTINE}/{stamp}"

    # -- committing ---------------------------------------------------------------------------

    def commit(self, record: Record) -> None:
        """Append a record, whole, and make it durable. Only then is the work done.

        Raises:
            StorageError: 74; the file is as it was before.
            RunAgainError: 75; the lock file was removed.
        """
        self.append(record)
        self.sync()

    def append(self, record: Record) -> None:
        """Append a record, whole: safe from a kill; safe from a power loss after `sync`.

        Raises:
            StorageError: 74; the file is as it was before.
            RunAgainError: 75; the lock file was removed.
        """
        data = record.model_dump_json(by_alias=True, ensure_ascii=True).encode("ascii") + b"\n"
        file = self._opened()
        assert self._lock is not None
        self._lock.check()
        self._remember(entry_for(record, file.append(data)))

    def sync(self) -> None:
        """Make every record appended so far durable.

        Raises:
            StorageError: 74; a failed fsync is never tried again.
            RunAgainError: 75; the lock file was removed.
        """
        assert self._lock is not None
        self._lock.check()
        self._opened().sync()

    def _opened(self) -> AppendOnly:
        assert self._file is not None, "the ledger is not open for writing"
        return self._file

    def _remember(self, entry: Entry) -> None:
        self.current[entry.slot] = entry
        self.by_key[entry.key] = entry

    def append_line(self, raw: bytes) -> Entry:
        """Append another ledger's line, byte for byte; safe from a power loss after `sync`.

        Raises:
            StorageError: 74; the file is as it was before, or the line is none of a ledger.
            RunAgainError: 75; the lock file was removed.
        """
        file, line = self._opened(), parse_line(raw)
        if line is None or not raw.endswith(b"\n"):
            raise StorageError("A line to be merged is no record.", "Run its shard again.")
        assert self._lock is not None
        self._lock.check()
        entry = entry_of(line, file.append(raw))
        self._remember(entry)
        return entry

    # -- looking up ---------------------------------------------------------------------------

    def at(self, slot: str) -> Entry | None:
        """The current entry of a slot, here or below."""
        entry = self.current.get(slot)
        if entry is None and self.below is not None:
            entry = _merged(self.below.current.get(slot))
        return entry

    def of(self, key: str) -> Entry | None:
        """The last entry with a key, here or below."""
        entry = self.by_key.get(key)
        if entry is None and self.below is not None:
            entry = _merged(self.below.by_key.get(key))
        return entry

    # -- reading back -------------------------------------------------------------------------

    def read(self, entry: Entry) -> Record:
        """The record of an entry, read back from the file.

        Raises:
            DamagedRecordError: the line has what the index needs, and is no record.
            StorageError: 74, somebody else changed the file.
        """
        with self._holder(entry).path.open("rb") as file:
            file.seek(entry.offset)
            line = parse_line(file.readline())
        if line is None:
            raise StorageError(
                f"{RECORDS} changed underneath this run.", "Run again; nothing finished is lost."
            )
        try:
            return Record.model_validate(line)
        except ValidationError:
            raise DamagedRecordError from None  # pydantic quotes what it refuses

    def drop(self, entry: Entry) -> None:
        """Forget a damaged record, with a copy of its line; its document is to run again."""
        holder = self._holder(entry)
        with holder.path.open("rb") as file:
            file.seek(entry.offset)
            self.quarantine(file.readline())
        holder.current.pop(entry.slot, None)
        holder.by_key.pop(entry.key, None)
        self.warnings.append(
            f"{RECORDS}: a damaged record at byte {entry.offset} was copied to {QUARANTINE}/ and "
            "left; its document runs again."
        )

    def _holder(self, entry: Entry) -> "Ledger":
        return self.below if entry.merged and self.below is not None else self


def _merged(entry: Entry | None) -> Entry | None:
    return entry._replace(merged=True) if entry is not None else None
