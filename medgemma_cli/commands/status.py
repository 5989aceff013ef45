"""`medgemma status OUT`: what an output folder holds, by current records. Reads, never writes."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer


def status(
    out: Annotated[Path, typer.Argument(help="The -o of a run.")] = Path("summaries"),
    failed: Annotated[
        bool, typer.Option("--failed", help="Name, code and next step of what failed.")
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json", help="The current records, a line each.")
    ] = False,
) -> None:
    """Show how many documents are ok, flagged, failed or rejected."""
    from medgemma_cli.ledger import current_lines
    from medgemma_cli.progress import emit

    def wanted(line: dict[str, Any]) -> bool:
        return not failed or line["status"] in ("failed", "rejected")

    lines = current_lines(out, wanted)
    if json_lines:
        for line in lines:
            emit(json.dumps(line, ensure_ascii=True, separators=(",", ":")))
    elif failed:
        for line in lines:
            emit(_failure(line))
    else:
        counts = Counter(line["status"] for line in lines)
        emit(f"{counts.total()} documents")
        for name in ("ok", "flagged", "failed", "rejected"):
            emit(f"{counts[name]:>7} {name}")
        if counts["failed"] + counts["rejected"]:
            emit(f"why: medgemma status {out} --failed")


def _failure(line: dict[str, Any]) -> str:
    from medgemma_cli.display import pair_name, visible

    error = line.get("error") or {}
    name = pair_name(line["source"], (line.get("prior") or {}).get("source"))
    about = f"The {error['document']} document: " if error.get("document") else ""
    return f"{visible(name)}\t{error.get('code')}\t{about}{error.get('hint')}"
