"""The words at the end of a run."""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_cli.discover import ARCHIVES
from medgemma_cli.display import visible
from medgemma_cli.readers import tables

if TYPE_CHECKING:
    from medgemma_cli.sharding.split import Shard
    from medgemma_cli.totals import Totals

_LONG_KINDS = {".jsonl", ".parquet", ".ipynb", ".dicom"}
STATUSES = ("ok", "flagged", "failed", "rejected")


def final_line(
    totals: "Totals",
    skipped_kinds: Counter[str],
    out: Path,
    seconds: float,
    part: "Shard | None" = None,
) -> str:
    """One line for a log: what the inputs came to, and where the rest is told."""
    told = ", ".join(f"{totals.status[s]} {s}" for s in STATUSES if totals.status[s]) or "none"
    done = totals.inferred + totals.reused + totals.duplicates
    work = "nothing to do; " if totals.cached == totals.documents and not totals.left else ""
    whose = f"shard {part.number}/{part.of}: " if part is not None else ""
    parts = [f"medgemma: {whose}{work}{totals.documents} documents: {told}"]
    counts = {
        "generated": totals.inferred,
        "unchanged": totals.cached,
        "reused": totals.reused,
        "duplicates": totals.duplicates,
        "summaries rebuilt": totals.rebuilt,
    }
    parts.append(", ".join(f"{n} {name}" for name, n in counts.items() if n) or "0 generated")
    if totals.left:
        parts.append("work remains, run again")
    if totals.altered:
        parts.append(f"warning: {totals.altered} summaries were altered by hand")
    speed = f", {totals.completion_tokens / seconds:.0f} tokens/s" if done and seconds else ""
    parts.append(f"{seconds:.1f} s{speed}")
    line = "; ".join(parts) + skipped(skipped_kinds)
    if totals.status["failed"] + totals.status["rejected"]:
        line += f"; see: medgemma status {visible(str(out))} --failed"
    return line


def skipped(kinds: Counter[str]) -> str:
    """`; skipped 3: 2 .doc, 1 .zip (archives are not opened)`, or nothing."""
    if not kinds:
        return ""
    told: Counter[str] = Counter()
    for kind, n in kinds.items():
        # What stands after a name's last dot may be a part of a person's name.
        known = not kind.startswith(".") or re.fullmatch(r"\.[a-z0-9]{1,4}", kind)
        told[kind if known or kind in _LONG_KINDS else "other"] += n
    listed = ", ".join(f"{n} {kind}" for kind, n in told.most_common(8))
    hints = []
    if not ARCHIVES.isdisjoint(kinds):
        hints.append("archives are not opened")
    if not tables.SUFFIXES.isdisjoint(kinds):
        hints.append("tables need --text-column")
    told_too = f" ({', '.join(hints)})" if hints else ""
    return f"; skipped {kinds.total()}: {listed}{told_too}"


def closing_table(totals: "Totals") -> str:
    """Counts by status, by flag and by degradation, as lines."""
    rows = [(f"status {name}", totals.status[name]) for name in STATUSES]
    rows += [(f"flag {name}", n) for name, n in sorted(totals.rules.items())]
    rows += [(f"degraded {visible(name)}", n) for name, n in sorted(totals.degraded.items())]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:{width}}  {n:>7}" for name, n in rows)
