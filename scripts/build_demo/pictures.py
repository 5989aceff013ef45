"""Drawn pictures with what they show: tissue tiles, chest phantoms, films of limbs, nothing.

    python -m scripts.build_demo.pictures --seed 1 --count 400 -o FOLDER [--beside NOTES.jsonl]

A picture comes of its seed and its number alone: the same everywhere, whatever else is drawn.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngInfo

from scripts.build_demo import chest, histology, others, showing
from scripts.build_demo.drawn import KINDS, QUESTIONS, Drawn, description, findings

MIX = (0.42, 0.42, 0.08, 0.08)
"""How often each of `KINDS` comes."""
LESSONS = (0.36, 0.44, 0.1, 0.1)
"""The same in lessons: a film has most that can be told."""
_SHARES = {"summarize": 0.4, "radiology": 0.25, "general": 0.2, "screen": 0.15}
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
    for number in range(count):
        made = draw(seed, number, mix)
        name = f"{made.facts.kind}-{number:05}.png"
        made.image.save(folder / name, pnginfo=_info())
        yield {
            "file": name,
            **made.facts._asdict(),
            "question": question(made, number),
            "description": description(made.facts),
            "findings": findings(made.facts),
        }


def lessons(folder: Path, seed: int, count: int, notes: Path) -> None:
    """Draw, and write `train.jsonl` for `medgemma tune`: a template's answer a picture, and notes.

    Args:
        notes: examples of notes.py, which the pictures' follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        file.write(notes.read_text("utf-8"))
        for number in range(count):
            made, name = draw(seed, number, LESSONS), f"{number:05}.png"
            made.image.save(folder / name, pnginfo=_info())
            rng = np.random.default_rng([seed, number, 3])
            template = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
            asked, output = showing.told(template, made.facts, rng)
            line = {"template": template, "image": name, "output": output}
            line |= {"question": asked} if asked else {}
            file.write(json.dumps(line) + "\n")


def _info() -> PngInfo:
    info = PngInfo()
    info.add_text("Description", TOLD)
    return info


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw pictures with what they show.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--beside", type=Path, help="write lessons for tune, with these notes")
    arguments = parser.parse_args()
    if arguments.beside is None:
        write(arguments.out, arguments.seed, arguments.count)
    else:
        lessons(arguments.out, arguments.seed, arguments.count, arguments.beside)


if __name__ == "__main__":
    main()
