"""When a document is from: what is read, what is refused, what can be ordered."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.pairing.moments import moment

DAY = 86_400.0


@pytest.mark.parametrize(
    "text", ["2024-03-01", "20240301", "2024/03/01", "2024.03.01", "2024_03_01", " 2024-03-01 "]
)
def test_a_day_in_any_of_its_forms(text: str) -> None:
    """The same stretch of one day."""
    found, first = moment(text), moment("2024-03-01")
    assert found is not None and found == first
    assert found.end - found.start == DAY


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2024-03-01T10:30", 60),
        ("20240301_1030", 60),
        ("202403011030", 60),
        ("2024-03-01 10:30:15", 1),
        ("20240301103015", 1),
        ("2024-03-01T10:30:15.250", 1),
    ],
)
def test_a_time_is_within_its_day(text: str, size: int) -> None:
    """As long as it is exact, and inside the day that it names."""
    found, day = moment(text), moment("2024-03-01")
    assert found is not None and day is not None
    assert found.end - found.start == size and found.kind == day.kind
    assert day.start <= found.start < found.end <= day.end


def test_zones_are_of_their_own_kind() -> None:
    """They are compared with each other in UTC, and never with what has none."""
    z, plus = moment("2024-03-01T10:00:00Z"), moment("2024-03-01T12:30:00+02:00")
    bare = moment("2024-03-01T10:00:00")
    assert z is not None and plus is not None and bare is not None
    assert plus.start - z.start == 1800 and z.kind == plus.kind != bare.kind
    assert moment("2024-03-01T10:00+0000") is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "today", "01/03/2024", "1.3.2024", "3/1/24", "240301", "0103240", "2024-3-1"),
        *("2024-13-01", "2023-02-29", "20241345", "2024-03/01", "2024-03", "1899-01-01"),
        *("2024-03-01T25:00", "2024-03-01T10:61", "2024-03-01T10:00+99:00", "2024-03-01x"),
        *("٢٠٢٤٠٣٠١", "²", "-5", "1e3", "123456", "2024-03-01\n2024-03-02"),
    ],
)
def test_what_is_unclear_is_not_read(text: str) -> None:
    """Days before months, short years, days that do not exist, other digits: nothing is guessed."""
    assert moment(text) is None


def test_a_number_is_an_order() -> None:
    """Of a visit, up to five digits: 9 before 10."""
    nine, ten = moment("9"), moment("010")
    assert nine is not None and ten is not None
    assert nine.end == ten.start and nine.kind == "number"


@settings(deadline=None)
@given(st.dates(date(1900, 1, 1), date(2098, 12, 30)), st.integers(1, 300))
def test_days_are_ordered_as_days(day: date, later: int) -> None:
    """Whatever the days: the earlier ends before the later begins."""
    one, other = moment(f"{day:%Y-%m-%d}"), moment(f"{day + timedelta(later):%Y%m%d}")
    if day + timedelta(later) <= date(2099, 12, 31):
        assert one is not None and other is not None
        assert one.end <= other.start and other.start - one.start == later * DAY


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_comes_to_an_end(text: str) -> None:
    """A moment has a length, whatever stands in a name."""
    found = moment(text)
    assert found is None or found.end > found.start


@settings(deadline=None)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)))
def test_iso_times_are_read(when: datetime) -> None:
    """What Python writes, with its fraction of a second."""
    assert moment(when.isoformat()) is not None
