"""What is told of a training while it goes on, and what ends it early."""

import math
import time
from collections.abc import Callable
from typing import Any

from medgemma_cli.errors import ConfigError
from medgemma_cli.progress import Reporter
from medgemma_cli.tuning.book import Book
from medgemma_cli.tuning.curve import Curve, of_log

_LINE_EVERY = 60.0


class Watch:
    """Follows a training step by step.

    Args:
        write: keeps the curve with `training.json`.
        keep_going: asked after each step; after a no, a checkpoint is kept and it ends.
        patience: see `Settings`.

    Attributes:
        stopped: whether `keep_going` ended it.
    """

    def __init__(
        self,
        book: Book,
        reporter: Reporter,
        write: Callable[[Curve], None],
        keep_going: Callable[[], bool],
        patience: int,
    ) -> None:
        self.stopped = False
        self._book = book
        self._reporter = reporter
        self._write = write
        self._keep_going = keep_going
        self._patience = patience
        self._began = self._told = time.monotonic()
        self._first = 0

    def begin(self, step: int) -> None:
        """The first step is yet to come."""
        self._began = self._told = time.monotonic()
        self._first = step

    def step(self, state: Any, control: Any) -> None:
        """One step of the optimizer is done."""
        if self._reporter.wants_total:
            self._reporter.step("training", state.global_step, state.max_steps)
        if not self._keep_going() and not self.stopped:
            self.stopped = control.should_save = control.should_training_stop = True

    def logged(self, state: Any, logs: dict[str, float]) -> None:
        """A loss is known; a line once a minute, and at the first.

        Raises:
            ConfigError: 78, it is not finite.
        """
        loss = logs.get("loss", logs.get("eval_loss"))
        if loss is None:
            return
        if not math.isfinite(loss):
            raise ConfigError(
                "The loss is not finite.", "Use a lower --learning-rate, or --precision fp32."
            )
        now = time.monotonic()
        kept = now - self._told < _LINE_EVERY and state.global_step > self._first + 1
        if "loss" in logs and not kept:
            self._tell(state, f"loss {loss:.4g}")

    def evaluated(self, state: Any, control: Any) -> None:
        """The validation loss is known: told always; it may have stopped falling."""
        curve = of_log(state.log_history)
        words = [f"loss {curve.train[-1][1]:.4g}"] if curve.train else []
        self._tell(state, ", ".join([*words, f"validation loss {curve.validation[-1][1]:.4g}"]))
        if curve.exhausted(self._patience):
            control.should_save = control.should_training_stop = True

    def saved(self, state: Any) -> None:
        """A checkpoint is written: sealed, and the curve kept."""
        self._book.seal(state.global_step)
        self._write(of_log(state.log_history))

    def _tell(self, state: Any, words: str) -> None:
        self._told = time.monotonic()
        done, left = state.global_step - self._first, state.max_steps - state.global_step
        eta = f", {_span((self._told - self._began) / done * left)} left" if done and left else ""
        self._reporter.note(f"step {state.global_step} of {state.max_steps}: {words}{eta}")


def _span(seconds: float) -> str:
    """About how long, in one unit."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def callback(watch: Watch) -> Any:
    """The watch as transformers calls it."""
    from transformers import TrainerCallback

    class Callback(TrainerCallback):  # type: ignore[misc]
        """Hands on what concerns the watch."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            """The clock starts."""
            watch.begin(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            """A step is done."""
            watch.step(state, control)

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any
        ) -> None:
            """A loss is known."""
            watch.logged(state, logs or {})

        def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            """The validation loss is known."""
            watch.evaluated(state, control)

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            """A checkpoint is there."""
            watch.saved(state)

    return Callback()
