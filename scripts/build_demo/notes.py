"""Invented clinical notes, each with the answer that a template of the project should give.

Seeded: the same seed and count make the same file, byte for byte. An example whose answer the
project's own checks would flag is thrown away and drawn again: the model is to learn what passes.

    python -m scripts.build_demo.notes --seed 1 --count 3000 -o train.jsonl
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from medgemma_cli import templates
from medgemma_cli.records import Document as Shown
from medgemma_cli.records import Generation, Limits, Source
from medgemma_cli.safety.verdict import judge
from scripts.build_demo import golds
from scripts.build_demo.consulting import consultation
from scripts.build_demo.facts import Fact, Patient, patient, review
from scripts.build_demo.telling import tell

_SHARES = {"summarize": 66, "handoff": 9, "labs": 8, "general": 10, "screen": 7}
# The text alone, about 4 characters a token: some 80 minutes of learning for one core.
_LONGEST = 8_000
_CONSULTATIONS = 0.2


def examples(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Examples as `medgemma tune` reads them, no document twice."""
    draw = Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        made = _example(draw)
        if len(made["document"]) > _LONGEST or made["document"] in seen or not _passes(made):
            continue
        seen.add(made["document"])
        yield {"id": f"{seed}-{len(seen)}", **made}


def _example(draw: Random) -> dict[str, Any]:
    kind = draw.choices(tuple(_SHARES), tuple(_SHARES.values()), k=1)[0]
    if kind == "labs":
        text, asked = golds.labs(draw)
        return _line(text, asked)
    who = patient(draw)
    told = consultation if draw.random() < _CONSULTATIONS else tell
    document = told(draw, who, _some(draw, who))
    if kind == "handoff":
        document, asked = golds.handoff(draw, document)
    elif kind == "screen":
        asked = golds.screen(draw, document)
    else:
        asked = getattr(golds, kind)(draw, document)
    return _line(document.text, asked)


def _some(draw: Random, who: Patient) -> list[Fact]:
    """What this document tells: all of it, a part, or one section of a visit.

    Short ones are many: a model that has seen whole visits alone invents what a short text lacks.
    """
    facts = list(who.facts)
    roll = draw.random()
    if roll < 0.12:
        return [*facts[:1], *review(draw, woman=who.woman)][draw.randint(0, 1) :]
    if roll < 0.45:
        start = draw.randrange(len(facts))
        return facts[start : start + draw.randint(1, 4)]
    if roll < 0.72:
        keep = set(draw.sample(range(len(facts)), min(len(facts), draw.randint(4, 9))))
        return [fact for place, fact in enumerate(facts) if place in keep or place == 0]
    return facts


def _line(text: str, asked: golds.Asked) -> dict[str, Any]:
    made = {"template": asked.template, "document": text, "output": asked.output}
    return made if asked.question is None else {**made, "question": asked.question}


def _passes(made: dict[str, Any]) -> bool:
    """Whether `run` would accept this answer about this document without a flag."""
    template = templates.load(made["template"])
    shown = Shown(
        source=Source(place="", relative="", origin=""),
        sha256="",
        bytes=0,
        media_type="text/plain",
        text=made["document"],
        images=(),
        coverage={},
    )
    limits = Limits(max_new_tokens=template.max_new_tokens)
    contract = templates.render(template, shown, "0" * 64, limits, made.get("question")).contract
    output = made["output"]
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    generation = Generation(id="", text=text)
    return judge(shown, contract, generation).status == "ok"


def main() -> None:
    """Write the examples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    with chosen.output.open("w", encoding="utf-8") as file:
        for example in examples(chosen.seed, chosen.count):
            file.write(json.dumps(example, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
