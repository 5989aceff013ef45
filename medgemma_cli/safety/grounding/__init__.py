"""Does the output stand in the source? Quotes, numbers, drugs, negations, sides, allergies.

Deterministic rules, no model. Each module says what it covers and what it does not; the rules are
listed in `safety/data/rules.toml` and by `medgemma rules`.
"""

from medgemma_cli.safety.grounding.checker import check
from medgemma_cli.safety.grounding.facts import Fact, Findings, Provenance
from medgemma_cli.safety.grounding.quotes import check_quotes

__all__ = ["Fact", "Findings", "Provenance", "check", "check_quotes"]
