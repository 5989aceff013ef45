"""The contract of every engine. No torch here, and none behind it until there is work."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from medgemma_cli.errors import DocumentError
from medgemma_cli.records import Generation, Limits, ModelInfo, Prompt


def check_fits(prompt: Prompt, engine: "Engine") -> None:
    """See, before generating, that the engine can take a prompt.

    Raises:
        DocumentError: ``no_vision``; ``too_long``, it is over what `room` leaves.
    """
    if prompt.images and not engine.reads_images:
        raise DocumentError("no_vision")
    if engine.count(prompt) > room(prompt.limits, engine):
        raise DocumentError("too_long")


def room(limits: Limits, engine: "Engine") -> int:
    """The longest prompt there may be, in tokens: what the answer leaves of the window, or less."""
    left = engine.window - limits.max_new_tokens
    return left if limits.max_input_tokens is None else min(left, limits.max_input_tokens)


def always() -> bool:
    """Keep going."""
    return True


def unwatched(ids: Sequence[str]) -> None:
    """Nobody wants to know what is begun."""


class Engine(Protocol):
    """Answers prompts. Knows nothing of files, as the pipeline knows nothing of tokens.

    Making an engine is cheap: tokenizer and weights are loaded by the first call that needs
    them, so a run with nothing to do loads nothing.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """What of the engine is part of every key. Costs no loading; JSON values only."""

    @property
    def info(self) -> ModelInfo:
        """Which model answers, for the record; precision is known once the weights are loaded."""

    @property
    def window(self) -> int:
        """The longest prompt and answer together, in tokens."""

    @property
    def reads_images(self) -> bool:
        """Whether prompts may carry images."""

    @property
    def constrains(self) -> bool:
        """Whether an answer always fits its contract, quotes and all; if not, see `retrying`."""

    def count(self, prompt: Prompt) -> int:
        """The prompt's length in tokens, images included; loads the tokenizer at most.

        Raises:
            DocumentError: ``control_tokens``, the document could not be kept apart.
        """

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """One `Generation` a prompt, in any order, as they finish.

        Lazy: takes prompts only as it needs them and holds a bounded number. A prompt that fails
        comes back with an `error` code and does not disturb the others. Before each batch
        `keep_going` is asked; after a no, prompts taken but not begun get no answer. `begin` is
        told the ids of prompts that are begun together, before they are, maybe in another thread;
        of none, before something is begun that is no prompt's fault (loading the model). What it
        raises ends the run.

        Raises:
            ModelUnavailableError: the model cannot be loaded or the device was lost.
        """

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """The answer piece by piece, thoughts already taken out; the `Generation` last."""


class SoFar(NamedTuple):
    """What is written of an answer: the prompt's id, and all of its text up to now."""

    id: str
    text: str


class Audience(Protocol):
    """Who waits for answers; asked often, maybe from another thread."""

    def wanted(self, name: str) -> bool:
        """Whether somebody still waits for the answer to the prompt of this id."""

    def watched(self, name: str) -> bool:
        """Whether somebody wants to see it as it is written."""


@runtime_checkable
class Live(Protocol):
    """An engine that a service can feed while it works."""

    def live(
        self, prompts: Iterable[Prompt | None], audience: Audience
    ) -> Iterator[Generation | SoFar]:
        """As `generate`. A None among the prompts says that there is none now: what is done is
        handed out meanwhile, and a batch does not wait to be filled. An answer that nobody wants
        any more is given up, and comes back with an error. No id is under way twice.

        Raises:
            ModelUnavailableError: the model cannot be loaded or the device was lost.
        """
