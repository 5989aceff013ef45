"""What a tuning is asked for: the same settings and data, the same tuning."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from medgemma_cli.adapters import Adapter
from medgemma_cli.records import Precision

# At least so many points on a curve; an epoch never passes without one.
_POINTS = 10
_WARM = 0.03


@dataclass(frozen=True)
class Settings:
    """All that bears on the weights that come out.

    Attributes:
        modules: names of the text model's linear layers that get an adapter.
        batch: examples of one pass; `accumulate` passes make a step.
        epochs: passes over the examples; `max_steps` ends earlier.
        patience: evaluations without a better validation loss that end the training; 0: none do.
        max_tokens: of prompt and answer together.
        start: the hash of the adapter that it begins with, whose rank, alpha and layers it keeps;
            None: `A` begins at random and `B` at zero.
        every: steps from one evaluation and checkpoint to the next; None: a tenth of the
            training, an epoch at most.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    modules: tuple[str, ...] = ()
    precision: Precision = "auto"
    double_quant: bool = True
    learning_rate: float = 2e-4
    epochs: float = 3.0
    max_steps: int | None = None
    batch: int = 1
    accumulate: int = 8
    checkpointing: bool = True
    patience: int = 3
    validation_share: float = 0.1
    max_tokens: int = 4096
    skip_long: bool = False
    every: int | None = None
    seed: int = 0
    start: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        told = asdict(self) | {"modules": list(self.modules)}
        if self.start is None:  # as it was told before there was one
            del told["start"]
        return told

    def beginning(self, adapter: Adapter) -> "Settings":
        """The same, of a tuning that begins with an adapter."""
        return replace(
            self,
            start=adapter.hash,
            rank=int(adapter.settings["r"]),
            alpha=float(adapter.settings["lora_alpha"]),
            modules=(),
        )


@dataclass(frozen=True)
class Course:
    """How long a tuning is, in steps of the optimizer.

    Attributes:
        total: all of them.
        every: steps from one evaluation and checkpoint to the next.
        warm: steps in which the learning rate rises.
    """

    total: int
    every: int
    warm: int


def course(settings: Settings, examples: int) -> Course:
    """The course of a tuning on so many examples."""
    passes = math.ceil(examples / settings.batch)
    epoch = max(1, math.ceil(passes / settings.accumulate))
    total = max(1, math.ceil(settings.epochs * epoch))
    if settings.max_steps is not None:
        total = min(total, settings.max_steps)
    every = settings.every or max(1, min(epoch, total // _POINTS))
    return Course(total, every, math.ceil(_WARM * total))
