"""The sheets of one ledger (`--keep-views`): made before the model is asked, written before the
record is, made again from the source where one is missing. Needs no model.

A shard keeps those of its own records; they are put in their place when it is merged. Those of
what is merged already it reads, and leaves.
"""

from collections.abc import Callable
from pathlib import Path

from medgemma_cli import files, summaries, views
from medgemma_cli.errors import DocumentError, StorageError
from medgemma_cli.ledger import Entry, Ledger
from medgemma_cli.records import Image, Record

BLOCKED = "views_not_kept:file_in_the_way"

Look = Callable[[], tuple[Image, ...]]


class Keeper:
    """Keeps what the model saw.

    Args:
        wanted: whether new sheets are; those that a record has are kept either way.

    Attributes:
        rebuilt: how many were made again.
        altered: how many were changed by hand, and left.
    """

    def __init__(self, ledger: Ledger, *, wanted: bool, fsync: bool = True) -> None:
        self.rebuilt = 0
        self.altered = 0
        self._ledger = ledger
        self._wanted = wanted
        self._fsync = fsync

    def drawn(self, images: tuple[Image, ...], key: str) -> bytes | None:
        """The sheet of what goes to the model; None where there is nothing, or it is not wanted."""
        return views.sheet(images, key) if self._wanted and images else None

    def kept(self, record: Record, sheet: bytes | None) -> Record:
        """The record with its sheet, which is written now: a record never lacks one it speaks of.

        Raises:
            StorageError: 74; the record is to be left.
        """
        if sheet is None or record.summary is None:
            return record
        if not self._free(views.name_of(record.summary)):
            return record.model_copy(update={"degraded": (*record.degraded, BLOCKED)})
        return record.model_copy(update={"views": self._write(record.summary, sheet)})

    def copied(self, record: Record, summary: str | None, look: Look) -> str | None:
        """The sheet of a record that is to be current under a name: of its own, another's, or new.

        Raises:
            StorageError: 74.
        """
        if summary is None or not self.has(record):
            return None
        name = views.name_of(summary)
        if views.state(self._ledger.out / name, record.key) == "current":
            return name
        if not self._free(name):
            return None
        sheet = self._of_another(record) or self._again(record.key, look)
        return self._write(summary, sheet) if sheet is not None else None

    def lacks(self, entry: Entry) -> bool:
        """Whether the sheet of a record that stands is to be made: it is not there, or never was.

        One that was changed by hand is counted and left.
        """
        if entry.slot.startswith("//") or not (self._wanted or entry.views):
            return False
        if entry.merged and entry.views:
            return False  # a run of the whole folder sees to it
        out = self._places[-1] if entry.merged else self._ledger.out
        state = views.state(out / views.name_of(entry.slot), entry.key)
        self.altered += state == "altered" and entry.views
        return state in ("missing", "stale") or (state == "current" and not entry.views)

    def has(self, record: Record) -> bool:
        """Whether a record has a sheet, or is to have one."""
        seen = record.usage is not None and record.usage.images > 0
        return record.views is not None or (self._wanted and seen)

    @property
    def _places(self) -> list[Path]:
        """The ledger's folder; of a shard, also the one in which its sheets will stand."""
        below = self._ledger.below
        return [self._ledger.out, *([below.out] if below is not None else [])]

    def _of_another(self, record: Record) -> bytes | None:
        if record.summary is None:
            return None
        for out in self._places:
            path = out / views.name_of(record.summary)
            if views.state(path, record.key) == "current":
                return summaries.read(path)
        return None

    def _again(self, key: str, look: Look) -> bytes | None:
        try:
            images = look()
        except DocumentError:
            return None
        self.rebuilt += bool(images)
        return views.sheet(images, key) if images else None

    def _free(self, name: str) -> bool:
        """Whether nothing stands there, or a sheet, perhaps of a record that a kill prevented."""
        return all(views.is_free(out, name) for out in self._places)

    def _write(self, summary: str, sheet: bytes) -> str:
        name = views.name_of(summary)
        try:
            files.replace_file(f"{self._ledger.out}/{name}", sheet, fsync=self._fsync)
        except OSError as error:
            raise StorageError(
                f"A sheet of views could not be written ({error.strerror}).",
                "Make room or check the folder, then run again; what is recorded is kept.",
            ) from None
        return name
