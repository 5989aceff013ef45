"""The summaries of one ledger, kept as its records say. Needs no model."""

from medgemma_cli import summaries, views
from medgemma_cli.committing import GROUP, has_page
from medgemma_cli.errors import DocumentError, StorageError
from medgemma_cli.ledger import DamagedRecordError, Entry, Ledger


class Projection:
    """Brings the summaries of an output folder in line with its ledger.

    Attributes:
        rebuilt: how many were made again.
        altered: how many were changed by hand, and left.
    """

    def __init__(self, ledger: Ledger, *, fsync: bool = True) -> None:
        self.rebuilt = 0
        self.altered = 0
        self._ledger = ledger
        self._fsync = fsync

    def prepare(self, *, fresh: bool = False) -> None:
        """Make missing summaries again, and sweep the temporary files of a killed run.

        With `fresh`, the old ledger and its summaries move to the quarantine.

        Raises:
            StorageError: 74, the folder cannot be read or written.
            ConfigError: 78, there are summaries of a ledger that is gone, and not `fresh`.
        """
        ledger = self._ledger
        try:
            present = set(summaries.sweep(ledger.out))
            if fresh:
                folder = ledger.start_over()
                present -= set(summaries.retire(ledger.out, present, folder))
                views.retire(ledger.out, list(views.walk(ledger.out)), folder)
            elif not ledger.current:
                summaries.refuse_orphans(ledger.out, present)
        except OSError as error:
            raise StorageError(
                f"The output folder cannot be read ({error.strerror}).", "Check its permissions."
            ) from None
        for slot, entry in list(ledger.current.items()):
            if slot not in present and not slot.startswith("//"):
                self.rebuild(entry)
        # What a kill can have left of an older version is that of the last group at most.
        last = sorted(ledger.current.values(), key=lambda entry: entry.offset)[-GROUP:]
        for entry in last:
            self.follow(entry, count=False)

    def check_name(self, name: str, key: str) -> None:
        """See that a summary may be written there.

        Raises:
            DocumentError: ``output_exists``, ``output_too_long``.
        """
        known, below = self._ledger.by_key, self._ledger.below
        summaries.check_free(self._ledger.out, name, lambda k: k == key or k in known)
        if below is not None:  # where it is to stand when it is merged
            summaries.check_free(below.out, name, lambda k: k == key or k in below.by_key)

    def follow(self, entry: Entry, *, count: bool = True) -> None:
        """A record stands: see that its summary does, too. `count` it, if it was altered."""
        if entry.slot.startswith("//") or entry.merged:
            return
        state = summaries.state(f"{self._ledger.out}/{entry.slot}", entry.key, entry.created)
        if state == "altered":
            # What stands at the path of a failed record may be the file it failed for.
            self.altered += count and entry.status != "failed"
        elif state != "current":
            self.rebuild(entry)

    def rebuild(self, entry: Entry) -> None:
        """Write a record's summary again, if nothing stands in its place that is not ours.

        A damaged record is dropped from the ledger's index: its document runs again.

        Raises:
            StorageError: 74.
        """
        try:
            record = self._ledger.read(entry)
        except DamagedRecordError:
            self._ledger.drop(entry)
            return
        if not has_page(record):
            return
        try:
            self.check_name(entry.slot, entry.key)
        except DocumentError:
            self.altered += 1
            return
        summaries.write(
            self._ledger.out, [(entry.slot, summaries.render(record))], fsync=self._fsync
        )
        self.rebuilt += 1
