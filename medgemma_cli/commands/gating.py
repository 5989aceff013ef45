"""`--fail-on`: which records make a run end with 4."""

from medgemma_cli.errors import UsageError

# Statuses a gate can name; `failed` includes rejected documents.
STATUSES = {"failed", "flagged"}


def make_gate(names: list[str]) -> set[str]:
    """`--fail-on`: statuses and rules.

    Raises:
        UsageError: 2, neither a status nor the name of a rule.
    """
    asked = set(names) - STATUSES
    if not asked:
        return set(names)  # the rules need not be read
    from medgemma_cli.safety.rulebook import names as rules

    if asked - rules():
        raise UsageError(
            "--fail-on takes failed, flagged, or the name of a rule.", "See `medgemma rules`."
        )
    return set(names)
