"""What the tool itself costs, with no model: help, a run with nothing to do, a run with echo.

    python benchmarks/overhead.py [--documents 20000] [--json]

Every figure is CPU time (user and system) and peak memory of whole child processes, as the
operating system accounts for them. Ratios are between processes measured side by side. Files
are kept in memory where /dev/shm is there: creating one costs a disk's file system 50 to 600
microseconds of system time, which says nothing of the tool (`--folder` to include it).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PLAIN_APP = """
import typer
app = typer.Typer()
@app.command()
def one(count: int = 1) -> None: ...
@app.command()
def two(count: int = 1) -> None: ...
app()
"""


class Cost(NamedTuple):
    """CPU seconds and peak resident memory in MB of one process."""

    cpu: float
    megabytes: float


def cost(*command: str) -> Cost:
    """Run a command to its end and account for it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"exit {process.returncode}: {' '.join(command)}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def medgemma(*arguments: str) -> Cost:
    """Cost of the installed command, run by this interpreter."""
    return cost(sys.executable, "-m", "medgemma_cli", *arguments)


def write_documents(folder: Path, count: int) -> None:
    """Small notes, a thousand to a folder."""
    for i in range(count):
        if i % 1000 == 0:
            (folder / f"{i // 1000:03}").mkdir(parents=True)
        (folder / f"{i // 1000:03}" / f"note{i:06}.md").write_text(
            f"# Note {i}\n\nSeen in clinic. BP {100 + i % 60}/80 mmHg, pulse {60 + i % 40}.\n"
            "No chest pain. Amlodipine 5 mg OD continued.\nReview in 2/52 with bloods.\n" * 4
        )


def help_ratio(repeats: int = 7) -> dict[str, float]:
    """`medgemma --help` against the help of a two-command Typer app, in turn."""
    ours, plain = [], []
    for _ in range(repeats):
        ours.append(medgemma("--help").cpu)
        plain.append(cost(sys.executable, "-c", PLAIN_APP, "--help").cpu)
    a, b = statistics.median(ours), statistics.median(plain)
    return {"medgemma_cpu_s": a, "typer_cpu_s": b, "ratio": a / b}


def echo_run(folder: Path, out: Path) -> Cost:
    """A first run with the echo engine, without waiting for the disk."""
    return medgemma("run", str(folder), "-o", str(out), "--engine", "echo", "--fsync", "never")


def measure(documents: int, folder: str | None) -> dict[str, dict[str, float]]:
    """All figures."""
    few, enough = 1000, 10_000
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        base = Path(temporary)
        write_documents(base / "few", few)
        write_documents(base / "many", documents)
        small = echo_run(base / "few", base / "out-few")
        large = echo_run(base / "many", base / "out-many")
        write_documents(base / "enough", enough)
        echo_run(base / "enough", base / "out-enough")
        idle = echo_run(base / "enough", base / "out-enough")
    per_document = (large.cpu - small.cpu) / (documents - few)
    return {
        "help": help_ratio(),
        "echo": {
            "documents": documents,
            "cpu_ms_a_document": 1000 * per_document,
            "peak_mb_1000": small.megabytes,
            "peak_mb_all": large.megabytes,
            "growth_mb": large.megabytes - small.megabytes,
        },
        "nothing_to_do": {
            "documents": enough,
            "cpu_s": idle.cpu,
            "peak_mb": idle.megabytes,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--documents", type=int, default=20_000)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    parser.add_argument("--folder", default=memory, help="where documents and output go")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.documents, options.folder)
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(name)
        for key, value in values.items():
            print(f"  {key:20} {value:12.3f}")


if __name__ == "__main__":
    main()
