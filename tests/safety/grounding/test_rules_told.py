"""The rules' own examples hold, for and against."""

import pytest

from medgemma_cli.safety.grounding import check
from medgemma_cli.safety.grounding.rules import Example, rules

EXAMPLES = [(rule.id, example) for rule in rules().values() for example in rule.examples]


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_an_example_is_as_it_says(rule: str, example: Example) -> None:
    """What an example flags is flagged by its rule; what it passes is not."""
    found = {flag.rule for flag in check(example.source, example.output).flags}
    assert (rule in found) is example.flagged


@pytest.mark.parametrize("rule", rules().values(), ids=lambda rule: rule.id)
def test_a_rule_has_examples_for_and_against(rule: object) -> None:
    """Each rule names its origin and has an example of each sort."""
    assert rule.origin and rule.says  # type: ignore[attr-defined]
    assert {example.flagged for example in rule.examples} == {True, False}  # type: ignore[attr-defined]
