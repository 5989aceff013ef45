"""Stage 1: the tower alone learns what is drawn, from labels of pictures and of patches.

Each of the 16 tokens that the language model will read must tell all that is told of the picture:
then the next stages have only the words to find. The heads are thrown away.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.build_demo import keeping
from scripts.build_demo.gallery import TASKS, UNTOLD, Batch, Gallery

_WEIGHTS = {"kind": 1.0, "label": 2.0, "side": 0.5, "zone": 0.5, "size": 0.3, "layout": 0.3}
# Of nuclei, atypical ones, lung, opacity: what is rare must not be drowned by what is common.
_PATCHES = (1.0, 4.0, 1.0, 16.0)
_RARE = -3.0  # the patches' first guess, as a logit
MIX = (0.28, 0.6, 0.06, 0.06)
"""A small opacity is the hardest of all: films come most."""


class Settings(NamedTuple):
    """How long and how fast; of the same settings comes the same tower."""

    images: int = 8000
    passes: int = 3
    batch: int = 16
    rate: float = 8e-4
    seed: int = 1

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.passes * (self.images // self.batch)

    def order(self, step: int) -> Any:
        """The pictures of a step: each once a pass, in an order of the pass's own."""
        a_pass = self.images // self.batch
        mixed = np.random.default_rng([self.seed, step // a_pass]).permutation(self.images)
        at = step % a_pass * self.batch
        return mixed[at : at + self.batch]

    def rate_at(self, step: int) -> float:
        """A short rise, then a cosine down to nothing."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm + 1)))


class Learner:
    """Tower, projector (its pooling and norm only) and heads."""

    def __init__(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        self.tower, self.projector = eye()
        hidden = self.tower.config.hidden_size
        self.whole = torch.nn.Linear(hidden, sum(TASKS.values()))
        self.patch = torch.nn.Linear(hidden, 4)
        torch.nn.init.constant_(self.patch.bias, _RARE)

    @property
    def modules(self) -> dict[str, Any]:
        """All that learns, by name."""
        return {
            "tower": self.tower,
            "projector": self.projector,
            "whole": self.whole,
            "patch": self.patch,
        }

    def parameters(self) -> list[Any]:
        """Of the projector the norm alone."""
        kept = [*self.tower.parameters(), *self.projector.mm_soft_emb_norm.parameters()]
        return [*kept, *self.whole.parameters(), *self.patch.parameters()]

    def see(self, pixels: Any) -> tuple[Any, Any]:
        """Logits of each token on the whole (n, tokens, classes), and of each patch (n, 256, 4)."""
        seen = self.tower(pixel_values=pixels).last_hidden_state
        tokens = pooled(self.projector, seen)
        return self.whole(tokens), self.patch(seen)


def eye() -> tuple[Any, Any]:
    """A fresh tower and a projector, whose product is still zero; fp32."""
    from transformers import Gemma3TextConfig, SiglipVisionModel
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    from medgemma_cli.demo import sight

    config = sight.config(Gemma3TextConfig(hidden_size=640))
    tower = SiglipVisionModel(config.vision_config).float()
    return tower, Gemma3MultiModalProjector(config).float()


def pooled(projector: Any, seen: Any) -> Any:
    """What the projector multiplies: its pooled, normed patches, (n, tokens, hidden)."""
    count, _, hidden = seen.shape
    side = projector.patches_per_image
    square = seen.transpose(1, 2).reshape(count, hidden, side, side)
    return projector.mm_soft_emb_norm(projector.avg_pool(square).flatten(2).transpose(1, 2))


def pixels_of(images: Any) -> Any:
    """uint8 (n, side, side, 3) → fp32 (n, 3, side, side), -1 to 1, as the processor makes them."""
    import torch

    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss(learner: Learner, batch: Batch) -> Any:
    """Cross-entropy of every token on every task, and of the patches on their parts."""
    import torch
    from torch.nn import functional

    with torch.autocast("cpu", torch.bfloat16):
        whole, patch = learner.see(pixels_of(batch.pixels))
    parts = torch.from_numpy(batch.parts).flatten(2).transpose(1, 2)
    each = functional.binary_cross_entropy_with_logits(patch.float(), parts, reduction="none")
    total = (each.mean(dim=(0, 1)) * torch.tensor(_PATCHES)).sum()
    targets = torch.from_numpy(batch.targets)
    for at, (name, logits) in enumerate(_divided(whole.float())):
        if (targets[:, at] != UNTOLD).any():
            wanted = targets[:, at, None].expand(-1, logits.shape[1])
            total = total + _WEIGHTS[name] * functional.cross_entropy(
                logits.transpose(1, 2), wanted, ignore_index=UNTOLD
            )
    return total


def _divided(whole: Any) -> list[tuple[str, Any]]:
    return list(zip(TASKS, whole.split(list(TASKS.values()), dim=-1), strict=True))


def judge(learner: Learner, gallery: Gallery, batch: int = 50) -> dict[str, float]:
    """The share of pictures that are told rightly, by task; of the label by kind, too."""
    import torch

    right: dict[str, list[bool]] = {}
    for start in range(0, len(gallery), batch):
        taken = gallery.take(np.arange(start, min(start + batch, len(gallery))))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            whole, _ = learner.see(pixels_of(taken.pixels))
        for at, (name, logits) in enumerate(_divided(whole.float())):
            best = logits.mean(dim=1).argmax(dim=-1).numpy()
            for row in np.flatnonzero(taken.targets[:, at] != UNTOLD):
                hit = bool(best[row] == taken.targets[row, at])
                right.setdefault(name, []).append(hit)
                if name == "label":
                    kind = ("histology", "chest")[taken.targets[row, 0]]
                    right.setdefault(f"label_{kind}", []).append(hit)
    return {name: sum(hits) / len(hits) for name, hits in right.items()}


def pretrain(
    out: Path,
    settings: Settings,
    checked: int,
    tell: Callable[[dict[str, Any]], None],
    *,
    every: int = 25,
    stop: int | None = None,
) -> Learner:
    """Train, from the last checkpoint where there is one; `sight.safetensors` at the end.

    Args:
        checked: pictures of another seed, which only measure.
        stop: end after so many steps, as a kill would; for tests.
    """
    import torch

    learner = Learner(settings.seed)
    optimizer = torch.optim.AdamW(learner.parameters(), settings.rate, weight_decay=0.05)
    step = _go_on(out, settings, learner, optimizer)
    gallery = Gallery(out / "gallery", settings.seed, settings.images, MIX)
    recent: list[float] = []
    began, first = time.monotonic(), step
    while step < settings.steps and step != stop:
        made = loss(learner, gallery.take(settings.order(step)))
        optimizer.zero_grad()
        made.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate_at(step)
        optimizer.step()
        recent.append(made.item())
        step += 1
        if step % every == 0 or step == settings.steps:
            _keep(out, settings, learner, optimizer, step)
            each = (time.monotonic() - began) / (step - first)
            tell({"step": step, "of": settings.steps, "loss": sum(recent) / len(recent),
                  "seconds": each})  # fmt: skip
            recent = []
    if step == settings.steps:
        keeping.write_sight(out / "sight.safetensors", learner.tower, learner.projector)
        tell(judge(learner, Gallery(out / "gallery", settings.seed + 1000, checked)))
    return learner


def _go_on(out: Path, settings: Settings, learner: Learner, optimizer: Any) -> int:
    state = keeping.kept(out, settings._asdict())
    if state is None:
        return 0
    for name, module in learner.modules.items():
        module.load_state_dict(state[name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _keep(out: Path, settings: Settings, learner: Learner, optimizer: Any, step: int) -> None:
    state = {name: module.state_dict() for name, module in learner.modules.items()}
    told = {"settings": settings._asdict(), "step": step, "optimizer": optimizer.state_dict()}
    keeping.keep(out, state | told)
