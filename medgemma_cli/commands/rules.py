"""`medgemma rules`: the rules of the check, where they come from, an example each."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from medgemma_cli.safety.grounding.rules import Rule


def rules(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON array, examples whole.")
    ] = False,
) -> None:
    """List the rules that `check` and `run` apply: id, severity, source, example."""
    import json

    from medgemma_cli.progress import emit
    from medgemma_cli.safety.grounding.rules import rules as known

    if as_json:
        emit(json.dumps([_entry(rule) for rule in known().values()], ensure_ascii=False, indent=2))
        return
    for rule in known().values():
        emit(f"{rule.id} ({rule.severity})\n  {rule.says}\n  source: {rule.origin}")
        for example in rule.examples:
            verdict = "flags " if example.flagged else "passes"
            emit(f"  {verdict} {example.source!r} → {example.output!r}")


def _entry(rule: "Rule") -> dict[str, Any]:
    examples = [example._asdict() for example in rule.examples]
    return {
        "id": rule.id,
        "severity": rule.severity,
        "says": rule.says,
        "source": rule.origin,
        "examples": examples,
    }
