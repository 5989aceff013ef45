"""Does the evidence hold? The contract's promises, over many real documents.

    python benchmarks/evidence.py [--data ../shared/data] [--work FOLDER] [--json]

Writes every text of aci-bench, mts-dialog and primock57 (those of them that the data folder has)
into a work folder, runs `medgemma run --template summarize` over them, and then checks every
record by itself: does what the model wrote parse against the template's schema; does each quote
stand in the document where the record says; was any JSON cut off. The run is resumable: the same
command with the same `--work` goes on where it was stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonlines

from medgemma_cli import decoding, quoting, templates

SETS = ("aci-bench/valid.jsonl", "mts-dialog/validation.jsonl", "primock57/consultations.jsonl")


def texts(data: Path) -> Iterator[tuple[str, str]]:
    """A name and a text for each field of each document."""
    for name in SETS:
        if not (data / name).is_file():
            print(f"{name} is not there and is left out", file=sys.stderr)
            continue
        with jsonlines.open(data / name) as lines:
            for i, line in enumerate(lines):
                for field in ("source", "reference"):
                    yield f"{Path(name).parent}/{i:03}-{field}.txt", line[field]


def write(data: Path, folder: Path) -> int:
    """Put the documents into files; how many there are."""
    count = 0
    for name, text in texts(data):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
        count += 1
    return count


def run(folder: Path, out: Path, model: str, more: list[str]) -> int:
    """The installed command over the folder; its exit code."""
    command = [sys.executable, "-m", "medgemma_cli", "run", str(folder), "-o", str(out)]
    return subprocess.run([*command, "--model", model, *more], check=False).returncode


def check(folder: Path, out: Path) -> Counter[str]:
    """Counts over the current records, from the records and the documents alone."""
    current = {record["source"]: record for record in jsonlines.open(out / "records.jsonl")}
    count: Counter[str] = Counter()
    for source, record in current.items():
        count["documents"] += 1
        count[f"status {record['status']}"] += 1
        if record["raw_text"] is None:
            count[f"not answered: {record['error']['code']}"] += 1
            continue
        count["answers"] += 1
        count["valid"] += is_valid(record)
        count["cut"] += not is_json(record["raw_text"])
        count["shortened"] += "shortened" in record["degraded"]
        text = (folder / source).read_bytes().decode()
        for quote in record["quotes"]:
            stands = fold(text[quote["start"] : quote["end"]]) == fold(quote["text"])
            count["quotes"] += 1
            count["verbatim"] += stands and quoting.locate(quote["text"], text) is not None
        unfound = [flag for flag in record["flags"] if flag["rule"] == "quote_not_in_source"]
        count["quotes"] += len(unfound)
    return count


def is_valid(record: dict[str, Any]) -> bool:
    """Whether an answer fits the `summarize` template, with quotes wherever there were any."""
    template = templates.load("summarize")
    bare = any(flag["rule"] == "no_quotable_text" for flag in record["flags"])
    try:
        decoding.parse(template.image_contract if bare else template.contract, record["raw_text"])
    except ValueError:
        return False
    return True


def is_json(text: str) -> bool:
    """Whether an answer is whole."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def fold(text: str) -> str:
    """White space folded."""
    return " ".join(text.split())


def share(part: int, whole: int) -> str:
    """As `254 of 254 (100.0%)`."""
    return f"{part} of {whole} ({100 * part / whole if whole else 0:.1f}%)"


def main() -> None:
    """Write, run, check, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    data = Path(os.environ.get("MEDGEMMA_TEST_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, help="keep documents and records here")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--json", action="store_true")
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        documents = write(options.data, work / "in")
        code = run(work / "in", work / "out", options.model, more)
        count = check(work / "in", work / "out")
    if options.json:
        print(json.dumps({"written": documents, "exit": code, **count}))
        return
    print(f"documents with a record      {share(count['documents'], documents)}")
    print(f"answers that fit the schema  {share(count['valid'], count['answers'])}")
    print(f"quotes that stand there      {share(count['verbatim'], count['quotes'])}")
    print(f"answers cut inside JSON      {share(count['cut'], count['answers'])}")
    print(f"answers closed at the limit  {share(count['shortened'], count['answers'])}")
    for name in sorted(count):
        if name.startswith(("status", "not answered")):
            print(f"{name:<28} {count[name]}")


if __name__ == "__main__":
    main()
