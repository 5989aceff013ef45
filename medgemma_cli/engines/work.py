"""One prompt on its way through the device."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.encoding import Encoded
from medgemma_cli.engines.lookup import Lookup
from medgemma_cli.engines.writing import Answer, JsonAnswer
from medgemma_cli.records import Prompt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Work:
    """A prompt made ready on the host.

    Attributes:
        pictures: each image's digest and its pixels, (3, height, width), as the tower takes them.
        make: begins an answer; a work that is started again gets a new one.
        at_least: new tokens to ask for at least, of free text.
        notes: what was degraded on the way.
        tries: how often its answer was refused.
    """

    prompt: Prompt
    encoded: Encoded
    make: Callable[[], Answer]
    answer: Answer
    pictures: tuple[tuple[bytes, "torch.Tensor"], ...] = ()
    at_least: int = 0
    notes: tuple[str, ...] = ()
    tries: int = 0

    @property
    def length(self) -> int:
        """Tokens that are shown to the model at once: the prompt, and what is forced behind it."""
        return len(self.encoded.ids) + len(self.answer.ids)

    @property
    def room(self) -> int:
        """The most tokens that prompt and answer can take."""
        return len(self.encoded.ids) + self.prompt.limits.max_new_tokens

    def again(self, *notes: str, **changes: Any) -> "Work":
        """The same work from its beginning."""
        kept = tuple(dict.fromkeys((*self.notes, *notes)))
        return replace(self, answer=self.make(), notes=kept, **changes)


@dataclass
class Choice:
    """A choice that waits for its probabilities.

    Attributes:
        options: what is written of each.
        ways: how each can be cut into tokens, with the option's number.
        logs: of each way, as far as it has been seen: its first token, then all of it.
    """

    options: list[list[int]]
    ways: list[tuple[int, list[int]]]
    logs: list[float]

    def whole(self) -> list[float]:
        """The log-probability of each option: of any of its ways."""
        each: list[list[float]] = [[] for _ in self.options]
        for (which, _), log in zip(self.ways, self.logs, strict=True):
            each[which].append(log)
        return [_either(logs) for logs in each]


def _either(logs: list[float]) -> float:
    """The logarithm of a sum of probabilities, given as logarithms."""
    most = max(logs)
    return most + math.log(sum(math.exp(log - most) for log in logs))


@dataclass(eq=False)
class Line:
    """A work whose prompt the model has seen.

    Attributes:
        choice: what it waits for, if it does.
        seconds: its share of the device's time.
        lookup: where guesses come from, once it is alone.
        random: the generator of its samples, so that they do not depend on its neighbours.
    """

    work: Work
    choice: Choice | None = None
    seconds: float = 0.0
    lookup: Lookup | None = None
    random: Any = field(default=None, repr=False)

    @property
    def answer(self) -> Answer:
        """What is written of its answer."""
        return self.work.answer

    @property
    def pending(self) -> int:
        """Tokens to show to the model before anything can be asked of it."""
        return 0 if self.answer.done else self.answer.pending

    @property
    def length(self) -> int:
        """Tokens that the model has seen."""
        return len(self.work.encoded.ids) + self.answer.fed

    def settle(self) -> None:
        """Write the option that is decided for, now that the logs are of whole options."""
        answer, choice = self.answer, self.choice
        assert choice is not None and isinstance(answer, JsonAnswer)
        self.choice = None
        if all(map(math.isfinite, choice.logs)):
            answer.choose(choice.options, choice.whole())
        else:
            answer.fail()
