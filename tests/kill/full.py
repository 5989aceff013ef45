"""No room: a disk that fills up at each page, a limit on file sizes that is met at each place.

Takes its task as JSON (`root`, `how`: disk or limit), prints a report as JSON. For `disk`, the
root must be a file system of its own, and small.
"""

import json
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import driver
import invariants
import product
import states
from states import State

PAGE = 4096
PAGES = 24
STRIDE = 211
CANNOT, IO_ERROR = 73, 74


class Crowded:
    """One state, run without room and then with room."""

    def __init__(self, state: State, folder: Path) -> None:
        self.codes: Counter[int] = Counter()
        self.faults: list[str] = []
        self._state = state
        self._out = folder / "out"
        folder.mkdir(parents=True)
        self._restore()
        self._run("undisturbed", lambda: None)
        self._wanted = {line.slot: line.key for line in invariants.lines_of(self._out)}
        self.largest = max(path.stat().st_size for path in self._out.rglob("*") if path.is_file())
        self.codes.clear()

    def _restore(self) -> None:
        shutil.rmtree(self._out, ignore_errors=True)
        if self._state.out is not None:
            shutil.copytree(self._state.out, self._out)

    def _run(self, what: str, limit: Callable[[], None]) -> int:
        told: list[Any] = []

        def body(tell: Callable[[str, Any], None]) -> None:
            limit()
            product.run(
                self._state.inputs,
                self._out,
                on_record=lambda record: tell("record", driver.line_of(record)),
            )

        code, told = driver.forked(body)
        done = [invariants.Line(*value) for word, value in told if word == "record"]
        acknowledged = {*self._state.committed, *done}
        found = invariants.after_a_kill(self._out, acknowledged, self._state.orphans)
        self.faults += [f"{self._state.name}, {what}: {fault}" for fault in found]
        return code

    def play(self, what: str, limit: Callable[[], None], relieve: Callable[[], None]) -> None:
        """Run without room, see that the folder is whole, then finish with room."""
        told = f"{self._state.name}, {what}"
        code = self._run(what, limit)
        self.codes[code] += 1
        relieve()
        if code not in (0, CANNOT, IO_ERROR):
            self.faults.append(f"{told}: ended with {code}")
        if code == IO_ERROR and invariants.torn_tail(self._out) is not None:
            self.faults.append(f"{told}: a line was left half written")
        if (code := self._run(what, lambda: None)) != 0:
            self.faults.append(f"{told}: with room again, ended with {code}")
        found = invariants.at_the_end(
            self._out, self._wanted, self._state.quarantined, self._state.damaged
        )
        self.faults += [f"{told}: {fault}" for fault in found]
        self._restore()


def on_disk(world: Crowded, root: Path) -> None:
    """So many pages are left of the file system, from none to enough."""
    ballast = root / "ballast"

    def fill(pages: int) -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                pass
            file.truncate(max(0, file.tell() // PAGE - pages) * PAGE)

    for pages in range(PAGES):
        fill(pages)
        world.play(f"{pages} pages left", lambda: None, ballast.unlink)


def by_limit(world: Crowded) -> None:
    """No file may grow over a size, from nothing to enough."""
    for size in range(0, world.largest + STRIDE, STRIDE):

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        world.play(f"{size} bytes a file", limit, lambda: None)


def worlds(root: Path) -> Iterator[Crowded]:
    """An empty folder, one that grows, and one that must be repaired first."""
    for state in states.Maker(root / "states", driver.once).all():
        if state.name in ("nothing", "changed", "torn"):
            yield Crowded(state, root / "play" / state.name)


def main(task: dict[str, Any]) -> dict[str, Any]:
    """All that a task asks for, and what did not hold."""
    root = Path(task["root"])
    states.write(root / "warm" / "in", states.DOCUMENTS)
    product.run(root / "warm" / "in", root / "warm" / "out")
    codes: Counter[int] = Counter()
    faults = []
    for world in worlds(root):
        if task["how"] == "disk":
            on_disk(world, root)
        else:
            by_limit(world)
        codes.update(world.codes)
        faults += world.faults
    return {"codes": codes, "violations": faults}


if __name__ == "__main__":
    sys.stdout.write(invariants.as_json(main(json.loads(sys.argv[1]))) + "\n")
