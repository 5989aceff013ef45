"""`run --pair-by`: which two documents of a patient are compared, the earlier with the later."""

from medgemma_cli.pairing.grouping import Pairs
from medgemma_cli.pairing.rules import Rule, rule

__all__ = ["Pairs", "Rule", "rule"]
