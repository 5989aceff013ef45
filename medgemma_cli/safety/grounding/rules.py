"""The rules' own descriptions, from `data/rules.toml`: id, severity, source, examples."""

from functools import cache
from typing import Any, NamedTuple

from medgemma_cli.records import Severity
from medgemma_cli.safety.grounding.lexicon import toml


class Example(NamedTuple):
    """A source and an output; whether the rule flags it."""

    source: str
    output: str
    flagged: bool


class Rule(NamedTuple):
    """What a rule is called, how grave it is, what it says, where it comes from."""

    id: str
    severity: Severity
    says: str
    origin: str
    examples: tuple[Example, ...]


@cache
def rules() -> dict[str, Rule]:
    """All rules of the grounding check by id."""
    return {name: _rule(name, data) for name, data in toml("rules").items()}


def _rule(name: str, data: dict[str, Any]) -> Rule:
    examples = [Example(e["source"], e["output"], True) for e in data["flags"]]
    examples += [Example(e["source"], e["output"], False) for e in data["passes"]]
    return Rule(name, data["severity"], data["says"], data["origin"], tuple(examples))
