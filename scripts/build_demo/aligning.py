"""Stage 3: tower and projector learn the language model's words for what the tower sees.

Next-token loss on the answers of the packaged templates; the language model is frozen. Most steps
are `screen` prompts that end where yes, no and cannot tell part; every fifth is a whole answer.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.build_demo import pictures, seeing, showing
from scripts.build_demo.drawn import CANNOT_TELL, Drawn
from scripts.build_demo.frozen import Reader, load
from scripts.build_demo.keeping import mark
from scripts.build_demo.seeing import MIX, Course, Eye, Figures

COURSE = Course(steps=240, batch=16, rate=1e-3, tower_rate=5e-5)
_EVERY_WHOLE = 5
_WHOLE = 4  # pictures of a step of whole answers, which are long


def loss(reader: Reader, eye: Eye, course: Course, step: int) -> Any:
    """The loss of a step."""
    whole = step % _EVERY_WHOLE == _EVERY_WHOLE - 1
    count = min(_WHOLE, course.batch) if whole else course.batch
    drawn = [pictures.draw(course.seed, n, MIX) for n in course.numbers(step, count)]
    rng = np.random.default_rng([course.seed, step, 2])
    if not whole:
        asked = [showing.question(one.facts, rng) for one in drawn]
        return _deciding(reader, eye, drawn, asked)
    template = showing.TEMPLATES[step // _EVERY_WHOLE % len(showing.TEMPLATES)]
    return _telling(reader, eye, drawn, template, rng)


def _deciding(reader: Reader, eye: Eye, drawn: list[Drawn], asked: list[str]) -> Any:
    """Cross-entropy of yes, no and cannot tell over the whole vocabulary."""
    import torch

    logs, options = _answers(reader, eye, drawn, asked)
    wanted = torch.tensor(
        [showing.weights(one.facts, words) for one, words in zip(drawn, asked, strict=True)]
    )
    return -(wanted * logs.gather(1, options)).sum(dim=1).mean()


def _answers(reader: Reader, eye: Eye, drawn: list[Drawn], asked: list[str]) -> tuple[Any, Any]:
    """Log-probabilities of what comes at the decision, (rows, vocabulary), and the three ids."""
    import torch

    places = [showing.decision(reader.encoder, words) for words in asked]
    ids = showing.padded([place.rest for place in places])
    hidden = reader.hidden(places[0].head, ids, eye.look(drawn))
    last = torch.tensor([len(place.rest) - 1 for place in places])
    logits = reader.logits(hidden[torch.arange(len(ids)), last])
    return logits.log_softmax(dim=-1), torch.tensor([place.options for place in places])


def _telling(
    reader: Reader, eye: Eye, drawn: list[Drawn], template: str, rng: np.random.Generator
) -> Any:
    """Cross-entropy of whole answers."""
    import torch
    from torch.nn import functional

    made = [showing.shown(reader.encoder, template, one.facts, rng) for one in drawn]
    ids = showing.padded([one.rest for one in made])
    hidden = reader.hidden(made[0].head, ids, eye.look(drawn))
    places = [(row, at) for row, one in enumerate(made) for at in range(one.start, len(one.rest))]
    row, at = (torch.tensor(column) for column in zip(*places, strict=True))
    return functional.cross_entropy(reader.logits(hidden[row, at - 1]), ids[row, at])


def measure(reader: Reader, eye: Eye, seed: int, count: int, batch: int) -> Figures:
    """Of fresh pictures: mean probability of yes by what is true, and how often it is right."""
    import torch

    of: dict[str, list[float]] = {"yes": [], "no": [], CANNOT_TELL: []}
    right = 0
    for drawn in seeing.held(seed, count, batch):
        asked = [pictures.question(one, i) for i, one in enumerate(drawn)]
        with torch.inference_mode():
            logs, options = _answers(reader, eye, drawn, asked)
        shares = logs.gather(1, options).softmax(dim=-1)
        for one, words, share in zip(drawn, asked, shares.tolist(), strict=True):
            true = showing.answer(one.facts, words)["answer"]
            of[true].append(share[0])
            right += showing.ANSWERS[share.index(max(share))] == true
    means = {f"yes_of_{name}": sum(v) / len(v) for name, v in of.items() if v}
    return {"right": right / count, **means}


def align(
    base: Path,
    adapter: Path | None,
    tower: Path,
    out: Path,
    course: Course,
    tell: Callable[[dict[str, Any]], None],
    *,
    checked: int = 64,
    every: int = 20,
) -> None:
    """Train against the text model of a folder; `sight.safetensors` in `out` at the end."""
    reader, eye = load(base, adapter), seeing.read(tower)
    seeing.train(
        eye,
        out,
        course,
        partial(loss, reader, eye, course),
        partial(measure, reader, eye, course.seed, checked, course.batch),
        tell,
        more={"adapter": mark(adapter), "tower": mark(tower.parent)},
        every=every,
    )
