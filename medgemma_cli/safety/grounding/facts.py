"""What a check says: facts with a verdict each, and the findings that hold them all."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from medgemma_cli.records import Flag

Kind = Literal["number", "drug", "finding", "side", "allergy", "omission", "statement", "sentence"]
Verdict = Literal["supported", "contradicted", "not checked"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of the output, or one it leaves out (an "omission", which has no span).

    `span` is in the output's text at `where`, `evidence` in the source. `rule` names what a
    contradicted fact breaks; `reason` is plain English without document text.
    """

    kind: Kind
    verdict: Verdict
    span: tuple[int, int]
    value: str = ""
    evidence: tuple[int, int] | None = None
    reason: str = ""
    rule: str = ""
    where: str = "output"


class Provenance(NamedTuple):
    """A sentence of the output and the source window most like it.

    `score` is the share of the sentence's words that the window has, rarer words weighing more.
    `addressed` is whether it reaches the threshold; it never means "verified".
    """

    where: str
    span: tuple[int, int]
    window: tuple[int, int] | None
    score: float
    addressed: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the rules found. No flags does not mean all was checked: see `counts`."""

    flags: tuple[Flag, ...]
    facts: tuple[Fact, ...]
    omissions: tuple[str, ...]
    provenance: tuple[Provenance, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many facts of the output were supported, contradicted and not checked."""
        found = {"supported": 0, "contradicted": 0, "not_checked": 0}
        for fact in (fact for fact in self.facts if fact.kind != "omission"):
            found[fact.verdict.replace(" ", "_")] += 1
        return found
