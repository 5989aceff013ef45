"""Does the demo model see? Fresh drawings through `medgemma run`, measured by `medgemma eval`.

    python -m scripts.build_demo.judge --work FOLDER [--model demo] [--count 400] [--seed 90210]
        [--described 100]

Half tissue tiles, half chest films, half of each with what the question asks for. Then the pictures
of those answered yes are made blank (even grey of the same mean) and asked about again: an answer
that stays yes came from the question. Some are summarised, too: what is said of them is compared
with what is drawn. One line of JSON. Runs are resumable: the same command goes on. For summaries
of real notes see notes_judge.py.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonlines
import numpy as np
from PIL import Image

from scripts.build_demo import chest, histology
from scripts.build_demo.drawn import QUESTIONS, Drawn, Facts, description, every_fact, key_words

KINDS = ("histology", "chest")
# By kind: words of a summary where the label is 1, and where it is 0.
_SIGNS = {"histology": ("enlarged", "small"), "chest": ("opacity", "clear")}
_DONE = (0, 3)  # 3: some failed, which count as not answered


def draw(seed: int, number: int) -> Drawn:
    """A picture to judge by: kinds in turn, labels in turn."""
    rng = np.random.default_rng([seed, number])
    label = number // 2 % 2
    return histology.draw(rng, label) if number % 2 == 0 else chest.draw(rng, label)


def write(work: Path, seed: int, count: int) -> dict[str, int]:
    """The pictures, a folder a kind; the label of each by its path."""
    labels: dict[str, int] = {}
    for number in range(count):
        made = draw(seed, number)
        path = work / "in" / made.facts.kind / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.image.save(path)
        labels[f"{made.facts.kind}/{path.name}"] = made.facts.label
    return labels


def blank(work: Path, names: list[str]) -> None:
    """Even greys of the same mean in place of these pictures."""
    for name in names:
        path = work / "blank" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(work / "in" / name)
        mean = round(float(np.asarray(picture, np.float32).mean()))
        Image.new("RGB", picture.size, (mean, mean, mean)).save(path)


def screen(work: Path, pictures: str, model: str, more: list[str]) -> dict[str, dict[str, Any]]:
    """The current records of a run over each kind's pictures, with its question, by their path."""
    records: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        if not (work / pictures / kind).is_dir():
            continue
        out = work / f"{pictures}-{kind}"
        asked = ["--template", "screen", "--question", QUESTIONS[kind], "--model", model]
        _medgemma("run", work / pictures / kind, "-o", out, *asked, *more)
        with jsonlines.open(out / "records.jsonl") as lines:
            for line in lines:
                records[f"{kind}/{line['source']}"] = line
    return records


def _medgemma(*arguments: object) -> str:
    line = [sys.executable, "-m", "medgemma_cli", *map(str, arguments)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=os.environ, check=False)
    if done.returncode not in _DONE:
        raise SystemExit(done.returncode)
    return done.stdout


def said(record: dict[str, Any] | None) -> str | None:
    """The answer, None where there is none."""
    return ((record or {}).get("output") or {}).get("answer")


def sure(record: dict[str, Any]) -> float | None:
    """The probability of yes among all answers, None where there is none."""
    field = ((record.get("confidence") or {}).get("fields") or {}).get("answer") or {}
    value = (field.get("options") or {}).get("yes")
    return None if value is None else float(value)


def describe(work: Path, model: str, seed: int, count: int, more: list[str]) -> dict[str, float]:
    """Of the first pictures, by `summarize`: the shares whose summary says rightly what they are.

    `kind`: tissue or a chest film; `label`: that, and how the nuclei are or whether there is an
    opacity; `whole`: all that is told of it, side, zone and size of an opacity and the layout of
    nuclei among it. An answer that is none counts as wrong.
    """
    if not count:
        return {}
    folder, out = work / "described", work / "described-out"
    folder.mkdir(parents=True, exist_ok=True)
    facts = {}
    for number in range(count):
        made = draw(seed, number)
        facts[f"{number:04}.png"] = made.facts
        made.image.save(folder / f"{number:04}.png")
    _medgemma("run", folder, "-o", out, "--template", "summarize", "--model", model, *more)
    with jsonlines.open(out / "records.jsonl") as lines:
        summaries = {line["source"]: (line["output"] or {}).get("summary") or "" for line in lines}
    told = [_told(one, summaries.get(name, "")) for name, one in facts.items()]
    return {name: sum(one[name] for one in told) / count for name in ("kind", "label", "whole")}


def _told(facts: Facts, summary: str) -> dict[str, bool]:
    """What a summary says rightly."""
    words, own = _words(summary), _words(description(facts))
    kind = ("tissue" in words, "chest" in words) == (facts.kind == KINDS[0], facts.kind == KINDS[1])
    seen, unseen = _SIGNS[facts.kind] if facts.label else _SIGNS[facts.kind][::-1]
    label = kind and seen in words and unseen not in words
    others = {word for one in every_fact() for word in key_words(one)} - own
    whole = label and words >= set(key_words(facts)) and not words & others
    return {"kind": kind, "label": label, "whole": whole}


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def judge(
    work: Path, model: str, seed: int, count: int, more: list[str], described: int = 0
) -> dict[str, Any]:
    """All figures; those of `eval screen` with their intervals."""
    labels = write(work, seed, count)
    seen = screen(work, "in", model, more)
    with jsonlines.open(work / "scores.jsonl", "w") as lines:
        for name, label in labels.items():
            score = sure(seen.get(name, {}))
            if score is not None:
                lines.write({"score": score, "label": label})
    figures = json.loads(_medgemma("eval", "screen", work / "scores.jsonl", "--json"))
    positives = [name for name, label in labels.items() if label]
    yes = [name for name in positives if said(seen.get(name)) == "yes"]
    blank(work, yes)
    again = screen(work, "blank", model, more) if yes else {}
    flipped = sum(said(again.get(name)) not in ("yes", None) for name in yes)
    return {
        "pictures": count,
        "positives": len(positives),
        "answered_yes": len(yes),
        "flipped": flipped,
        "flipped_share": round(flipped / len(yes), 4) if yes else None,
        "screen": figures,
        "described": described,
        "described_rightly": describe(work, model, seed, described, more),
    }


def main() -> None:
    """The command line; what follows `--` goes to `medgemma run`."""
    parser = argparse.ArgumentParser(description="Judge the demo model's eye.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=90210)
    parser.add_argument("--described", type=int, default=100)
    parser.add_argument("more", nargs="*", help="for medgemma run, after --")
    chosen = parser.parse_args()
    made = judge(
        chosen.work, chosen.model, chosen.seed, chosen.count, chosen.more, chosen.described
    )
    sys.stdout.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
