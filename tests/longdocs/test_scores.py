"""Probabilities follow the values they are of."""

from medgemma_cli.longdocs.scores import scored
from medgemma_cli.records import ChoiceScore, Generation

_WRITTEN = '{"level": "low", "summary": "Two words."}'
_MADE = '{"summary": "Two words.", "drugs": ["a"], "level": "low"}'


def _scored(made: str, written: str = _WRITTEN) -> Generation:
    at = written.index('"low"')
    tokens = tuple((i, -float(i)) for i in range(1, len(written) + 1))
    given = Generation(
        id="a",
        text=written,
        choices=(ChoiceScore(at=at, options={"low": 0.9, "high": 0.1}),),
        tokens=tokens,
    )
    return scored(Generation(id="k", text=made), given)


def test_a_choice_is_found_where_it_stands_now() -> None:
    """At the value's new place."""
    made = _scored(_MADE)
    (choice,) = made.choices
    assert made.text[choice.at :].startswith('"low"') and choice.options["low"] == 0.9


def test_tokens_move_with_their_text() -> None:
    """In order; each log probability ends at the character that it ended at."""
    made = _scored(_MADE)
    ends = dict(made.tokens)
    assert list(ends) == sorted(ends)
    end = made.text.index("Two") + 3
    assert ends[end] == -float(_WRITTEN.index("Two") + 3)
    assert not any(made.text.index("drugs") <= at < made.text.index('"level"') for at in ends)


def test_a_value_that_was_not_taken_over_has_none() -> None:
    """Such as a number that stands for a finding."""
    made = _scored('{"summary": "Other words.", "level": "high"}')
    assert made.choices == () and made.tokens == ()
