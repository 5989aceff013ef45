"""Many starts at once on one output folder; some of those that hold it are killed.

Takes its task as JSON (`root`, `starts`, `rounds`, `seed`), prints a report as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import driver
import invariants
import product
import states

DELAY = 0.01
HELD = 75


class Race:
    """One output folder, and a log to which each holder writes that it came and that it goes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.codes: Counter[int] = Counter()
        self.faults: list[str] = []
        self._inputs, self._out = root / "in", root / "out"
        self._log = root / "log"
        self._chance = random.Random(seed)
        root.mkdir(parents=True)

    def round(self, number: int, starts: int) -> None:
        """One more document, and so many starts at the same moment."""
        states.write(self._inputs, {f"{number}.md": f"Slept {number} hours.\n"})
        self._log.write_bytes(b"")
        ready, go = os.pipe()
        children = [self._start(ready, go) for _ in range(starts)]
        os.close(ready)
        os.close(go)
        killed = self._kill_holder() if number % 3 == 2 else 0
        codes = {child: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
        self.codes.update(codes.values())
        allowed = {0, HELD, *([-signal.SIGKILL] if killed else [])}
        if set(codes.values()) - allowed or (not killed and 0 not in codes.values()):
            self.faults.append(f"round {number} ended with {sorted(codes.values())}")
        dead = {child for child, code in codes.items() if code == -signal.SIGKILL}
        self.faults += [f"round {number}: {fault}" for fault in self._overlaps(dead)]

    def _start(self, ready: int, go: int) -> int:
        child = os.fork()
        if child:
            return child
        os.close(go)
        os.read(ready, 1)  # all of them at once, when the parent lets go

        def log(word: str) -> None:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, f"{word} {os.getpid()}\n".encode())
            os.close(descriptor)

        signal.alarm(driver.SECONDS)
        os._exit(
            driver.status_of(
                lambda tell: product.run(
                    self._inputs,
                    self._out,
                    on_open=lambda: log("came"),
                    on_done=lambda: log("goes"),
                    delay=DELAY,
                ),
                lambda what, value: None,
            )
        )

    def _kill_holder(self) -> int:
        """Kill who holds the folder, a moment after it came; its process, or 0."""
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            lines = self._log.read_text("ascii").split("\n")
            if len(lines) > 1:
                time.sleep(self._chance.uniform(0, 2 * DELAY))
                holder = int(lines[0].split()[1])
                os.kill(holder, signal.SIGKILL)  # a zombie at the worst: nobody waited yet
                return holder
            time.sleep(0.0005)
        return 0

    def _overlaps(self, dead: set[int]) -> list[str]:
        """Holders that came before the one before them had gone."""
        faults, holder = [], 0
        for line in self._log.read_text("ascii").splitlines():
            word, process = line.split()
            if word == "came":
                if holder and holder not in dead:
                    faults.append("two held the folder")
                holder = int(process)
            elif int(process) == holder:
                holder = 0
            else:
                faults.append("one went that did not hold the folder")
        return faults

    def end(self, root: Path) -> None:
        """The last run, and what it leaves, held against a folder made in one go."""
        product.run(self._inputs, self._out)
        product.run(self._inputs, root / "other")
        wanted = {line.slot: line.key for line in invariants.lines_of(root / "other")}
        self.faults += invariants.at_the_end(self._out, wanted, (), ())


def main(task: dict[str, Any]) -> dict[str, Any]:
    """The rounds of a task, and what did not hold."""
    root = Path(task["root"])
    states.write(root / "warm" / "in", states.DOCUMENTS)
    product.run(root / "warm" / "in", root / "warm" / "out")
    race = Race(root / "race", task.get("seed", 0))
    for number in range(task["rounds"]):
        race.round(number, task["starts"])
    race.end(root)
    return {"codes": race.codes, "violations": race.faults}


if __name__ == "__main__":
    sys.stdout.write(invariants.as_json(main(json.loads(sys.argv[1]))) + "\n")
