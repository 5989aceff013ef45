"""Drawn pictures as lessons: the ids that `medgemma run` shows, and the answer it should get."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from medgemma_cli import templates
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.tuning.lessons import lesson
from medgemma_cli.records import Document, Image, Limits, Source
from medgemma_cli.tuning.examples import Example
from medgemma_cli.tuning.rendering import answer_text
from scripts.build_demo import drawn
from scripts.build_demo.drawn import CANNOT_TELL, QUESTIONS, Facts

ANSWERS = ("yes", "no", CANNOT_TELL)
TEMPLATES = ("screen", "radiology", "summarize", "general")
ASKED = {
    "histology": (
        QUESTIONS["histology"],
        "Are atypical nuclei seen?",
        "Are the nuclei enlarged and irregular?",
    ),
    "chest": (
        QUESTIONS["chest"],
        "Is there an opacity in the lungs?",
        "Is an opacity seen?",
    ),
}
"""What a picture of a kind may be asked; the first is what it is judged by."""
_OPEN = ("What does this picture show?", "What does the film show?", "Describe the picture.")
# How sure the answer should be: what is drawn faintly cannot be told with certainty.
_SURE = {
    "yes": (0.97, 0.02, 0.01),
    "no": (0.02, 0.97, 0.01),
    CANNOT_TELL: (0.02, 0.06, 0.92),
}


class Shown(NamedTuple):
    """Ids behind `head`, which all examples of a template share; learned from `start` on."""

    head: tuple[int, ...]
    rest: list[int]
    start: int


class Decision(NamedTuple):
    """A prompt with its answer up to where yes, no and cannot tell part, and their next ids."""

    head: tuple[int, ...]
    rest: list[int]
    options: tuple[int, int, int]


def question(facts: Facts, rng: np.random.Generator) -> str:
    """A question to ask of a picture; now and then one that it cannot answer."""
    kinds = list(ASKED)
    kind = facts.kind if facts.kind in ASKED and rng.random() > 0.06 else str(rng.choice(kinds))
    asked = ASKED[kind]
    return asked[0] if rng.random() < 0.6 else str(rng.choice(asked))


def answer(facts: Facts, asked: str) -> dict[str, Any]:
    """What `screen` should give for any of the questions of `ASKED`."""
    fits = asked in ASKED.get(facts.kind, ())
    return drawn.screened(facts, QUESTIONS[facts.kind] if fits else asked)


def weights(facts: Facts, asked: str) -> tuple[float, float, float]:
    """How likely each of `ANSWERS` should be."""
    return _SURE[answer(facts, asked)["answer"]]


def told(template: str, facts: Facts, rng: np.random.Generator) -> tuple[str | None, Any]:
    """A question, where the template has one, and the output it should give."""
    if template == "screen":
        asked = question(facts, rng)
        return asked, answer(facts, asked)
    if template == "general":
        return str(rng.choice(_OPEN)), drawn.description(facts)
    return None, drawn.reported(facts) if template == "radiology" else drawn.summarised(facts)


def shown(encoder: Encoder, template: str, facts: Facts, rng: np.random.Generator) -> Shown:
    """A whole example of a template."""
    return _example(encoder, template, *told(template, facts, rng))


@lru_cache(maxsize=64)
def decision(encoder: Encoder, asked: str) -> Decision:
    """Where the answer of `screen` to a question is decided."""
    made = [
        _example(encoder, "screen", asked, {"answer": one, "reason": "It is seen."})
        for one in ANSWERS
    ]
    at = next(i for i, ids in enumerate(zip(*(one.rest for one in made), strict=False))
              if len(set(ids)) > 1)  # fmt: skip
    options = tuple(one.rest[at] for one in made)
    assert len(set(options)) == len(ANSWERS), "two answers begin with the same token"
    return Decision(made[0].head, made[0].rest[:at], (options[0], options[1], options[2]))


def _example(encoder: Encoder, name: str, asked: str | None, output: Any) -> Shown:
    template = _template(name)
    limits = Limits(max_new_tokens=template.max_new_tokens)
    prompt = templates.render(template, _PICTURE, f"drawn:{name}", limits, asked)
    text = answer_text(prompt.contract, output, "")
    light = prompt.model_copy(update={"images": ()})
    made = lesson(encoder, Example(1, light, text, (), "", template.hash))
    head = encoder.encode(light).head
    return Shown(tuple(made.ids[:head]), made.ids[head:], made.start - head)


@lru_cache(maxsize=8)
def _template(name: str) -> templates.Template:
    return templates.load(name)


_PICTURE = Document(
    source=Source(place="", relative="", origin=""),
    sha256="",
    bytes=0,
    media_type="image/png",
    text="",
    images=(Image(width=1, height=1, rgb=b""),),
    coverage={},
)


def padded(rows: Sequence[list[int]]) -> Any:
    """Ids filled up on the right with 0: int64 of shape (rows, longest)."""
    import torch

    longest = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
