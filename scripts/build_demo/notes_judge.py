"""The demo model against the bare one, on real conversations that neither was shown.

    python -m scripts.build_demo.notes_judge --work FOLDER --bare CHECKPOINT [--demo demo]

Runs `medgemma run --template summarize` with both over the conversations of aci-bench, mts-dialog
and primock57 (of `--data`), then `medgemma eval summaries` on what came of it, and prints a table:
words in common with the reference (ROUGE-1) and the share of flagged documents, by data set and
over all documents. A model could avoid flags by saying nothing, so it also tells of how many
documents the demo model says only that little is told, and how many of the others are flagged for
either. Runs are resumable: the same command goes on.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonlines

from scripts.build_demo.golds import NOTHING

SETS = {
    "aci-bench": "aci-bench/valid.jsonl",
    "mts-dialog": "mts-dialog/validation.jsonl",
    "primock57": "primock57/consultations.jsonl",
}
_HEAD = "| data set | documents | ROUGE-1 bare | ROUGE-1 demo | flagged bare | flagged demo |"


def write(data: Path, work: Path) -> None:
    """The conversations as files, and their references as lines."""
    for name, path in SETS.items():
        folder = work / "in" / name
        folder.mkdir(parents=True, exist_ok=True)
        with (
            jsonlines.open(data / path) as lines,
            jsonlines.open(work / f"{name}.jsonl", "w") as references,
        ):
            for number, line in enumerate(lines):
                (folder / f"{number:03}.txt").write_bytes(line["source"].encode())
                references.write({"id": f"{number:03}", "reference": line["reference"]})


def medgemma(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of this checkout."""
    command = [sys.executable, "-m", "medgemma_cli", *arguments]
    return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE)


def run(work: Path, which: str, model: str) -> None:
    """Summaries of all sets by one model.

    Raises:
        SystemExit: a run did not finish; the same command goes on.
    """
    for name in SETS:
        out = work / which / name
        done = medgemma("run", str(work / "in" / name), "-o", str(out), "--model", model)
        if done.returncode not in (0, 3):
            raise SystemExit(f"{which} on {name} ended with {done.returncode}")


def figures(work: Path, which: str) -> dict[str, dict[str, float]]:
    """What `medgemma eval summaries` finds, by data set."""
    found = {}
    for name in SETS:
        references = str(work / f"{name}.jsonl")
        out = str(work / which / name)
        told = medgemma("eval", "summaries", out, "--references", references, "--json").stdout
        report = json.loads(told)
        values = {figure["name"]: figure["value"] for figure in report["figures"]}
        found[name] = {**values, "documents": report["facts"]["documents"]}
    return found


def records(work: Path, which: str) -> dict[str, dict[str, Any]]:
    """The last record of each document, by data set and name."""
    found: dict[str, dict[str, Any]] = {}
    for name in SETS:
        with jsonlines.open(work / which / name / "records.jsonl") as lines:
            found |= {f"{name}/{line['source']}": line for line in lines}
    return found


def silence(bare: dict[str, dict[str, Any]], demo: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of how many documents `demo` says nothing, and how many of the others are flagged."""
    spoken = [name for name, line in demo.items() if said(line) != NOTHING]
    return {
        "documents": len(demo),
        "nothing_said": len(demo) - len(spoken),
        "flagged_of_others_bare": sum(bare[name]["status"] == "flagged" for name in spoken),
        "flagged_of_others_demo": sum(demo[name]["status"] == "flagged" for name in spoken),
    }


def said(record: dict[str, Any]) -> str:
    """A record's summary."""
    return str((record["output"] or {}).get("summary", ""))


def over_all(found: dict[str, dict[str, float]], figure: str) -> float:
    """The mean over documents of a figure that is a mean over documents in each set."""
    total = sum(one["documents"] for one in found.values())
    return sum(one[figure] * one["documents"] for one in found.values()) / total


def table(bare: dict[str, dict[str, float]], demo: dict[str, dict[str, float]]) -> str:
    """Markdown, a row a data set and one of all."""
    rows = [_HEAD, "| --- |" + " --- |" * 5]
    for name, one in bare.items():
        pairs = [(one[figure], demo[name][figure]) for figure in ("rouge1", "flagged")]
        rows.append(_row(name, int(one["documents"]), pairs))
    total = int(sum(one["documents"] for one in bare.values()))
    pairs = [(over_all(bare, figure), over_all(demo, figure)) for figure in ("rouge1", "flagged")]
    rows.append(_row("all", total, pairs))
    return "\n".join(rows)


def _row(name: str, documents: int, pairs: list[tuple[float, float]]) -> str:
    (rouge_bare, rouge_demo), (flagged_bare, flagged_demo) = pairs
    return (
        f"| {name} | {documents} | {rouge_bare:.3f} | {rouge_demo:.3f} "
        f"| {flagged_bare:.0%} | {flagged_demo:.0%} |"
    )


def main() -> None:
    """Write, run, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("MEDGEMMA_TEST_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bare", required=True, help="the checkpoint before it was taught")
    parser.add_argument("--demo", default="demo")
    chosen = parser.parse_args()
    write(chosen.data, chosen.work)
    for which in ("bare", "demo"):
        run(chosen.work, which, getattr(chosen, which))
    found = {which: figures(chosen.work, which) for which in ("bare", "demo")}
    print(table(found["bare"], found["demo"]))
    ratios = {
        figure: over_all(found["demo"], figure) / over_all(found["bare"], figure)
        for figure in ("rouge1", "flagged")
    }
    print(json.dumps(ratios))
    print(json.dumps(silence(records(chosen.work, "bare"), records(chosen.work, "demo"))))


if __name__ == "__main__":
    main()
