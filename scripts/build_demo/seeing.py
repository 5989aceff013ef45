"""Tower and projector as one, and the loop that trains them after stage 1."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.build_demo import keeping, pictures
from scripts.build_demo.drawn import Drawn
from scripts.build_demo.frozen import Reader
from scripts.build_demo.pretraining import eye, pixels_of

MIX = (0.41, 0.41, 0.07, 0.11)
_HELD = 10_000  # added to the seed of pictures that only measure
Figures = dict[str, float]


class Eye:
    """Tower and projector: pictures in, what stands for them out."""

    def __init__(self, tower: Any, projector: Any) -> None:
        self.tower, self.projector = tower, projector

    def features(self, pixels: Any) -> Any:
        """Shape (pictures, tokens, hidden of the language model)."""
        import torch

        with torch.autocast("cpu", torch.bfloat16):
            return self.projector(self.tower(pixel_values=pixels).last_hidden_state)

    def look(self, drawn: list[Drawn]) -> Any:
        """The features of drawn pictures."""
        size = self.tower.config.image_size
        images = [np.asarray(one.image.resize((size, size))) for one in drawn]
        return self.features(pixels_of(np.stack(images)))

    def begin(self, reader: Reader, seed: int) -> None:
        """A random projection whose features are as long as the embeddings of words."""
        import torch

        made = torch.Generator().manual_seed(seed)
        weight = self.projector.mm_input_projection_weight
        words = reader.embed(torch.arange(10, 1000)).float().norm(dim=-1).mean().item()
        with torch.no_grad():
            weight.normal_(0, words / math.sqrt(weight.numel()), generator=made)


def read(path: Path) -> Eye:
    """The eye of a `sight.safetensors`."""
    made = Eye(*eye())
    keeping.read_sight(path, made.tower, made.projector)
    return made


def held(seed: int, count: int, batch: int) -> Iterator[list[Drawn]]:
    """Pictures that nothing is learned from, a batch at a time."""
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        yield [pictures.draw(seed + _HELD, number, MIX) for number in numbers]


class Course(NamedTuple):
    """How long and how fast; of the same course comes the same eye."""

    steps: int
    batch: int
    rate: float
    tower_rate: float
    seed: int = 1

    def share_at(self, step: int) -> float:
        """Of the rates: a short rise, then a cosine down to nothing."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm + 1)))

    def numbers(self, step: int, count: int) -> range:
        """The numbers of a step's pictures: no picture comes twice."""
        return range(step * self.batch, step * self.batch + count)


def train(
    seeing: Eye,
    out: Path,
    course: Course,
    loss: Callable[[int], Any],
    measure: Callable[[], Figures],
    tell: Callable[[dict[str, Any]], None],
    *,
    more: dict[str, str] | None = None,
    every: int = 20,
    stop: int | None = None,
) -> None:
    """Train, from the last checkpoint where there is one; `sight.safetensors` at the end.

    Args:
        loss: of a step, by its number.
        measure: figures of pictures that it never learns from.
        more: what else a checkpoint must be of.
        stop: end after so many steps, as a kill would; for tests.
    """
    import torch

    modules = {"tower": seeing.tower, "projector": seeing.projector}
    groups = [
        {"params": list(seeing.tower.parameters()), "rate": course.tower_rate},
        {"params": list(seeing.projector.parameters()), "rate": course.rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    marks = {**course._asdict(), **(more or {})}
    state = keeping.kept(out, marks)
    step = state["step"] if state else 0
    if state:
        for name, module in modules.items():
            module.load_state_dict(state[name])
        optimizer.load_state_dict(state["optimizer"])
    recent: list[float] = []
    while step < course.steps and step != stop:
        made = loss(step)
        optimizer.zero_grad()
        made.backward()
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            group["lr"] = group["rate"] * course.share_at(step)
        optimizer.step()
        recent.append(made.item())
        step += 1
        if step % every == 0 or step == course.steps:
            state = {name: module.state_dict() for name, module in modules.items()}
            kept = {"settings": marks, "step": step, "optimizer": optimizer.state_dict()}
            keeping.keep(out, state | kept)
            tell({"step": step, "of": course.steps, "loss": sum(recent) / len(recent), **measure()})
            recent = []
    if step == course.steps:
        keeping.write_sight(out / "sight.safetensors", seeing.tower, seeing.projector)
