"""Quotes are verbatim, white space folded, and their offsets point into the text as read."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medgemma_cli.quoting import locate
from medgemma_cli.safety.grounding import check_quotes

NOTE = (
    "Plan:\r\n  Start amoxicillin 500 mg\r\n  three times daily (7 days).\r\n"
    "Señora — 5 µg/kg [IV] a+b? $3.50 ^x \\d. No fracture."
)


@pytest.mark.parametrize(
    ("quote", "verbatim"),
    [
        ("Start amoxicillin 500 mg", "Start amoxicillin 500 mg"),
        ("amoxicillin 500 mg three times daily", "amoxicillin 500 mg\r\n  three times daily"),
        ("  Start\n amoxicillin\t500 mg ", "Start amoxicillin 500 mg"),
        ("Plan: Start", "Plan:\r\n  Start"),
        ("(7 days).", "(7 days)."),
        ("Señora — 5 µg/kg [IV]", "Señora — 5 µg/kg [IV]"),
        ("a+b? $3.50 ^x \\d.", "a+b? $3.50 ^x \\d."),
        ("fracture.", "fracture."),
    ],
)
def test_a_quote_is_found_as_it_stands(quote: str, verbatim: str) -> None:
    """Line ends, indents, non-ASCII and regex metacharacters do not hide a quote."""
    span = locate(quote, NOTE)
    assert span is not None
    assert NOTE[slice(*span)] == verbatim


@pytest.mark.parametrize(
    "quote",
    [
        "",
        "   ",
        "start amoxicillin 500 mg",
        "amoxicillin 250 mg",
        "Start  500 mg",
        "amoxicillin500 mg",
        "Senora",
        "No.fracture",
        ".*",
        "Plan: Start amoxicillin 500 mg twice",
        "fracture. Plan:",
    ],
)
def test_what_does_not_stand_there_is_not_found(quote: str) -> None:
    """Another case, another number, left-out words or a pattern are no quote."""
    assert locate(quote, NOTE) is None


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("5 mg daily", "warfarin 125 mg daily"),
        ("5 mg daily", "warfarin 2.5 mg daily"),
        ("take 1", "take 10 tablets"),
        ("fracture", "nonfracture"),
    ],
)
def test_a_quote_does_not_begin_or_end_inside_a_number_or_word(quote: str, text: str) -> None:
    """`5 mg` is no quote of `125 mg`: a part of a number is another number."""
    assert locate(quote, text) is None


def test_the_first_place_counts() -> None:
    """A quote that stands twice has the offsets of its first place."""
    assert locate("no fall", "no fall, no fall") == (0, 7)


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\u2028", "\x0c", "\x85", "\t", "\r"])
def test_every_kind_of_white_space_folds(space: str) -> None:
    """No-break spaces, separators and form feeds between words are white space."""
    assert locate("5 mg", f"a 5{space}mg") == (2, 6)
    assert locate(f"5{space}mg", "a 5 mg") == (2, 6)


def test_offsets_are_code_points_of_the_text() -> None:
    """Emoji and combining marks before a quote count as code points, not bytes or UTF-16."""
    text = "🩺é e\u0301 stable"
    assert locate("stable", text) == (6, 12)


@given(st.text(max_size=200), st.data())
def test_every_run_of_words_is_located(text: str, data: st.DataObject) -> None:
    """Any words that follow each other are found, and the span folds to the same words."""
    words = text.split()
    assume(words)
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    wanted = " ".join(words[start:end])
    span = locate(wanted, text)
    assert span is not None
    assert " ".join(text[slice(*span)].split()) == wanted


@given(st.text(alphabet="ab .*+\n", max_size=12), st.text(alphabet="ab .*+\n", max_size=30))
def test_what_is_located_is_the_quote(quote: str, text: str) -> None:
    """Whatever is located folds to the quote: a metacharacter never matches something else."""
    span = locate(quote, text)
    if span is not None:
        assert text[slice(*span)].split() == quote.split()


def test_a_long_quote_in_a_long_text_comes_to_an_end() -> None:
    """A document of half a megabyte that matches nearly everywhere, searched without a result."""
    text = ("a " * 30 + "b\n") * 10_000
    assert locate("a " * 30 + "c", text) is None


def test_quotes_are_checked_where_they_are() -> None:
    """A found quote becomes a record of the text's own words; one not there becomes a flag."""
    pairs = [
        ("key_findings[0]", "amoxicillin 500 mg three times daily"),
        ("key_findings[1]", "a fracture"),
        ("main", "No fracture."),
    ]
    quotes, flags = check_quotes(iter(pairs), NOTE)
    assert [(quote.where, quote.text, quote.line) for quote in quotes] == [
        ("key_findings[0]", "amoxicillin 500 mg\r\n  three times daily", 2),
        ("main", "No fracture.", 4),
    ]
    assert all(NOTE[quote.start : quote.end] == quote.text for quote in quotes)
    assert [(f.rule, f.severity, f.where, f.value) for f in flags] == [
        ("quote_not_in_source", "review", "key_findings[1]", "a fracture")
    ]
    assert "fracture" not in flags[0].why


def test_the_same_quote_twice_is_two_quotes() -> None:
    """Each finding has its own."""
    quotes, flags = check_quotes([("a", "7 days"), ("b", "7 days")], NOTE)
    assert [(quote.where, quote.text) for quote in quotes] == [("a", "7 days"), ("b", "7 days")]
    assert flags == []


@pytest.mark.parametrize("quote", ["", " ", "\x00", "\ud800", "("])
def test_a_quote_of_nothing_is_flagged(quote: str) -> None:
    """No words are no evidence."""
    quotes, flags = check_quotes([("a", quote)], "a b c")
    assert (quotes, [flag.value for flag in flags]) == ([], [quote])


def test_an_output_without_quotes_has_nothing_to_check() -> None:
    """No pairs, no quotes, no flags."""
    assert check_quotes([], NOTE) == ([], [])


@given(st.lists(st.sampled_from(["no fever", "a cough", "5 mg", "absent"]), max_size=5))
def test_every_quote_is_found_or_flagged(wanted: list[str]) -> None:
    """None is passed over, and their order stays."""
    text = "There is no fever.\nThere is a cough.\nTake 5 mg."
    quotes, flags = check_quotes([(str(i), quote) for i, quote in enumerate(wanted)], text)
    assert [quote.text for quote in quotes] == [quote for quote in wanted if quote != "absent"]
    assert len(quotes) + len(flags) == len(wanted)
    assert all(text.splitlines()[(quote.line or 0) - 1].count(quote.text) for quote in quotes)
