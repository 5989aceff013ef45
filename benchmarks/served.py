"""Do a model server and the local engine write the same? `transformers serve`, demo model, fp32.

    python benchmarks/served.py                       # 60 documents, 24 new tokens each
    python benchmarks/served.py --documents 6

The documents are paragraphs of `raw/notes`, the template is `general`, decoding is greedy. Prints
one JSON line: how many documents, how many with the same text, the seconds of each engine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from serve_kit import plain_model, transformers_serve  # noqa: E402

from medgemma_cli import models  # noqa: E402


def paragraphs(count: int) -> list[str]:
    """So many different paragraphs of the project's own notes, of 8 to 80 words."""
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "raw" / "notes").rglob("*.*"))]
    found = [part.strip() for text in texts for part in text.split("\n\n")]
    kept = dict.fromkeys(part for part in found if 8 <= len(part.split()) <= 80)
    assert len(kept) >= count, "there are not so many paragraphs"
    return list(kept)[:count]


def run(folder: Path, out: Path, tokens: int, *options: str) -> tuple[dict[str, Any], float]:
    """The records of one run, by source, and its seconds."""
    command = [sys.executable, "-m", "medgemma_cli", "run", str(folder), "-o", str(out), "-q"]
    fixed = ["--template", "general", "--max-new-tokens", str(tokens)]
    started = time.perf_counter()
    done = subprocess.run([*command, *fixed, *options], cwd=ROOT, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode in (0, 3), f"exit code {done.returncode}"
    lines = (out / "records.jsonl").read_text("utf-8").splitlines()
    return {record["source"]: record for record in map(json.loads, lines)}, seconds


def keys(records: dict[str, Any]) -> set[str]:
    """The keys of a run's records."""
    return {record["key"] for record in records.values()}


def compare(documents: int, tokens: int, work: Path) -> dict[str, Any]:
    """Both engines over the same documents."""
    found = models.fetch(models.resolve("demo"), lambda text, done, total: None).path
    assert found is not None
    model = plain_model(found, work / "model")
    folder = work / "in"
    folder.mkdir()
    for number, text in enumerate(paragraphs(documents)):
        (folder / f"{number:02}.md").write_text(text + "\n", "utf-8")
    local, local_seconds = run(
        folder, work / "local", tokens, "--model", str(model), "--precision", "fp32"
    )
    with transformers_serve(model) as url:
        options = ("--engine", "server", "--base-url", url, "--served-model", str(model))
        served, served_seconds = run(folder, work / "served", tokens, *options)
    same = [name for name in local if local[name]["raw_text"] == served[name]["raw_text"]]
    counts = [
        name
        for name in local
        if local[name]["usage"]["prompt_tokens"] == served[name]["usage"]["prompt_tokens"]
    ]
    return {
        "documents": len(local),
        "same_text": len(same),
        "same_prompt_tokens": len(counts),
        "different": sorted(set(local) - set(same)),
        "keys_in_common": len(keys(local) & keys(served)),
        "local_seconds": round(local_seconds),
        "served_seconds": round(served_seconds),
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=24)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps(compare(asked.documents, asked.tokens, Path(work))))


if __name__ == "__main__":
    main()
