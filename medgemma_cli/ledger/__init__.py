"""`OUT/records.jsonl`, the truth, and what guards it: the lock, the appends, the attempts."""

from medgemma_cli.ledger.attempts import ATTEMPTS, CRASHES, Attempts
from medgemma_cli.ledger.book import DamagedRecordError, Ledger
from medgemma_cli.ledger.lines import RECORDS, Entry, current_lines, slot_of
from medgemma_cli.ledger.locking import LOCK

__all__ = [
    "ATTEMPTS",
    "CRASHES",
    "LOCK",
    "RECORDS",
    "Attempts",
    "DamagedRecordError",
    "Entry",
    "Ledger",
    "current_lines",
    "slot_of",
]
