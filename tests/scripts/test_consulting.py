"""Long invented consultations: few facts, far apart, and answers that stay short."""

from random import Random

import pytest

from scripts.build_demo import golds
from scripts.build_demo.consulting import consultation
from scripts.build_demo.facts import patient, review
from scripts.build_demo.telling import Document


@pytest.fixture(params=range(12))
def seed(request: pytest.FixtureRequest) -> int:
    """One of a few."""
    return int(request.param)


def _made(seed: int) -> Document:
    draw = Random(seed)
    who = patient(draw)
    return consultation(draw, who, list(who.facts))


def test_each_fact_stands_in_a_line(seed: int) -> None:
    """Word for word, as a quote must."""
    document = _made(seed)
    lines = document.text.splitlines()
    assert all(any(one.quote in line for line in lines) for one in document.told)


def test_the_order_is_that_of_the_document(seed: int) -> None:
    """A summary that follows the facts follows the text."""
    document = _made(seed)
    assert [one for one in document.told if not one.quote] == []
    first, last = document.told[0], document.told[-1]
    assert document.text.index(first.quote) < document.text.rindex(last.quote)


def test_lengths_differ() -> None:
    """From a page to several, never without end."""
    lengths = [len(_made(seed).text) for seed in range(40)]
    assert min(lengths) < 4_000 < max(lengths) < 14_000


def test_much_is_denied_and_nothing_of_it_summed() -> None:
    """Documents with many denials; summaries of what is so, the complaint first."""
    most = 0
    for seed in range(40):
        draw = Random(seed)
        who = patient(draw)
        document = consultation(draw, who, list(who.facts))
        summed = golds._summed(document.told)
        assert not {one.fact.kind for one in summed} & set(golds._TURNED)
        assert len(summed) <= 5
        assert summed[0] == document.told[0]
        assert len(golds.summary(document)) <= 500
        most = max(most, sum(one.fact.kind == "without" for one in document.told))
    assert most >= 6


def test_nobody_denies_what_the_patient_has(seed: int) -> None:
    """The symptoms added are none of those that the facts tell."""
    draw = Random(seed)
    who = patient(draw)
    document = consultation(draw, who, list(who.facts))
    given = " ".join(fact.said + fact.asked for fact in who.facts)
    added = [one.fact for one in document.told if one.fact not in who.facts]
    assert added
    assert all(fact.item not in given for fact in added)


def test_sex_and_age_are_not_told(seed: int) -> None:
    """So a summary does not say them."""
    draw = Random(seed)
    who = patient(draw)
    document = consultation(draw, who, list(who.facts))
    assert not document.sex
    assert not document.age


def test_a_review_asks_each_symptom_once() -> None:
    """Affirmed or denied, never both."""
    kinds = set()
    for seed in range(20):
        facts = review(Random(seed), woman=bool(seed % 2))
        assert 2 <= len(facts) <= 5
        assert len({fact.item for fact in facts}) == len(facts)
        kinds |= {fact.kind for fact in facts}
    assert kinds == {"yes", "without"}
