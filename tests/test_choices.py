"""How sure a model was: shares that sum to 1, thresholds, bands of doubt."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli.choices import (
    UNCERTAIN,
    confidence,
    decide,
    normalised,
    of_choice,
    of_text,
    pick,
)
from medgemma_cli.decoding import Leaf
from medgemma_cli.records import Generation

RULE: dict[str, Any] = {"positive": "yes", "negative": "no"}
logs = st.floats(min_value=-1e6, max_value=0)


def leaf(start: int, end: int) -> Leaf:
    """A span of the generation's text."""
    return Leaf("a", start, end, "")


def told(*tokens: tuple[int, float]) -> Generation:
    """A generation of these token ends and log-probabilities."""
    return Generation(id="k", text="x" * 100, tokens=tokens)


# -- normalised -----------------------------------------------------------------------------


@given(st.lists(logs, min_size=1, max_size=12))
def test_shares_sum_to_one(values: list[float]) -> None:
    """Whatever the logits, in the same order, none below 0."""
    shares = normalised(values)
    assert math.isclose(sum(shares), 1)
    assert all(0 <= share <= 1 for share in shares)
    best = values.index(max(values))
    assert shares[best] == max(shares)


@given(st.lists(logs, min_size=1, max_size=6), st.floats(-1e3, 1e3))
def test_shares_do_not_depend_on_the_level(values: list[float], by: float) -> None:
    """Only differences count: what all options share is taken out."""
    moved = normalised([value + by for value in values])
    assert moved == pytest.approx(normalised(values), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([-5.0], [1.0]),
        ([-2.0, -2.0], [0.5, 0.5]),
        ([math.log(3), 0.0], [0.75, 0.25]),
        ([0.0, -5000.0], [1.0, 0.0]),
        ([-9000.0, -9000.0, -99999.0], [0.5, 0.5, 0.0]),
        ([-1e308, 1e308], [0.0, 1.0]),
        ([0.0, -math.inf], [1.0, 0.0]),
    ],
)
def test_shares(values: list[float], shares: list[float]) -> None:
    """Far-off options underflow to nothing; the rest is not lost with them."""
    assert normalised(values) == pytest.approx(shares)


def test_options_that_are_all_impossible_have_equal_shares() -> None:
    """Logits of minus infinity, in fp16 say, do not make NaN of a record."""
    assert normalised([-math.inf, -math.inf]) == [0.5, 0.5]


# -- pick and decide ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rule", "chosen"),
    [
        ({"a": 0.2, "b": 0.5, "c": 0.3}, None, "b"),
        ({"a": 0.5, "b": 0.5}, None, "a"),
        ({"yes": 0.5, "no": 0.5}, RULE, "yes"),
        ({"yes": 0.4999, "no": 0.5001}, RULE, "no"),
        ({"yes": 0.3, "no": 0.7}, RULE | {"threshold": 0.3}, "yes"),
        ({"yes": 0.29, "no": 0.71}, RULE | {"threshold": 0.3}, "no"),
        ({"yes": 0.8, "no": 0.2}, RULE | {"threshold": 0.9}, "no"),
        ({"yes": 0.0, "no": 1.0}, RULE | {"threshold": 0}, "yes"),
        ({"yes": 1.0, "no": 0.0}, RULE | {"threshold": 1}, "yes"),
        ({"yes": 0.2, "no": 0.1, "cannot tell": 0.7}, RULE, "cannot tell"),
        ({"yes": 0.4, "no": 0.3, "cannot tell": 0.3}, RULE, "yes"),
        # The share is among the two: 0.3 of 0.7.
        ({"yes": 0.3, "no": 0.4, "cannot tell": 0.3}, RULE | {"threshold": 0.42}, "yes"),
        ({"yes": 0.0, "no": 0.0}, RULE, "yes"),
        ({"yes": 0.0, "no": 0.0, "cannot tell": 1.0}, RULE, "cannot tell"),
        ({"yes": 0.0, "no": 0.0}, RULE | {"threshold": 0.6}, "no"),
        ({"yes": 5e-324, "no": 0.0}, RULE, "yes"),
    ],
)
def test_pick(options: dict[str, float], rule: dict[str, Any] | None, chosen: str) -> None:
    """The likeliest; with a rule by its threshold, which belongs to the positive."""
    assert pick(options, rule) == chosen


BAND = RULE | {"threshold": 0.5, "uncertain": [0.3, 0.7]}


