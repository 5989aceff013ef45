"""Kills the command from outside, at random moments, until it has been killed often enough.

    python tests/kill/outside.py --documents 10000 --kills 50

Makes the documents, starts `medgemma run`, kills it, starts it again, and in the end looks at
what has come of it. Exit code 1 where something does not hold.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import invariants

# A round ends after about an equal share of what is left, and some random milliseconds.
SHARE = (0.3, 1.3)
MOMENT = 0.005


def make(folder: Path, count: int, chance: random.Random) -> dict[str, int]:
    """Documents of many sizes, a hundred a folder; the names of their summaries."""
    names = {}
    for number in range(count):
        name = f"ward{number // 100}/n{number}.md"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Patient {number} slept well.\n" * chance.randint(1, 60), "utf-8")
        names[name] = number
    return names


class Growing:
    """The ledger of a run that goes on, from outside: how many whole lines it has."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.lines = 0

    def look(self) -> int:
        """Whole lines by now. What a repair cuts off was no whole line."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return 0
        self._at += len(new[0]) + len(new[1])
        self.lines += (new[0] + new[1]).count(b"\n")
        return self.lines


def killed_after(command: list[str], ledger: Growing, records: int, wait: float) -> bool:
    """Start the command, kill it when there are so many records; False if it ended before."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and ledger.look() < records:
            time.sleep(0.001)
        time.sleep(wait)
        killed = process.poll() is None
        process.kill()
    return killed


def faults_of(out: Path, names: set[str]) -> list[str]:
    """What does not hold at the end."""
    lines = invariants.lines_of(out)
    faults = invariants.at_the_end(out, {line.slot: line.key for line in lines}, (), ())
    if {line.slot for line in lines} != names or len(lines) != len(names):
        faults.append(f"{len(lines)} records for {len(names)} documents")
    if len({line.key for line in lines}) != len(names):
        faults.append("a key is there twice, or missing")
    return faults


def torture(root: Path, documents: int, kills: int, delay: float, seed: int) -> list[str]:
    """All rounds, told as they come; what does not hold in the end."""
    chance = random.Random(seed)
    names = set(make(root / "in", documents, chance))
    before = invariants.files_of(root / "in")
    out = root / "out"
    command = [sys.executable, "-m", "medgemma_cli", "run", str(root / "in"), "-o", str(out)]
    command += ["--engine", "echo", "--template", "general", "--echo-delay", str(delay)]
    ledger = Growing(out / "records.jsonl")
    done = 0
    for number in range(kills):
        started = time.monotonic()
        share = (documents - ledger.look()) / (kills - number + 1)
        aim = ledger.lines + max(1, int(share * chance.uniform(*SHARE)))
        killed = killed_after(command, ledger, aim, chance.uniform(0, MOMENT))
        done += killed
        how, seconds = "killed" if killed else "ended", time.monotonic() - started
        say(f"round {number + 1}: {how} after {seconds:.2f} s, {ledger.look()} of {documents}")
    last = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    say(f"last run: exit {last.returncode}; {last.stderr.strip().splitlines()[-1]}")
    faults = faults_of(out, names) + invariants.same_inputs(root / "in", before)
    if last.returncode != 0:
        faults.append(f"the last run ended with {last.returncode}")
    if done < kills:
        faults.append(f"only {done} of {kills} kills came to pass; try --echo-delay 0.01")
    for fault in faults:
        say(f"violated: {fault}")
    say(f"{documents} documents, {done} kills: {len(faults)} violations")
    return faults


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Read the command line, and run it in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=10000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--echo-delay", type=float, default=0.0, help="seconds a document")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the temporary folder is made: a disk to try")
    asked = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("MEDGEMMA_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(dir=asked.folder) as root:
        faults = torture(Path(root), asked.documents, asked.kills, asked.echo_delay, asked.seed)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
