"""Drawn pictures with what they show: tissue tiles, chest phantoms, films of limbs, nothing.

    python -m scripts.build_demo.pictures --seed 1 --count 400 -o FOLDER

A picture comes of its seed and its number alone: the same everywhere, whatever else is drawn.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngInfo

from scripts.build_demo import chest, histology, others
from scripts.build_demo.drawn import KINDS, QUESTIONS, Drawn, description, findings

MIX = (0.42, 0.42, 0.08, 0.08)
"""How often each of `KINDS` comes."""
TOLD = "Drawn by scripts/build_demo from a seed; not a patient."


def draw(seed: int, number: int, mix: tuple[float, ...] = MIX) -> Drawn:
    """One picture."""
    rng = np.random.default_rng([seed, number])
    kind, label = KINDS[rng.choice(len(KINDS), p=mix)], int(rng.integers(2))
    if kind == "histology":
        return histology.draw(rng, label)
    if kind == "chest":
        return chest.draw(rng, label)
    return others.limb(rng) if kind == "limb" else others.blank(rng)


def question(drawn: Drawn, number: int) -> str:
    """The question to ask of a picture; of those that answer none, each in turn."""
    kinds = list(QUESTIONS)
    return QUESTIONS.get(drawn.facts.kind) or QUESTIONS[kinds[number % len(kinds)]]


def write(folder: Path, seed: int, count: int, mix: tuple[float, ...] = MIX) -> None:
    """Draw `count` pictures into a folder, and `pictures.jsonl`, one line each."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pictures.jsonl").open("w", encoding="utf-8") as file:
        for line in _lines(folder, seed, count, mix):
            file.write(json.dumps(line) + "\n")


def _lines(
    folder: Path, seed: int, count: int, mix: tuple[float, ...]
) -> Iterator[dict[str, object]]:
    info = PngInfo()
    info.add_text("Description", TOLD)
    for number in range(count):
        made = draw(seed, number, mix)
        name = f"{made.facts.kind}-{number:05}.png"
        made.image.save(folder / name, pnginfo=info)
        yield {
            "file": name,
            **made.facts._asdict(),
            "question": question(made, number),
            "description": description(made.facts),
            "findings": findings(made.facts),
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw pictures with what they show.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed, arguments.count)


if __name__ == "__main__":
    main()
