"""One document of about five windows: does every quote stand where the record says?

    python benchmarks/long.py [--model demo] [--max-input-tokens 1000] [--windows 5]

The document is made of the notes of raw/notes. Exits 1 if a quote does not stand at its offset.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def document(characters: int) -> str:
    """The repository's own notes, one after the other, until they are long enough."""
    notes = [path.read_text("utf-8") for path in sorted((ROOT / "raw" / "notes").rglob("*.md"))]
    text = ""
    while len(text) < characters:
        text += "\n\n".join(f"# Document {i}\n\n{note}" for i, note in enumerate(notes)) + "\n\n"
    return text[:characters]


def main() -> int:
    """Run it and read the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--engine", default="local")
    parser.add_argument("--max-input-tokens", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "long.md", Path(folder) / "out"
        # A prompt's own words take about 400 tokens; a token is about four characters.
        text = document(options.windows * max(options.max_input_tokens - 400, 100) * 4)
        path.write_text(text, "utf-8")
        command = [sys.executable, "-m", "medgemma_cli", "run", str(path), "-o", str(out)]
        command += ["--model", options.model, "--engine", options.engine]
        command += ["--max-input-tokens", str(options.max_input_tokens)]
        started = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        seconds = time.perf_counter() - started
        record = json.loads((out / "records.jsonl").read_text("utf-8").splitlines()[-1])
    quotes = record["quotes"]
    right = sum(text[q["start"] : q["end"]] == q["text"] for q in quotes)
    missing = sum(flag["rule"] == "quote_not_in_source" for flag in record["flags"])
    print(f"exit {code}, {record['status']}, {seconds:.0f} s, {len(text)} characters")
    print("degraded:", ", ".join(record["degraded"]))
    print(f"quotes at their offset: {right} of {len(quotes)}; not in the source: {missing}")
    return 0 if quotes and right == len(quotes) and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
