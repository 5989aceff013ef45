"""When a document is from, as it is written in a name or in front matter. Nothing is guessed.

A day (``2024-03-01``, ``20240301``, also with ``/``, ``.`` or ``_``), perhaps with a time, or a
whole number of up to five digits (a visit, a sequence). Days before months (``01/03/2024``), two
digits for a year and six digits alone are read by nobody the same way, and not here.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_NUMBER = re.compile(r"\d{1,5}")
_DAY = re.compile(
    r"(?P<year>(?:19|20)\d\d)(?P<mark>[-/._]?)(?P<month>\d\d)(?P=mark)(?P<day>\d\d)"
    r"(?:[T ._-]?(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,]\d{1,9})?)?"
    r"[ ]?(?P<zone>Z|[+-]\d\d:?\d\d)?)?"
)
_EPOCH = datetime(1900, 1, 1)


class Moment(NamedTuple):
    """A stretch of time, or a number: from `start` until just before `end`.

    Only moments of the same `kind` can be ordered, and only where they do not overlap: a day is
    neither before nor after an hour of it.
    """

    kind: str
    start: float
    end: float


def moment(text: str) -> Moment | None:
    """What a text says of time or order; None where that is unclear."""
    text = text.strip()
    if not text.isascii():
        return None
    if _NUMBER.fullmatch(text):
        return Moment("number", int(text), int(text) + 1)
    found = _DAY.fullmatch(text)
    if found is None:
        return None
    size = timedelta(days=1)
    if found["hour"]:
        size = timedelta(seconds=1) if found["second"] else timedelta(minutes=1)
    names = ("year", "month", "day", "hour", "minute", "second")
    year, month, day, hour, minute, second = (int(found[name] or 0) for name in names)
    try:
        start = datetime(year, month, day, hour, minute, second)
        if found["zone"]:
            start = _in_utc(start, found["zone"])
    except (ValueError, OverflowError):
        return None
    seconds = (start - _EPOCH).total_seconds()
    kind = "time in a zone" if found["zone"] else "time"
    return Moment(kind, seconds, seconds + size.total_seconds())


def _in_utc(start: datetime, zone: str) -> datetime:
    aware = datetime.fromisoformat(f"{start.isoformat()}{zone}")
    return aware.astimezone(UTC).replace(tzinfo=None)
