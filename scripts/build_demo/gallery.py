"""Drawn pictures as arrays on disk: each drawn once, when it is first asked for."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scripts.build_demo import pictures
from scripts.build_demo.canvas import PATCHES, SIDE
from scripts.build_demo.drawn import KINDS, LAYOUTS, SIDES, SIZES, ZONES

UNTOLD = -100
"""The target of what a picture has not: torch leaves it out of the loss."""
TASKS = {"kind": 4, "label": 2, "side": 2, "zone": 2, "size": 2, "layout": 3}
"""What is told of a whole picture, each with the number of its classes."""
_CLASSES = {
    "side": SIDES,
    "zone": ZONES,
    "size": SIZES,
    "layout": LAYOUTS,
}


class Batch(NamedTuple):
    """Pixels uint8 (n, 224, 224, 3), parts (n, 4, 16, 16) and targets int64 (n, 6)."""

    pixels: NDArray[np.uint8]
    parts: NDArray[np.float32]
    targets: NDArray[np.int64]


class Gallery:
    """So many pictures of a seed. What was drawn stays in the folder; a kill loses one at most."""

    def __init__(
        self, folder: Path, seed: int, count: int, mix: tuple[float, ...] = pictures.MIX
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._seed, self._mix = seed, mix
        self._pixels = _array(folder / f"pixels-{seed}.npy", np.uint8, (count, SIDE, SIDE, 3))
        self._parts = _array(folder / f"parts-{seed}.npy", np.float32, (count, 4, PATCHES, PATCHES))
        # The last column says whether the row is there; it is written last.
        self._told = _array(folder / f"told-{seed}.npy", np.int64, (count, len(TASKS) + 1))

    def __len__(self) -> int:
        return len(self._told)

    def take(self, numbers: NDArray[np.int64]) -> Batch:
        """The pictures of these numbers."""
        for number in numbers:
            if not self._told[number, -1]:
                self._draw(int(number))
        return Batch(
            np.asarray(self._pixels[numbers]),
            np.asarray(self._parts[numbers]),
            np.asarray(self._told[numbers, :-1]),
        )

    def _draw(self, number: int) -> None:
        drawn = pictures.draw(self._seed, number, self._mix)
        self._pixels[number] = np.asarray(drawn.image)
        self._parts[number] = drawn.parts
        self._told[number, :-1] = targets(drawn.facts._asdict())
        self._told[number, -1] = 1


def targets(facts: dict[str, Any]) -> list[int]:
    """The class of each of `TASKS`, `UNTOLD` where the picture has none."""
    made = [KINDS.index(facts["kind"])]
    made.append(int(facts["label"]) if facts["kind"] in ("histology", "chest") else UNTOLD)
    for name, classes in _CLASSES.items():
        made.append(classes.index(facts[name]) if facts[name] in classes else UNTOLD)
    return made


def _array(path: Path, kind: type, shape: tuple[int, ...]) -> Any:
    """An array on disk, zero at first; one of another shape is begun anew."""
    if path.exists():
        found = np.load(path, mmap_mode="r+")
        if found.shape == shape:
            return found
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)


def told(figures: dict[str, Any]) -> str:
    """Figures as one line of JSON."""
    return json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
