"""Kills runs of the product at every step they take, and says what did not hold afterwards.

Run as one process: everything is imported once, and each run is a fork. Takes its task as JSON
in its first argument, and prints a report as JSON.
"""

import gc
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import invariants
import mutations
import product
import states
from invariants import Line
from shim import Kill, Shim, variants
from states import Maker, State

from medgemma_cli.errors import MedgemmaError
from medgemma_cli.records import Record

SECONDS = 60
RESUMED = ("before", "half", "power", "after", "last", "empty")
EVERY = ("half", "power", "after", "last", "empty")  # half of a call that is no write: before it
CHOSEN = 5
STUBBORN = 12
IDLE = 4


class Ended(NamedTuple):
    """How one run ended: its exit status (below 0: the signal), and what it told before.

    Attributes:
        steps: the kinds of its steps; the last one is where it died, if it did.
        records: what was told to be finished.
    """

    code: int
    steps: list[str]
    records: list[Line]
    inferred: int
    error: str


class Report:
    """What was tried and what did not hold.

    Attributes:
        steps: state → how many steps its run takes when nothing disturbs it.
        seen: the kinds of all these steps; `kinds`: those at which a first run died, and
            `resumed`, a later one.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.steps: dict[str, int] = {}
        self.seen: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.resumed: Counter[str] = Counter()
        self.kills = self.scenarios = self.runs = 0

    def as_json(self) -> str:
        """One line."""
        return invariants.as_json({**vars(self), "seconds": round(time.process_time(), 1)})


def forked(body: Callable[[Callable[[str, Any], None]], None]) -> tuple[int, list[Any]]:
    """A body in a child of its own; its exit status, and what it told through a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        write = os.write

        def tell(what: str, value: Any) -> None:
            data = json.dumps([what, value]).encode() + b"\n"
            while data:
                data = data[write(writing, data) :]

        os._exit(status_of(body, tell))
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = [json.loads(line) for line in pipe]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def status_of(
    body: Callable[[Callable[[str, Any], None]], None], tell: Callable[[str, Any], None]
) -> int:
    """The exit status that a body comes to; what it raises is told."""
    try:
        body(tell)
    except MedgemmaError as error:
        tell("error", error.message)
        return error.exit_code
    except BaseException:
        tell("error", traceback.format_exc(limit=-4))
        return 1
    return 0


def run_once(inputs: Path, out: Path, group: int, kill: Kill | None = None) -> Ended:
    """One run, killed at a step or left to end."""

    def body(tell: Callable[[str, Any], None]) -> None:
        shim = Shim(out, kill, lambda steps: tell("steps", steps))
        shim.install()
        product.run(
            inputs,
            out,
            on_record=lambda record: tell("record", line_of(record)),
            on_answer=lambda: tell("inferred", 1),
            group=group,
        )
        tell("steps", shim.steps)

    code, told = forked(body)
    found: dict[str, list[Any]] = {"steps": [], "record": [], "inferred": [], "error": []}
    for what, value in told:
        found[what].append(value)
    return Ended(
        code,
        found["steps"][-1] if found["steps"] else [],
        [Line(*line) for line in found["record"]],
        len(found["inferred"]),
        "; ".join(found["error"]),
    )


def line_of(record: Record) -> Line:
    """A record, as the invariants see it."""
    slot = record.summary or f"//{record.source}"
    return Line(slot, record.key, record.created, record.reused, record.status)


