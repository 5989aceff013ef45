"""`medgemma status OUT`: what an output folder holds, by current records. Reads, never writes."""

import json
from collections import Counter
from collections.abc import Iterator
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
    from medgemma_cli.progress import emit
    from medgemma_cli.sharding.folders import standing_lines

    def wanted(line: dict[str, Any]) -> bool:
        return not failed or line["status"] in ("failed", "rejected")

    lines = standing_lines(out, wanted)
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
        for told in _shards(out):
            emit(told)


def _shards(out: Path) -> Iterator[str]:
    """How far an array job is, and what comes next."""
    from medgemma_cli.sharding import folders

    shards = folders.found(out)
    if folders.half_merged(out):
        yield f"a merge was interrupted: medgemma merge {out}"
    elif shards:
        of = max(shard.of for shard in shards)
        done = sum(folders.complete(folder, shard) for shard, folder in shards.items())
        yield f"{done} of {of} shards are complete, none is merged: medgemma merge {out}"


def _failure(line: dict[str, Any]) -> str:
    from medgemma_cli.display import pair_name, visible

    error = line.get("error") or {}
    name = pair_name(line["source"], (line.get("prior") or {}).get("source"))
    about = f"The {error['document']} document: " if error.get("document") else ""
    return f"{visible(name)}\t{error.get('code')}\t{about}{error.get('hint')}"
