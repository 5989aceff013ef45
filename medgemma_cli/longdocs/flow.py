"""Prompts of parts on their way through one call of an engine, and their answers back."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from medgemma_cli.longdocs.joining import Joining
from medgemma_cli.longdocs.steps import Step
from medgemma_cli.records import Generation, Prompt


class Way(NamedTuple):
    """A long document's: what collects the answers, and the prompts of its parts, made late."""

    joining: Joining
    steps: Iterator[Step]


class Flow:
    """What is on its way in one call of `generate`.

    Args:
        way: a document's, if it is long.

    Attributes:
        ready: prompts that follow from answers; they go before anything new.
    """

    def __init__(self, way: Callable[[Prompt], Way | None], prompts: Iterator[Prompt]) -> None:
        self._way = way
        self._prompts = prompts
        self._now: Way | None = None
        self._asked: dict[str, tuple[Joining, Step]] = {}
        self._names: dict[str, str] = {}
        self.ready: deque[tuple[Joining, Step]] = deque()

    def stream(self) -> Iterator[Prompt]:
        """The prompts for the engine, made as it asks for them."""
        while True:
            if self.ready:
                yield self._ask(*self.ready.popleft())
            elif self._now is not None:
                # Of a document that has failed, the other parts need not be asked about.
                step = None if self._now.joining.done else next(self._now.steps, None)
                if step is None:
                    self._now = None
                else:
                    yield self._ask(self._now.joining, step)
            elif (prompt := next(self._prompts, None)) is None:
                return
            else:
                self._now = self._way(prompt)
                if self._now is None:
                    yield prompt

    def _ask(self, joining: Joining, step: Step) -> Prompt:
        self._asked[step.prompt.id] = joining, step
        self._names[step.prompt.id] = joining.id
        return step.prompt

    def take(self, generation: Generation) -> Generation | None:
        """The answer that is complete by this one, if one is."""
        if generation.id not in self._names:
            return generation
        joining, step = self._asked.pop(generation.id)
        del self._names[generation.id]
        if joining.done:
            return None
        made = joining.take(step, generation)
        self.ready.extend((joining, further) for further in joining.further())
        return made

    def documents(self, ids: Sequence[str]) -> list[str]:
        """The documents that prompts are of, each once; maybe asked by another thread."""
        return list(dict.fromkeys(self._names.get(name, name) for name in ids))
