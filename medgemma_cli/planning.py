"""What is to be done with each source, and why. Reads sources; loads and writes nothing."""

import contextlib
import os
from typing import Any, NamedTuple

from medgemma_cli import identity, readers, summaries
from medgemma_cli.errors import DocumentError
from medgemma_cli.job import Job
from medgemma_cli.ledger import Entry, Ledger, slot_of
from medgemma_cli.readers import tables
from medgemma_cli.readers.dicom import series
from medgemma_cli.records import Source, Which

PAIRING_ERRORS = {"pair_date", "pair_order"}


class Decision(NamedTuple):
    """What is to be done with one source, and why.

    `action` is ``cached`` (its current record stands), ``reuse`` (an earlier record becomes
    current again), ``duplicate`` (the same bytes have a record under another name, or were
    taken before in this run: then without `entry`), ``infer``,
    or ``refuse`` (`error` says why it cannot be read; of a pair `about` says which).
    `long_key` is the key that it has if its document turns out to be longer than the window and
    is not simply refused for that.
    """

    action: str
    why: str
    source: Source
    name: str | None
    key: str
    blob: readers.Blob | None = None
    entry: Entry | None = None
    attempt: int = 1
    error: str | None = None
    long_key: str | None = None
    about: Which | None = None


class Planner:
    """Decides, with one ledger and one job.

    Args:
        engine_identity: what of the engine is part of every key.
        long: what is part of the keys of documents longer than the window; see `longdocs`.
    """

    def __init__(
        self,
        job: Job,
        ledger: Ledger,
        engine_identity: dict[str, Any],
        long: dict[str, Any] | None = None,
    ) -> None:
        self._job = job
        self._ledger = ledger
        self._settings = job.settings(engine_identity)
        self._long = long
        self._read_limits = tuple(job.read_limits)
        self._names: set[str] = set()
        self._taken: dict[str, str] = {}

    def decide(self, source: Source) -> Decision:
        """What to do with a source; its bytes are read, since only they say what it is."""
        name = self._name(source)
        try:
            blob = readers.load(source, self._job.read_limits)
        except DocumentError as error:
            key = self._unread_key(source)
            refused = Decision("refuse", error.code, source, name, key, error=error.code)
            refused = refused._replace(about=error.document)
            return self._known(refused) or refused._replace(attempt=self._attempt(key))
        version = readers.version(source, blob)
        key = identity.document_key(self._settings, blob.mark, version, self._read_limits)
        wanted = Decision("infer", "new", source, name, key, blob, attempt=self._attempt(key))
        # How long it is, in tokens, is known once it was read; its record knows it now.
        wanted = wanted._replace(long_key=identity.long_key(key, self._long))
        if key in self._taken:
            return wanted._replace(action="duplicate", why=f"of {self._taken[key]}")
        known = None if self._job.force else self._known_either(wanted)
        if known is not None:
            return known
        self._taken[key] = source.relative
        if self._job.force:
            return wanted._replace(why="forced")
        current = self._ledger.at(slot_of(source.relative, name))
        if current is not None:
            same = current.key in (key, wanted.long_key)
            wanted = wanted._replace(why="retry" if same else "changed")
        return wanted

    def as_long(self, decision: Decision) -> Decision:
        """The decision, now that its document is known to be longer than the window."""
        key = decision.long_key
        if key is None:
            return decision
        return decision._replace(key=key, long_key=None, attempt=self._attempt(key))

    def _attempt(self, key: str) -> int:
        earlier = self._ledger.of(key)
        return earlier.attempt + 1 if earlier and earlier.status == "failed" else 1

    def _known_either(self, wanted: Decision) -> Decision | None:
        """As `_known`, whether the document proved to be long or not.

        That it is too long does not stand where long documents are read.
        """
        if wanted.long_key is None:
            return self._known(wanted)
        if (known := self._known(self.as_long(wanted))) is not None:
            return known
        known = self._known(wanted)
        too_long = known and known.entry and known.entry.error == "too_long"
        return None if too_long else known

    def _known(self, wanted: Decision) -> Decision | None:
        """The decision where the ledger has a record of the key that may stand."""
        slot = slot_of(wanted.source.relative, wanted.name)
        current = self._ledger.at(slot)
        entry = current
        if entry is None or entry.key != wanted.key:
            entry = self._ledger.of(wanted.key)
        if entry is None:
            return None
        again = self._job.retry_failed and entry.attempt < self._job.max_attempts
        if entry.status == "failed" and (again or entry.slot != slot):
            return None
        prior = wanted.source.prior and wanted.source.prior.relative
        if entry is current and entry.prior == prior:
            return wanted._replace(action="cached", why=entry.status, entry=entry)
        action = "reuse" if entry.slot == slot else "duplicate"
        return wanted._replace(action=action, why=f"of {entry.source}", entry=entry)

    def _name(self, source: Source) -> str | None:
        """The summary's name: the source's own, unless another living document has it."""
        if source.error == "path_escape":
            return None
        wanted = source.name or source.relative
        name = summaries.output_name(wanted)
        entry = self._ledger.at(name)
        rival = entry is not None and entry.origin != source.origin
        if rival and entry is not None:
            rival = _home(entry.origin) != _home(source.origin)
        if name in self._names or (rival and entry is not None and _stands(entry.origin)):
            name = summaries.output_name(wanted, salt=source.origin)
        self._names.add(name)
        return name

    def _unread_key(self, source: Source) -> str:
        if source.prior is not None:
            alone = source.model_copy(update={"prior": None})
            both = f"{self._unread_key(source.prior)} {self._unread_key(alone)}"
            return identity.unread_key(self._settings, both, None, None, self._read_limits)
        if source.row is not None:
            # Of the row alone: what changes elsewhere in its table changes nothing here.
            said = identity.digest([source.origin, source.error, *source.row.said])
            return identity.unread_key(self._settings, said, None, None, self._read_limits)
        if source.error in PAIRING_ERRORS:
            # Facts about others, which come and go while this file stays as it is.
            said = f"{source.error} {source.origin}"
            return identity.unread_key(self._settings, said, None, None, self._read_limits)
        size: int | None = None
        changed: int | None = None
        with contextlib.suppress(OSError, ValueError):
            found = [os.stat(place) for place in source.parts or (source.place,)]
            size = sum(status.st_size for status in found)
            changed = max(status.st_mtime_ns for status in found)
        return identity.unread_key(self._settings, source.origin, size, changed, self._read_limits)


def _home(origin: str) -> str:
    """The file that a record was made of: of a row, its table, in which rows may move."""
    return tables.table_of(origin) or origin


def _stands(origin: str) -> bool:
    """Whether what a record was made of is still there: a file, or the slices of a series."""
    return os.path.exists(_home(origin)) or bool(series.files_of(origin))
