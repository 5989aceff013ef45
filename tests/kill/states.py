"""The folders that a run may find: documents, and an output folder with or without a past."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import invariants
from invariants import Line

DOCUMENTS = {
    "a.md": "Dry cough since Monday.\nNo fever.\n",
    "b.txt": "Señora Pérez takes 5 mg of ramipril.\n",
    "e.md": "Left knee swollen after a fall.\n",
    "ward/c.md": "Slept well. Pain 2 of 10.\n",
    "ward/twin.md": "Dry cough since Monday.\nNo fever.\n",
}
NEW = "ward/z.md"
TEXT_OF_NEW = "Walks with a stick since spring.\n"

# A run of the product in a process of its own: inputs, output folder.
Once = Callable[[Path, Path], None]


class State(NamedTuple):
    """Documents and the output folder before the first run.

    Attributes:
        out: what the output folder holds; None where there is none.
        committed: records that are finished, whatever comes.
        quarantined: bytes that the run must keep in its quarantine.
        damaged: lines that may stay although they are no records.
        orphans: key and time of summaries whose record is damaged.
    """

    name: str
    inputs: Path
    out: Path | None
    committed: tuple[Line, ...] = ()
    quarantined: tuple[bytes, ...] = ()
    damaged: tuple[bytes, ...] = ()
    orphans: tuple[tuple[str, str], ...] = ()


def write(folder: Path, documents: dict[str, str]) -> None:
    """Small documents, with the times of long ago."""
    for name, text in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        os.utime(path, (1_000_000_000, 1_000_000_000))


class Maker:
    """Makes the states below a folder, with a run of the product that nothing disturbs."""

    def __init__(self, root: Path, once: Once) -> None:
        self._root = root
        self._once = once

    def all(self) -> list[State]:
        """Every state, by what is special about it."""
        return [
            self.nothing(),
            self.deep(),
            self.changed(),
            self.back(),
            self.torn(),
            self.no_newline(),
            self.damaged(),
        ]

    def nothing(self) -> State:
        """No output folder."""
        inputs = self._inputs("nothing")
        write(inputs, {NEW: TEXT_OF_NEW})
        return State("nothing", inputs, None)

    def deep(self) -> State:
        """No output folder, and no document whose summary would stand at its top."""
        inputs = self._root / "deep" / "in"
        write(inputs, {NEW: TEXT_OF_NEW, "ward/c.md": DOCUMENTS["ward/c.md"]})
        return State("deep", inputs, None)

    def changed(self) -> State:
        """A finished run; since then one document changed, one came, two summaries vanished."""
        state = self._past("changed")
        assert state.out is not None
        write(state.inputs, {"e.md": "Left knee better.\n", NEW: TEXT_OF_NEW})
        (state.out / "a.md").unlink()
        (state.out / "ward" / "c.md").unlink()
        return state

    def back(self) -> State:
        """A document that changed and changed back: its first record becomes current again."""
        state = self._past("back")
        assert state.out is not None
        write(state.inputs, {"e.md": "Left knee better.\n"})
        self._once(state.inputs, state.out)
        write(state.inputs, {"e.md": DOCUMENTS["e.md"]})
        shutil.rmtree(state.out / "ward")
        return state._replace(committed=tuple(invariants.lines_of(state.out)))

    def torn(self) -> State:
        """A kill in mid-append, temporary files of kills, a summary that vanished."""
        state = self._past("torn")
        assert state.out is not None
        whole = self._line_of_new(state)
        tail = whole[: len(whole) // 2]
        with (state.out / "records.jsonl").open("ab") as file:
            file.write(tail)
        for folder, mark in (("", "0"), ("ward", "1")):
            temporary = state.out / folder / f".medgemma-{mark * 16}.tmp"
            temporary.write_bytes(b"half a summ")
            temporary.chmod(0o600)
        (state.out / "b.txt.md").unlink()
        return state._replace(quarantined=(tail,))

    def no_newline(self) -> State:
        """A kill before the newline: the record is whole, its summary was never written."""
        state = self._past("no newline")
        assert state.out is not None
        with (state.out / "records.jsonl").open("ab") as file:
            file.write(self._line_of_new(state).removesuffix(b"\n"))
        write(state.inputs, {"e.md": "Left knee better.\n"})
        return state._replace(committed=tuple(invariants.lines_of(state.out)))

    def damaged(self) -> State:
        """Two lines that were records once: one in the middle, and a torn one at the end."""
        state = self._past("damaged")
        assert state.out is not None
        path = state.out / "records.jsonl"
        raw = invariants.raw_lines(state.out)
        bad = raw[1].replace(b'"key"', b'"kex"')
        tail = self._line_of_new(state)[:-9]
        path.write_bytes(b"".join([raw[0], bad, *raw[2:], tail]))
        lost = invariants.parse(raw[1])
        assert lost is not None
        return state._replace(
            committed=tuple(invariants.lines_of(state.out)),
            quarantined=(bad, tail),
            damaged=(bad,),
            orphans=((lost.key, lost.created),),
        )

    def _inputs(self, name: str) -> Path:
        inputs = self._root / name / "in"
        write(inputs, DOCUMENTS)
        return inputs

    def _past(self, name: str) -> State:
        inputs = self._inputs(name)
        out = self._root / name / "out"
        self._once(inputs, out)
        return State(name, inputs, out, tuple(invariants.lines_of(out)))

    def _line_of_new(self, state: State) -> bytes:
        """The line that a run would append for a new document, which it adds."""
        write(state.inputs, {NEW: TEXT_OF_NEW})
        assert state.out is not None
        other = state.out.parent / "other"
        shutil.copytree(state.out, other)
        self._once(state.inputs, other)
        line = invariants.raw_lines(other)[-1]
        shutil.rmtree(other)
        return line
