"""Harder cases: corruptions that each rule must catch, and look-alikes that none may flag."""

import json
from pathlib import Path

import pytest

from medgemma_cli.safety.grounding import check

TRAPS = [
    json.loads(Path(__file__).with_name(name).read_text("utf-8"))
    for name in ("traps.json", "hard_traps.json")
]
CASES = [(rule, *pair) for traps in TRAPS for rule, pairs in traps.items() for pair in pairs]


@pytest.mark.parametrize(("rule", "source", "output"), CASES)
def test_a_trap_is_neither_missed_nor_sprung_in_vain(rule: str, source: str, output: str) -> None:
    """The rule flags the corrupted output; a faithful one has no flag above a note."""
    rules = {flag.rule for flag in check(source, output).flags if flag.severity != "note"}
    assert not rules if rule == "faithful" else rule in rules
