"""Sources → pairs: neighbours in time, and nothing lost on the way."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.pairing import Pairs, rule
from medgemma_cli.pairing.grouping import ALONE, UNMATCHED
from medgemma_cli.records import Source

BY_NAME = r"name:(?P<patient>[^_]+)_(?P<date>.*)"


class Stream:
    """Sources of these names, in this order."""

    def __init__(self, *names: str, broken: str = "") -> None:
        self.skipped = Counter({".xyz": 1})
        self.walks = 0
        self._names = names
        self._broken = broken

    def __iter__(self) -> Iterator[Source]:
        self.walks += 1
        for name in self._names:
            error = "unsupported" if name == self._broken else None
            yield Source(place=name, relative=name, origin=f"/{name}", error=error)


def told(*names: str, written: str = BY_NAME, broken: str = "") -> dict[str, str | None]:
    """For each source that comes out, its prior or its error."""
    pairs = Pairs(Stream(*names, broken=broken), rule(written))
    return {s.relative: s.prior.relative if s.prior else s.error for s in pairs}


def test_each_with_the_one_before() -> None:
    """By date, whatever their order; more than two make consecutive pairs."""
    found = told("a_20240301", "b_20240101", "a_20240101", "a_20240501", "b_20240102")
    assert found == {
        "a_20240301": "a_20240101",
        "a_20240501": "a_20240301",
        "b_20240102": "b_20240101",
    }
    assert list(found) == ["a_20240301", "a_20240501", "b_20240102"]


def test_swapped_dates_swap_the_pair() -> None:
    """The date decides, not the name."""
    assert told("a_20240102", "a_20240101") == {"a_20240102": "a_20240101"}


def test_what_is_alone_is_counted_and_named() -> None:
    """By reason, beside what was skipped before."""
    pairs = Pairs(Stream("a_20240101", "readme", "b_20240101", "b_20240102"), rule(BY_NAME))
    assert [s.relative for s in pairs] == ["b_20240102"]
    assert pairs.skipped == {".xyz": 1, ALONE: 1, UNMATCHED: 1}
    assert [(why, s.relative) for why, s in pairs.alone] == [
        (ALONE, "a_20240101"),
        (UNMATCHED, "readme"),
    ]


def test_the_same_date_twice() -> None:
    """Which comes first nobody knows: neither they nor what follows them is compared."""
    assert told("a_20240101", "a_20240201", "a_2024-02-01", "a_20240301", "a_20240401") == {
        "a_20240201": "pair_order",
        "a_2024-02-01": "pair_order",
        "a_20240301": "pair_order",
        "a_20240401": "a_20240301",
    }
    assert told("a_20240201", "a_2024-02-01") == {
        "a_20240201": "pair_order",
        "a_2024-02-01": "pair_order",
    }


def test_a_day_and_an_hour_of_it() -> None:
    """Neither is before the other; two hours are."""
    assert set(told("a_20240101", "a_20240101T10:00").values()) == {"pair_order"}
    assert told("a_20240101T09:00", "a_20240101T10:00") == {"a_20240101T10:00": "a_20240101T09:00"}


def test_a_date_that_is_unclear() -> None:
    """It is told of by itself; the others of its group are still compared."""
    assert told("a_20240101", "a_240201", "a_20240301", "a_") == {
        "a_240201": "pair_date",
        "a_20240301": "a_20240101",
        "a_": "pair_date",
    }


def test_of_two_one_is_unclear() -> None:
    """The other one is alone then, and said to be."""
    pairs = Pairs(Stream("a_20240101", "a_soon"), rule(BY_NAME))
    assert [(s.relative, s.error) for s in pairs] == [("a_soon", "pair_date")]
    assert [s.relative for _, s in pairs.alone] == ["a_20240101"]


def test_dates_of_two_kinds_in_one_group() -> None:
    """A number and a day cannot be ordered: all of the group are told of."""
    assert set(told("a_1", "a_2", "a_20240101").values()) == {"pair_date"}


def test_what_was_wrong_before_stays_wrong() -> None:
    """A file of another kind, named outright, keeps its own error and is no prior."""
    found = told("a_20240101", "a_20240201.xyz", "a_20240301", broken="a_20240201.xyz")
    assert found == {"a_20240201.xyz": "unsupported", "a_20240301": "a_20240101"}


def test_what_cannot_be_opened_is_passed_on() -> None:
    """Reading it will say why; it is not lost."""
    pairs = Pairs(Stream("gone.md"), rule("front-matter"))
    assert [(s.relative, s.error, s.prior) for s in pairs] == [("gone.md", None, None)]


def test_names_and_masks() -> None:
    """A summary of its own; front matter is hidden where patients were told apart by it."""
    (pair,) = Pairs(Stream("a_20240101.md", "a_20240201.md"), rule(BY_NAME.replace(".*", r"\d+")))
    assert pair.name == "a_20240201.md.compared" and not pair.masked
    assert pair.origin == "/a_20240201.md"
    assert rule("front-matter").masks


def test_limit_and_again() -> None:
    """The first so many; a second walk is the same, and looks at nothing again."""
    stream = Stream("a_1", "a_2", "a_3")
    pairs = Pairs(stream, rule(BY_NAME), limit=1)
    assert [s.relative for s in pairs] == [s.relative for s in pairs] == ["a_2"]
    assert stream.walks == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), max_size=20, unique=True))
def test_nothing_is_lost(drawn: list[tuple[str, int]]) -> None:
    """Every document is the current one of a pair, told of, alone, or the first of its group."""
    names = [f"{who}_{when}" for who, when in drawn]
    pairs = Pairs(Stream(*names), rule(BY_NAME))
    found = list(pairs)
    for who in "abc":
        mine = sorted(int(name[2:]) for name in names if name.startswith(who))
        priors = {s.relative: s.prior.relative for s in found if s.prior and s.relative[0] == who}
        steps = pairwise(mine)
        assert priors == {f"{who}_{after}": f"{who}_{before}" for before, after in steps}
    alone = sum(1 for who in "abc" if sum(n.startswith(who) for n in names) == 1)
    assert len(pairs.alone) == alone


@pytest.mark.parametrize("patients", [1, 5000])
def test_many_documents_take_no_time(patients: int) -> None:
    """10,000 of one patient, or of thousands."""
    names = [f"p{i % patients}_{i // patients + 1}" for i in range(10_000)]
    started = time.perf_counter()
    assert len(list(Pairs(Stream(*names), rule(BY_NAME)))) == 10_000 - patients
    assert time.perf_counter() - started < 10