class World:
    """One state, and a folder in which its scenarios are played.

    Args:
        group: how many records are made durable together, and may be lost in a power cut.
    """

    def __init__(self, state: State, folder: Path, report: Report, group: int = 1) -> None:
        self.state = state
        self.report = report
        self.group = group
        self._out = folder / "out"
        self._folder = folder
        self._before = invariants.files_of(state.inputs)
        self.undisturbed, lines = self._undisturbed()
        self._wanted = {line.slot: line.key for line in lines}

    def _undisturbed(self) -> tuple[Ended, list[Line]]:
        self._restore()
        ended = run_once(self.state.inputs, self._out, self.group)
        assert ended.code == 0, ended.error
        return ended, invariants.lines_of(self._out)

    def again(self) -> None:
        """Count the steps again: a mutant may take others."""
        self.undisturbed, _ = self._undisturbed()
        self.report.steps[self.state.name] = len(self.undisturbed.steps)
        self.report.seen.update(self.undisturbed.steps)

    def _restore(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if self.state.out is not None:
            shutil.copytree(self.state.out, self._out)

    def play(self, *kills: Kill) -> int:
        """A run for each kill, one to finish, and sometimes one with nothing to do.

        Returns:
            How many of the kills came to pass.
        """
        self._restore()
        report, faults = self.report, list[str]()
        acknowledged = set(self.state.committed)
        tails = set(self.state.quarantined)
        inferred = killed = 0
        for number, kill in enumerate((*kills, None)):
            ended = run_once(self.state.inputs, self._out, self.group, kill)
            report.runs += 1
            inferred += ended.inferred
            acknowledged.update(ended.records)
            if kill is not None and ended.code == -signal.SIGKILL:
                killed += 1
                (report.resumed if number else report.kinds)[ended.steps[-1]] += 1
                if (tail := invariants.torn_tail(self._out)) is not None:
                    tails.add(tail)
            elif ended.code != 0:
                faults.append(f"run {number + 1} ended with {ended.code}: {ended.error}")
            faults += invariants.after_a_kill(self._out, acknowledged, self.state.orphans)
        faults += invariants.at_the_end(self._out, self._wanted, tails, self.state.damaged)
        if inferred > self.undisturbed.inferred + killed * self.group:
            faults.append(f"{inferred} inferences for {self.undisturbed.inferred} documents")
        if report.scenarios % IDLE == 0:
            faults += self._nothing_to_do()
        faults += invariants.same_inputs(self.state.inputs, self._before)
        report.kills += killed
        report.scenarios += 1
        told = " ".join(f"{kill.step}:{kill.variant}" for kill in kills)
        faults = list(dict.fromkeys(faults))
        report.violations += [f"{self.state.name} [{told}]: {fault}" for fault in faults]
        return killed

    def _nothing_to_do(self) -> list[str]:
        """A run after the last one adds nothing to the ledger and infers nothing."""
        before = invariants.raw_lines(self._out)
        ended = run_once(self.state.inputs, self._out, self.group)
        self.report.runs += 1
        done = ended.code != 0 or ended.inferred or invariants.raw_lines(self._out) != before
        return [f"a run with nothing to do did something ({ended.code})"] if done else []


def enumerated(steps: list[str], times: int) -> Iterator[tuple[Kill, ...]]:
    """Every step of the first run in every way, and each time the resume at a step of its own.

    Of the two kinds of power cut each step gets one, unless there is more time.
    """
    chance = random.Random(len(steps))
    turn = 0
    for at, kind in enumerate(steps, 1):
        skipped = chance.choice(("power", "empty")) if times == 1 else None
        for variant in variants(kind) * times:
            if variant == skipped:
                continue
            turn += 1
            resumed = 1 + turn * 7 % (len(steps) - at + 4)
            yield Kill(at, variant), Kill(resumed, RESUMED[turn % len(RESUMED)])


def stubborn(steps: list[str]) -> Iterator[tuple[Kill, ...]]:
    """The same step kills again and again: no document is to blame for that."""
    for step in range(1, 1 + min(STUBBORN, len(steps))):
        yield (Kill(step, "before"),) * STUBBORN


def at_random(steps: list[str], count: int, seed: str) -> Iterator[tuple[Kill, ...]]:
    """Three kills at steps and in ways drawn from a seed."""
    chance = random.Random(seed)
    for _ in range(count):
        drawn = [chance.randint(1, len(steps)) for _ in range(3)]
        yield tuple(Kill(step, chance.choice(variants(steps[step - 1]))) for step in drawn)


def chosen(steps: list[str], times: int) -> Iterator[tuple[Kill, str]]:
    """Some first kills, and how every step of the resume is then to die."""
    for number, at in enumerate(sorted({1 + i * len(steps) // CHOSEN for i in range(CHOSEN)})):
        first = Kill(at, variants(steps[at - 1])[number % 2])
        yield from ((first, variant) for variant in EVERY[:times])


def every_resume(world: World, first: Kill, variant: str) -> None:
    """Each step of the resume until there is none left to die at."""
    step = 1
    while world.play(first, Kill(step, variant)) == 2:
        step += 1


def plays(world: World, task: dict[str, Any]) -> Iterator[Callable[[], object]]:
    """All scenarios of one state."""
    steps, times = world.undisturbed.steps, task.get("times", 1)
    seed = f"{task.get('seed', 0)} {world.state.name}"
    for kills in (
        *enumerated(steps, times),
        *stubborn(steps),
        *at_random(steps, task.get("random", 0), seed),
    ):
        yield partial(world.play, *kills)
    for first, variant in chosen(steps, times):
        yield partial(every_resume, world, first, variant)


def main(task: dict[str, Any]) -> Report:
    """Play the scenarios of a task.

    Its fields: `root` (a folder), `states` (names, or all), `shard` and `shards`, `times` (how
    much more), `random` (three kills, how often a state), `seed`, `group` (see `World`),
    `mutation` (a name), `stop` (after the first violation that has these words).
    """
    report = Report()
    root, group = Path(task["root"]), task.get("group", 1)
    states.write(root / "warm" / "in", states.DOCUMENTS)
    product.run(root / "warm" / "in", root / "warm" / "out")  # what is made once is made here
    wanted = task.get("states")
    made = [s for s in Maker(root / "states", once).all() if not wanted or s.name in wanted]
    gc.collect()
    gc.freeze()
    worlds = [World(state, root / "play" / state.name, report, group) for state in made]
    if mutation := task.get("mutation"):
        mutations.MUTANTS[mutation].apply()
    for world in worlds:
        world.again()
    shard, shards = task.get("shard", 0), task.get("shards", 1)
    for number, play in enumerate(chain.from_iterable(plays(world, task) for world in worlds)):
        if number % shards == shard:
            play()
        if (stop := task.get("stop")) and any(stop in said for said in report.violations):
            break
    return report


def once(inputs: Path, out: Path) -> None:
    """A run that nothing disturbs, in a process of its own."""
    code, told = forked(lambda tell: product.run(inputs, out))
    assert code == 0, told


if __name__ == "__main__":
    sys.stdout.write(main(json.loads(sys.argv[1])).as_json() + "\n")
