"""The rules and cues of triage, read from `data/triage.toml` when the first text is judged."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from medgemma_cli.records import Severity

_NAME = re.compile(r"\{([A-Z_]+)\}")


@dataclass(frozen=True)
class Rule:
    """One entry of the file. Its patterns are compiled when a text first holds one of its words."""

    id: str
    rule: str
    severity: Severity
    source: str
    example: tuple[str, ...]
    against: tuple[str, ...]
    words: tuple[str, ...]
    pattern: tuple[str, ...]
    weak: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()

    @cached_property
    def trigger(self) -> re.Pattern[str]:
        """What is found; the group `weak` is set where a sign of now is needed."""
        weak = rf"|(?P<weak>{_joined(self.weak)})" if self.weak else "|(?P<weak>(?!))"
        return re.compile(_joined(self.pattern) + weak, re.IGNORECASE)

    @cached_property
    def nearby(self) -> re.Pattern[str] | None:
        """What must stand near it, if anything must."""
        return re.compile(_joined(self.near), re.IGNORECASE) if self.near else None

    @cached_property
    def look_alikes(self) -> re.Pattern[str] | None:
        """What is taken out before the search."""
        return re.compile(_joined(self.unless), re.IGNORECASE) if self.unless else None

    def among(self, low: str) -> bool:
        """Whether a lower-case text has one of the words that every match holds."""
        return any(word in low for word in self.words)

    def without_look_alikes(self, text: str) -> str:
        """The text at the same length, with what only looks alike taken out."""
        if self.look_alikes is None:
            return text
        return self.look_alikes.sub(lambda match: "\x00" * len(match.group()), text)


def _joined(patterns: tuple[str, ...]) -> str:
    return f"(?:{'|'.join(patterns)})"


@cache
def _file() -> dict[str, Any]:
    """The file, each name in braces replaced by its definition."""
    raw = tomllib.loads((Path(__file__).parent / "data" / "triage.toml").read_text("utf-8"))
    define: dict[str, str] = raw["define"]

    def filled(text: str) -> str:
        return _NAME.sub(lambda match: filled(define[match.group(1)]), text)

    for entry in (*raw["rule"], *raw["cue"]):
        for name in ("pattern", "weak", "near", "unless"):
            entry[name] = tuple(map(filled, entry.get(name, ())))
        for name in ("example", "against", "words", "keeps"):
            entry[name] = tuple(entry.get(name, ()))
    return raw


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the file."""
    return tuple(Rule(**entry) for entry in _file()["rule"])


@cache
def rules_of(prefix: str) -> tuple[Rule, ...]:
    """The rules whose id begins so."""
    return tuple(rule for rule in rules() if rule.id.startswith(prefix))


@cache
def cues() -> dict[str, dict[str, Any]]:
    """The cues by id, as the file has them."""
    return {entry["id"]: entry for entry in _file()["cue"]}


@cache
def cue(name: str) -> re.Pattern[str]:
    """A cue's patterns as one."""
    return re.compile(_joined(cues()[name]["pattern"]), re.IGNORECASE)
