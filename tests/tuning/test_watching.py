"""What is told of a training, how often, and what ends it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medgemma_cli.engines.tuning import watching
from medgemma_cli.engines.tuning.watching import Watch
from medgemma_cli.errors import ConfigError
from medgemma_cli.progress import SilentReporter
from medgemma_cli.tuning.book import Book
from medgemma_cli.tuning.curve import Curve


class Listener(SilentReporter):
    """Keeps what it is told."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.wants_total = terminal
        self.notes: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """Keep it."""
        self.steps.append((done, total))


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The watch's own."""
    made = Clock()
    monkeypatch.setattr(watching, "time", made)
    return made


def watch(
    folder: Path, reporter: Listener, *, going: bool = True, patience: int = 2
) -> tuple[Watch, list[Curve]]:
    """A watch, and the curves that it keeps."""
    kept: list[Curve] = []
    return Watch(Book(folder), reporter, kept.append, lambda: going, patience), kept


def at(step: int, *losses: float, total: int = 10) -> Any:
    """A trainer's state, with its validation losses."""
    history = [{"step": i, "eval_loss": loss} for i, loss in enumerate(losses, 1)]
    return SimpleNamespace(global_step=step, max_steps=total, log_history=history)


def control() -> Any:
    """A trainer's control."""
    return SimpleNamespace(should_save=False, should_training_stop=False)


def test_a_line_a_minute(tmp_path: Path, clock: Clock) -> None:
    """The first loss, then one a minute; the time left is counted from steps of this process."""
    listener = Listener()
    made, _ = watch(tmp_path, listener)
    made.begin(4)
    for step in range(5, 9):
        clock.now += 25
        made.logged(at(step), {"loss": 2.0 / step})
    assert listener.notes == [
        "step 5 of 10: loss 0.4, about 2 min left",
        "step 8 of 10: loss 0.25, about 50 s left",
    ]


def test_hours(tmp_path: Path, clock: Clock) -> None:
    """One unit, the one that is read."""
    listener = Listener()
    made, _ = watch(tmp_path, listener)
    made.begin(0)
    clock.now += 3600
    made.logged(at(1), {"loss": 1.0})
    assert listener.notes == ["step 1 of 10: loss 1, about 9.0 h left"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_on_a_terminal_alone(tmp_path: Path, terminal: bool) -> None:
    """A log has no use for a line a step."""
    listener = Listener(terminal=terminal)
    made, _ = watch(tmp_path, listener)
    made.step(at(3), control())
    assert listener.steps == ([(3, 10)] if terminal else [])


def test_every_evaluation_is_told(tmp_path: Path, clock: Clock) -> None:
    """However soon after the last line."""
    listener = Listener()
    made, _ = watch(tmp_path, listener)
    made.begin(0)
    for step in (1, 2):
        clock.now += 1
        made.evaluated(at(step, *[3.0, 2.5][:step]), control())
    assert [note.partition(",")[0] for note in listener.notes] == [
        "step 1 of 10: validation loss 3",
        "step 2 of 10: validation loss 2.5",
    ]


@pytest.mark.parametrize(
    ("losses", "ends"), [((3.0, 2.0), False), ((2.0, 3.0), False), ((2.0, 3.0, 2.5), True)]
)
def test_patience_ends_it(tmp_path: Path, losses: tuple[float, ...], ends: bool) -> None:
    """With a checkpoint, from which the next command knows that it has ended."""
    made, _ = watch(tmp_path, Listener())
    asked = control()
    made.evaluated(at(len(losses), *losses), asked)
    assert (asked.should_training_stop, asked.should_save) == (ends, ends)


def test_a_signal_ends_it(tmp_path: Path) -> None:
    """After the step in hand, with a checkpoint; asked for once."""
    made, _ = watch(tmp_path, Listener(), going=False)
    asked = control()
    made.step(at(1), asked)
    assert asked.should_training_stop and asked.should_save and made.stopped
    again = control()
    made.step(at(2), again)
    assert not again.should_save


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["loss", "eval_loss"])
def test_a_loss_that_is_no_number(tmp_path: Path, name: str, loss: float) -> None:
    """78 at once: nothing good comes of going on."""
    made, _ = watch(tmp_path, Listener())
    with pytest.raises(ConfigError, match="not finite"):
        made.logged(at(1), {name: loss})


def test_other_entries_are_passed_over(tmp_path: Path) -> None:
    """The trainer logs its speed, too."""
    listener = Listener()
    made, _ = watch(tmp_path, listener)
    made.logged(at(1), {"train_runtime": 3.0})
    assert listener.notes == []


def test_a_checkpoint_is_sealed_before_it_is_told(tmp_path: Path) -> None:
    """The curve with it, so that a kill between the two costs nothing."""
    made, kept = watch(tmp_path, Listener())
    Book(tmp_path).checkpoint(3).mkdir(parents=True)
    made.saved(at(3, 2.0))
    assert Book(tmp_path).last() == 3
    assert kept == [Curve(validation=((1, 2.0),))]
