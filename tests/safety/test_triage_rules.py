"""The rules of triage are data: each has a source and examples, and does what they say."""

import subprocess
import sys

import pytest

from medgemma_cli.safety import triage_rules
from medgemma_cli.safety.advice import find_instruction, find_request
from medgemma_cli.safety.emergency import find_emergency
from medgemma_cli.safety.injection import find_injection
from medgemma_cli.safety.triage_rules import Rule

RULES = triage_rules.rules()
CUES = sorted(triage_rules.cues())


def finds(rule: Rule, text: str) -> bool:
    """Whether triage finds what this rule is for."""
    if rule.rule == "emergency":
        return find_emergency(text) is not None
    if rule.id == "advice.instructs":
        return find_instruction(text) is not None
    if rule.rule == "personal_advice":
        return find_request(text) is not None
    return find_injection(text)[0]


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule in RULES for text in rule.example], ids=str
)
def test_a_rule_finds_its_examples(rule: Rule, text: str) -> None:
    """What the file gives as an example is found, and by a word that is listed."""
    assert finds(rule, text)


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule in RULES for text in rule.against], ids=str
)
def test_a_rule_leaves_its_counterexamples_alone(rule: Rule, text: str) -> None:
    """What the file gives as a look-alike is not found."""
    assert not finds(rule, text)


def test_every_rule_is_complete() -> None:
    """A name of its own, a known flag, a severity, a source, and examples for and against."""
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert {rule.rule for rule in RULES} == {"emergency", "personal_advice", "prompt_injection"}
    for rule in RULES:
        assert rule.severity in ("note", "review", "stop")
        assert len(rule.source) > 10 and rule.words and rule.pattern
        assert len(rule.example) >= 2 and len(rule.against) >= 2


@pytest.mark.parametrize("name", CUES)
def test_a_cue_is_what_its_examples_say(name: str) -> None:
    """Each cue has a source, matches its examples and not its counterexamples."""
    entry, pattern = triage_rules.cues()[name], triage_rules.cue(name)
    assert entry["source"] and entry["example"] and entry["against"]
    assert all(pattern.search(text) for text in entry["example"])
    assert not any(pattern.search(text) for text in entry["against"])


def test_there_are_enough_cases() -> None:
    """At least 150 for and against are in the file alone."""
    assert sum(len(rule.example) + len(rule.against) for rule in RULES) >= 150


def test_importing_reads_and_compiles_nothing() -> None:
    """A run with nothing to do pays for no rule."""
    code = (
        "from medgemma_cli.safety import triage, triage_rules as r;"
        "assert r._file.cache_info().currsize == r.cue.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
