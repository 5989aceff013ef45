"""An example as token ids: the prompt's are those that `run` shows, the answer's are learned."""

from collections.abc import Iterable
from typing import NamedTuple

from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.errors import DocumentError
from medgemma_cli.tuning.examples import Example
from medgemma_cli.tuning.pictures import Picture
from medgemma_cli.tuning.refusals import Bad, reason

IGNORED = -100
"""The label of a token that is shown and not learned."""


class Lesson(NamedTuple):
    """Ids of a prompt, its answer and the end of the turn; the answer begins at `start`."""

    number: int
    ids: list[int]
    start: int
    pictures: tuple[Picture, ...]

    @property
    def labels(self) -> list[int]:
        """As many as ids: the answer's own and the end of the turn, `IGNORED` before."""
        return [IGNORED] * self.start + self.ids[self.start :]


def lesson(encoder: Encoder, example: Example) -> Lesson:
    """The ids of an example. The answer is data, like a document: it names no control token.

    Raises:
        DocumentError: ``no_vision``; ``control_tokens``.
    """
    shown = encoder.encode(example.prompt).ids
    ids = [*shown, *encoder.data(example.answer), encoder.stop[-1]]
    return Lesson(example.number, ids, len(shown), example.pictures)


class Lessons(NamedTuple):
    """Lessons, and the lines that are none: too long, or refused for another reason."""

    taken: list[Lesson]
    long: list[Bad]
    bad: list[Bad]


def lessons(encoder: Encoder, examples: Iterable[Example], most: int) -> Lessons:
    """The lessons of at most so many tokens."""
    made = Lessons([], [], [])
    for example in examples:
        try:
            one = lesson(encoder, example)
        except DocumentError as error:
            made.bad.append(Bad(example.number, reason(error)))
            continue
        if len(one.ids) > most:
            why = f"it has {len(one.ids)} tokens, over --max-tokens {most}"
            made.long.append(Bad(example.number, why))
        else:
            made.taken.append(one)
    return made
