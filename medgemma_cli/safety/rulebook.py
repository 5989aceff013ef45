"""Every rule by which an output or a source is flagged, for `medgemma rules` and `--fail-on`."""

from functools import cache
from typing import NamedTuple

from medgemma_cli.safety.grounding import rules as grounding
from medgemma_cli.safety.grounding.lexicon import toml
from medgemma_cli.safety.triage_rules import rules as triage_rules


class Listed(NamedTuple):
    """One rule as it is shown; `flags` and `passes` are examples.

    `rule` is what flags of it are called: several rules of triage make one kind of flag.
    """

    id: str
    rule: str
    severity: str
    says: str
    source: str
    flags: tuple[str, ...]
    passes: tuple[str, ...]


@cache
def listed() -> tuple[Listed, ...]:
    """Grounding, how the answer came about, triage, in this order."""
    return (*_grounding(), *_verdict(), *_triage())


def names() -> set[str]:
    """What flags may be called."""
    return {entry.rule for entry in listed()}


def _grounding() -> list[Listed]:
    made = []
    for rule in grounding.rules().values():
        shown = [(e.flagged, f"{e.source!r} → {e.output!r}") for e in rule.examples]
        flags = tuple(text for flagged, text in shown if flagged)
        passes = tuple(text for flagged, text in shown if not flagged)
        made.append(Listed(rule.id, rule.id, rule.severity, rule.says, rule.origin, flags, passes))
    return made


def _verdict() -> list[Listed]:
    return [
        Listed(
            name,
            name,
            data["severity"],
            data["says"],
            data["origin"],
            tuple(data["flags"]),
            tuple(data["passes"]),
        )
        for name, data in toml("verdict").items()
    ]


def _triage() -> list[Listed]:
    return [
        Listed(
            rule.id,
            rule.rule,
            rule.severity,
            f"Flagged as {rule.rule}.",
            rule.source,
            tuple(map(repr, rule.example)),
            tuple(map(repr, rule.against)),
        )
        for rule in triage_rules()
    ]
