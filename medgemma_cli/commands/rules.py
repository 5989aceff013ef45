"""`medgemma rules`: the rules by which is flagged, where they come from, examples of each."""

from typing import Annotated

import typer


def rules(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON array, examples whole.")
    ] = False,
) -> None:
    """List the rules that `check` and `run` apply: id, severity, source, example."""
    import json

    from medgemma_cli.progress import emit
    from medgemma_cli.safety.rulebook import listed

    if as_json:
        emit(json.dumps([rule._asdict() for rule in listed()], ensure_ascii=False, indent=2))
        return
    for rule in listed():
        emit(f"{rule.id} ({rule.severity})\n  {rule.says}\n  source: {rule.source}")
        for kind, examples in (("flags ", rule.flags), ("passes", rule.passes)):
            for example in examples:
                emit(f"  {kind} {example}")
