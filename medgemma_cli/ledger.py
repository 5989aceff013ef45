"""`OUT/records.jsonl`: the commit point. Append-only, one writer, repaired on opening.

Promise: at most one commit per key and slot; only what was in flight at a kill is done again.
A *slot* is one document's place in the output folder (its summary file's name); the last line of
a slot is its current record.
"""

import errno
import fcntl
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, get_args

import jsonlines
from pydantic_core import from_json

from medgemma_cli.errors import ConfigError, OutputError, RunAgainError, StorageError
from medgemma_cli.files import make_folder, replace_file, sync_folder, write_all
from medgemma_cli.records import RECORD_SCHEMA, Record, Status

RECORDS = "records.jsonl"
LOCK = ".lock"
QUARANTINE = "quarantine"
_STATUSES = frozenset(get_args(Status))
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO}
_CANNOT_LOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Entry(NamedTuple):
    """What is kept in memory of one line: enough to decide, not to show."""

    key: str
    slot: str
    source: str
    origin: str
    status: str
    attempt: int
    created: str
    offset: int


def slot_of(source: str, summary: str | None) -> str:
    """The slot of a record: its summary's name, or, for one that can have none, its source."""
    return summary if summary is not None else f"//{source}"


class Ledger:
    """The records of one output folder, open for one writer. Use as a context manager.

    Attributes:
        current: slot → the entry of its last line.
        by_key: key → the last entry with it, whatever its slot.
        warnings: what opening found and mended, in plain words without document text.
    """

    def __init__(self, out: Path, *, fsync: bool = True, read_only: bool = False) -> None:
        self.out = out
        self.path = out / RECORDS
        self.current: dict[str, Entry] = {}
        self.by_key: dict[str, Entry] = {}
        self.warnings: list[str] = []
        self._fsync = fsync
        self._read_only = read_only
        self._lock = -1
        self._file = -1
        self._size = 0

    def __enter__(self) -> Self:
        """Lock, repair and index.

        Raises:
            OutputError: 73, the folder cannot be written.
            RunAgainError: 75, another run holds it.
            ConfigError: 78, a newer ledger, or a filesystem that cannot lock.

        With `read_only` there is no lock and no repair, and a missing ledger is an empty one.
        """
        if self._read_only:
            self._peek()
            return self
        try:
            make_folder(self.out)
            self._lock = lock(self.out)
            self._file = self._open_file()
            self._open()
        except OSError as error:
            self.close()
            raise OutputError(
                f"The output folder cannot be written ({error.strerror}).",
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
        """Let go of the file and the lock. The lock file itself stays, for good."""
        _held.discard(self._lock)
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _peek(self) -> None:
        if self.path.is_file():
            for offset, raw in _lines(self.path):
                if (line := parse_line(raw)) is not None:
                    self._index(line, offset)

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
        os.close(self._file)
        self._file = self._open_file()
        sync_folder(self.out)
        self._size = 0
        self.forget()
        return f"{QUARANTINE}/{stamp}"

    def _open_file(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def _open(self) -> None:
        end = 0
        for offset, raw in _lines(self.path):
            end = offset + len(raw)
            if not raw.endswith(b"\n"):
                end = self._mend_tail(offset, raw)
                break
            self._take(offset, raw)
        self._size = end

    def _take(self, offset: int, raw: bytes) -> None:
        line = parse_line(raw)
        if line is None:
            self.quarantine(raw)
            self.warnings.append(
                f"{RECORDS}: a damaged line at byte {offset} was copied to {QUARANTINE}/ and "
                "left; its document runs again."
            )
            return
        self._index(line, offset)

    def _mend_tail(self, offset: int, raw: bytes) -> int:
        """Complete or cut off a last line without its newline; the offset after it."""
        line = parse_line(raw)
        if line is not None:
            self._write(b"\n")
            self._sync()
            self._index(line, offset)
            return offset + len(raw) + 1
        self.quarantine(raw)
        os.ftruncate(self._file, offset)
        self._sync()
        self.warnings.append(f"{RECORDS}: an unfinished last line was moved to {QUARANTINE}/.")
        return offset

    def _index(self, line: dict[str, Any], offset: int) -> None:
        slot = slot_of(line["source"], line["summary"])
        entry = Entry(
            line["key"],
            slot,
            line["source"],
            line["origin"],
            line["status"],
            line["attempt"],
            line["created"],
            offset,
        )
        self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        self.current[entry.slot] = entry
        self.by_key[entry.key] = entry

    def quarantine(self, raw: bytes) -> None:
        """Keep a copy of bytes that are not understood; the same bytes are kept once."""
        path = self.out / QUARANTINE / f"line-{hashlib.sha256(raw).hexdigest()[:16]}"
        if not path.exists():
            replace_file(path, raw)

    def commit(self, record: Record) -> None:
        """Append a record, whole, and make it durable. Only then is the work done.

        Raises:
            StorageError: 74; the file is as it was before.
            RunAgainError: 75; the lock file was removed.
        """
        data = record.model_dump_json(by_alias=True, ensure_ascii=True).encode("ascii") + b"\n"
        self._check_lock()
        try:
            self._write(data)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise _storage_error(error) from None
        try:
            self._sync()
        except OSError as error:
            # A failed fsync is never tried again: the kernel may have dropped the pages.
            raise _storage_error(error) from None
        slot = slot_of(record.source, record.summary)
        self._remember(
            Entry(
                record.key,
                slot,
                record.source,
                record.origin,
                record.status,
                record.attempt,
                record.created,
                self._size,
            )
        )
        self._size += len(data)

    def _check_lock(self) -> None:
        """Without its file the lock keeps nobody out: stop before there are two writers."""
        try:
            same = os.stat(self.out / LOCK).st_ino == os.fstat(self._lock).st_ino
        except OSError:
            same = False
        if not same:
            raise RunAgainError(
                f"The lock file ({LOCK}) of the output folder was removed.",
                "Leave it where it is; when no other run is writing there, run again.",
            )

    def _write(self, data: bytes) -> None:
        write_all(self._file, data)

    def _sync(self) -> None:
        if self._fsync:
            os.fsync(self._file)

    def read(self, entry: Entry) -> Record:
        """The record of an entry, read back from the file."""
        with self.path.open("rb") as file:
            file.seek(entry.offset)
            raw = file.readline()
        line = parse_line(raw)
        if line is None:
            raise StorageError(
                f"{RECORDS} changed underneath this run.", "Run again; nothing finished is lost."
            )
        return Record.model_validate(line)


def _storage_error(error: OSError) -> StorageError:
    what = "No room is left" if error.errno in _NO_ROOM - {errno.EIO} else "Writing failed"
    return StorageError(
        f"{what} in the output folder ({error.strerror}).",
        "Make room or check the disk, then run again; everything finished so far is kept.",
    )


def lock(out: Path) -> int:
    """Take the folder's lock; the descriptor holds it until it is closed.

    Raises:
        RunAgainError: 75, another run holds it.
        ConfigError: 78, the filesystem cannot lock.
    """
    path = out / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have removed the file we hold and another run made a new one.
        if os.fstat(descriptor).st_ino != path.stat().st_ino:
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise RunAgainError(
            "Another run holds this output folder.", "Wait until it ends, then run again."
        ) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno in _CANNOT_LOCK:
            raise ConfigError(
                "The filesystem of the output folder cannot lock.",
                "Choose -o on a local disk.",
            ) from None
        raise
    _let_go_in_children()
    _held.add(descriptor)
    return descriptor


_held: set[int] = set()


@cache
def _let_go_in_children() -> None:
    """A forked child must not keep the lock alive after its parent."""

    def let_go() -> None:
        while _held:
            os.close(_held.pop())

    os.register_at_fork(after_in_child=let_go)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            yield offset, raw
            offset += len(raw)


@cache
def _reader() -> tuple[deque[bytes], jsonlines.Reader]:
    # One reader, fed line by line: the index needs each line's offset.
    # pydantic's parser takes a third of the time of the standard library's.
    lines: deque[bytes] = deque()
    return lines, jsonlines.Reader(iter(lines.popleft, None), loads=from_json)


def _read_object(raw: bytes) -> dict[str, Any]:
    lines, reader = _reader()
    lines.clear()
    lines.append(raw)
    line: dict[str, Any] = reader.read(type=dict)
    return line


def parse_line(raw: bytes) -> dict[str, Any] | None:
    """One line as a JSON object with the fields the index needs; None for anything else.

    Raises:
        ConfigError: 78, the line is of a newer schema than this program knows.
    """
    try:
        line = _read_object(raw)
    except (jsonlines.Error, ValueError, EOFError, RecursionError):
        return None
    schema = line.get("schema")
    if schema != RECORD_SCHEMA:
        if isinstance(schema, str) and schema.startswith("medgemma.record/"):
            raise ConfigError(
                f"{RECORDS} was written by a newer medgemma ({schema[:40]}).",
                "Upgrade medgemma-cli, or choose another -o.",
            )
        return None
    texts = all(
        isinstance(line.get(name), str) for name in ("key", "source", "origin", "status", "created")
    )
    summary = line.get("summary", 0)
    whole = texts and line["status"] in _STATUSES and isinstance(line.get("attempt"), int)
    return line if whole and (summary is None or isinstance(summary, str)) else None


def current_lines(
    out: Path, wanted: Callable[[dict[str, Any]], bool] = lambda line: True
) -> Iterator[dict[str, Any]]:
    """The current record of every slot, in the order of the file; takes no lock, repairs nothing.

    Damaged lines and an unfinished last one are passed over.

    Raises:
        ConfigError: 78, there is no ledger, or a newer one.
    """
    path = out / RECORDS
    if not path.is_file():
        raise ConfigError(f"There is no {RECORDS} in that folder.", "Give the -o of a run.")
    last: dict[str, int] = {}
    for offset, raw in _lines(path):
        if (line := parse_line(raw)) is not None:
            last[slot_of(line["source"], line["summary"])] = offset
    with path.open("rb") as file:
        for offset in sorted(last.values()):
            file.seek(offset)
            line = parse_line(file.readline())
            if line is not None and wanted(line):
                yield line
