"""Stage 2: what stands for a picture becomes the sum of the embeddings of words that describe it.

No language model runs: its table of embeddings is all that is needed, so a step costs what a step
of the tower costs. Each of the 16 tokens tells all words at once, as stage 1 had each tell all
that is drawn; the model, which copies words that it reads, need only find which one comes where.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from scripts.build_demo import pictures, seeing
from scripts.build_demo.drawn import Drawn, every_fact, key_words
from scripts.build_demo.frozen import Reader, load
from scripts.build_demo.keeping import mark
from scripts.build_demo.seeing import MIX, Course, Eye, Figures

COURSE = Course(steps=240, batch=16, rate=3e-3, tower_rate=1e-4, seed=2)
_SHARP = 20.0


class Words:
    """For all that can be drawn, the sum of its words, as long as one word: (facts, hidden)."""

    def __init__(self, reader: Reader) -> None:
        import torch

        self._facts = every_fact()
        # Each is one token of Gemma's; of another tokenizer's, its pieces count.
        ids = [[token for word in key_words(facts) for token in reader.encoder.data(f" {word}")]
               for facts in self._facts]  # fmt: skip
        with torch.no_grad():
            words = [reader.embed(torch.tensor(row)).float() for row in ids]
            self._length = torch.cat(words).norm(dim=-1).mean()
            sums = torch.stack([row.sum(dim=0) for row in words])
            self.sums = sums / sums.norm(dim=-1, keepdim=True) * self._length

    def wanted(self, drawn: list[Drawn]) -> Any:
        """Which of the sums are these pictures': int64 (pictures)."""
        import torch

        return torch.tensor([self._facts.index(one.facts) for one in drawn])

    def nearness(self, features: Any) -> Any:
        """Of every feature to every sum; 1 where they are the same: (pictures, tokens, facts)."""
        return features.float() @ self.sums.T / self._length**2

    def distance(self, features: Any, wanted: Any) -> Any:
        """The mean squared distance from the sums wanted, by their squared length."""
        away = features.float() - self.sums[wanted][:, None]
        return (away**2).sum(dim=-1).mean() / self._length**2


def loss(words: Words, eye: Eye, course: Course, step: int) -> Any:
    """Which sum it is, and how far from it, of every token."""
    from torch.nn import functional

    drawn = [pictures.draw(course.seed, n, MIX) for n in course.numbers(step, course.batch)]
    features, wanted = eye.look(drawn), words.wanted(drawn)
    near = _SHARP * words.nearness(features).transpose(1, 2)
    which = functional.cross_entropy(near, wanted[:, None].expand(-1, near.shape[-1]))
    return which + words.distance(features, wanted)


def measure(words: Words, eye: Eye, seed: int, count: int, batch: int) -> Figures:
    """Of fresh pictures: the share whose nearest sum is the right one; the mean distance."""
    import torch

    right, away = [], []
    for drawn in seeing.held(seed, count, batch):
        wanted = words.wanted(drawn)
        with torch.inference_mode():
            features = eye.look(drawn)
            right += (words.nearness(features).mean(dim=1).argmax(dim=-1) == wanted).tolist()
            away.append(words.distance(features, wanted).item() * len(drawn))
    return {"right": sum(right) / count, "distance": sum(away) / count}


def name(
    base: Path,
    tower: Path,
    out: Path,
    course: Course,
    tell: Callable[[dict[str, Any]], None],
    *,
    checked: int = 96,
    every: int = 20,
) -> None:
    """Train the tower of stage 1 on the words of a text model; `sight.safetensors` in `out`."""
    reader = load(base, None)
    eye = seeing.read(tower)
    eye.begin(reader, course.seed)
    words = Words(reader)
    seeing.train(
        eye,
        out,
        course,
        partial(loss, words, eye, course),
        partial(measure, words, eye, course.seed, checked, course.batch),
        tell,
        more={"tower": mark(tower.parent)},
        every=every,
    )