@pytest.mark.parametrize(
    ("share", "value"),
    [
        (0.0, "no"),
        (0.29, "no"),
        (0.31, UNCERTAIN),
        (0.5, UNCERTAIN),
        (0.69, UNCERTAIN),
        (0.71, "yes"),
        (1.0, "yes"),
    ],
)
def test_the_band_of_doubt(share: float, value: str) -> None:
    """Inside it nothing is decided, and a flag says so."""
    decided, flag = decide("urgent", {"yes": share, "no": 1 - share}, BAND)
    assert decided == value
    assert (flag is not None) is (value == UNCERTAIN)
    if flag:
        assert (flag.rule, flag.severity, flag.where) == (UNCERTAIN, "note", "urgent")
        assert flag.value == f"{share:.3f}"


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_edge_of_the_band_is_decided(share: float) -> None:
    """A band is open at its ends."""
    rule = RULE | {"uncertain": [0.25, 0.75]}
    decided, flag = decide("a", {"yes": share, "no": 1 - share}, rule)
    assert (decided, flag) == ("yes" if share > 0.5 else "no", None)


def test_an_abstention_is_never_uncertain() -> None:
    """The model said itself that it cannot tell."""
    options = {"yes": 0.2, "no": 0.2, "cannot tell": 0.6}
    assert decide("a", options, BAND) == ("cannot tell", None)


def test_two_options_that_underflowed_are_in_doubt() -> None:
    """Nothing is known of either; with a band that is said."""
    decided, flag = decide("a", {"yes": 0.0, "no": 0.0}, BAND)
    assert decided == UNCERTAIN
    assert flag is not None and flag.value == "0.500"


@given(
    st.lists(logs, min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted),
)
def test_decide_is_pick_or_in_doubt(values: list[float], bounds: list[float]) -> None:
    """What is decided outside the band is what was written."""
    options = dict(zip(["yes", "no", "other"], normalised(values), strict=True))
    low, threshold, high = bounds
    rule = RULE | {"threshold": threshold, "uncertain": [low, high]}
    decided, flag = decide("a", options, rule)
    assert (decided == UNCERTAIN) is (flag is not None)
    assert flag or decided == pick(options, rule)
    assert pick(options, rule) in options


def test_the_reason_of_a_flag_holds_no_words_of_the_document() -> None:
    """Plain words of ours; the options' names are the template's."""
    _, flag = decide("a", {"yes": 0.5, "no": 0.5}, BAND)
    assert flag is not None
    assert "0.3" in flag.why and "yes" not in flag.why


# -- confidence -----------------------------------------------------------------------------


def test_of_choice() -> None:
    """The probability of what was written, and all of them; a copy."""
    options = {"yes": 0.25, "no": 0.75}
    made = of_choice(options, "no")
    assert made == {"method": "choice_probability", "value": 0.75, "options": options}
    assert made["options"] is not options
    assert of_choice(options, "else")["value"] == 0.0


@pytest.mark.parametrize(
    ("tokens", "mean", "least"),
    [
        (((11, 0.0), (15, math.log(0.5))), 0.75, 0.5),
        # One that ends where the span begins, and one that goes on behind it, do not count.
        (((10, math.log(0.1)), (20, math.log(0.5)), (21, math.log(0.1))), 0.5, 0.5),
        (((11, -5000.0), (12, 0.0)), 0.5, 0.0),
    ],
)
def test_of_text(tokens: tuple[tuple[int, float], ...], mean: float, least: float) -> None:
    """Mean and least of the tokens that end inside the span."""
    made = of_text(told(*tokens), leaf(10, 20))
    assert made is not None
    assert made["method"] == "token_probability"
    assert (made["value"], made["mean"], made["minimum"]) == (mean, mean, least)


def test_a_text_that_the_model_did_not_choose_has_no_confidence() -> None:
    """Forced by the grammar, or told by no engine."""
    assert of_text(told(), leaf(0, 20)) is None
    assert of_text(told((30, -1.0)), leaf(0, 20)) is None


CHOICE = {"method": "choice_probability", "value": 0.75, "options": {}}


def text_of(value: float) -> dict[str, Any]:
    """A text's confidence."""
    return {"method": "token_probability", "value": value, "mean": value, "minimum": value}


@pytest.mark.parametrize(
    ("fields", "value", "method"),
    [
        ({"a": CHOICE, "b": text_of(0.5)}, 0.75, "choice_probability"),
        ({"b": text_of(0.5), "a": CHOICE, "c": text_of(1.0)}, 0.75, "token_probability"),
        ({"b": text_of(0.25)}, 0.25, "token_probability"),
        ({"n": None, "a": CHOICE}, 0.75, "choice_probability"),
    ],
)
def test_a_records_confidence(fields: dict[str, Any], value: float, method: str) -> None:
    """The first field's, if that is a choice; else the mean of the texts."""
    made = confidence(fields)
    assert made is not None
    assert (made["value"], made["method"]) == (value, method)
    assert made["fields"] == {name: field for name, field in fields.items() if field}


@pytest.mark.parametrize("fields", [{}, {"a": None}])
def test_no_confidence(fields: dict[str, None]) -> None:
    """None is said where none is known."""
    assert confidence(fields) is None
