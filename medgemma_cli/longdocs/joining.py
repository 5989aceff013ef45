"""The answers about one long document's parts, collected and joined."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from medgemma_cli import templates
from medgemma_cli.engines.base import Engine
from medgemma_cli.errors import DocumentError
from medgemma_cli.longdocs.answers import Answer, of_part
from medgemma_cli.longdocs.asking import Asking
from medgemma_cli.longdocs.cost import Cost
from medgemma_cli.longdocs.scores import scored
from medgemma_cli.longdocs.settling import Settled, settle, side_by_side
from medgemma_cli.longdocs.steps import Step
from medgemma_cli.longdocs.whole import lists_of, whole, with_lists
from medgemma_cli.records import Generation, LeftOut, PartAnswer, Prompt

VERSION = 1
"""Of how answers are joined; counted up when that changes, since it is in every key."""


class _Group(NamedTuple):
    """Answers that are joined together, and what they say without the model."""

    answers: list[Answer]
    settled: Settled


class Joining:
    """One document on its way.

    Args:
        parts: how many there are.
        characters: of the whole text.
        head: the first part is all that is asked about.

    Attributes:
        done: whether its answer was given, or will not be.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: Prompt,
        merge: templates.Template,
        parts: int,
        characters: int,
        *,
        head: bool,
    ) -> None:
        self.id = prompt.id
        self.done = False
        self._contract = prompt.contract
        self._asking = Asking(engine, prompt, merge)
        self._head = head
        self._characters = characters
        self._cost = Cost()
        if not head:
            self._cost.note(f"parts:{parts}")
        self._parts: list[Answer | None] = [None] * parts
        self._groups: list[_Group] = []
        self._joined: list[Answer | None] = []
        self._written: Generation | None = None
        self._level = 0
        self._further: list[Step] = []
        self._left: list[LeftOut] = []

    def further(self) -> Iterator[Step]:
        """The steps that follow from what was taken; each once."""
        yield from self._further
        self._further = []

    def take(self, step: Step, generation: Generation) -> Generation | None:
        """Take a step's answer; the document's, if that was the last or it cannot be had."""
        self._cost.add(generation)
        if step.joins:
            self._joined[step.at] = self._merged(self._groups[step.at], step, generation)
            return self._join(self._joined)
        try:
            answer = of_part(step.prompt.contract, generation, step.text, step.start)
        except DocumentError as error:
            self.done = True
            return self._cost.failure(self.id, error.code)
        if self._head:
            self.done = True
            return self._only(step, generation, answer)
        self._parts[step.at] = answer
        return self._join(self._parts)

    # -- joining ------------------------------------------------------------------------------

    def _join(self, waiting: list[Answer | None]) -> Generation | None:
        """Join answers, once all are there, as far as that needs no model; ask for the rest."""
        answers = [answer for answer in waiting if answer is not None]
        while len(answers) == len(waiting) > 1:
            self._written = None
            self._level += 1
            groups = self._asking.groups(answers)
            self._groups = [_Group(group, settle(self._contract, group)) for group in groups]
            waiting = self._joined = [None] * len(groups)
            for i, group in enumerate(self._groups):
                self._joined[i] = self._alone(group) or self._ask(group, i)
            answers = [answer for answer in self._joined if answer is not None]
        if len(answers) < len(waiting):
            return None
        self.done = True
        return self._finished(answers[0])

    def _alone(self, group: _Group) -> Answer | None:
        """What a group comes to without the model."""
        if len(group.answers) == 1:
            return group.answers[0]
        if group.settled.asked is None:
            return whole(self._contract, group.settled, {}, group.answers)
        return None

    def _ask(self, group: _Group, i: int) -> Answer | None:
        """Have the model join a group; where its answers do not fit, they stand side by side."""
        assert group.settled.asked is not None
        name = f"{self.id}/join/{self._level}.{i}"
        prompt = self._asking.prompt(group.answers, group.settled.asked, name)
        if self._asking.shortened:
            self._cost.note("answers_shortened")
        if prompt is None:
            return self._unmerged(group, "too_long")
        self._further.append(Step(prompt, at=i, joins=True))
        return None

    def _merged(self, group: _Group, step: Step, generation: Generation) -> Answer:
        """The group's answer with what the model wrote; nothing is lost where it failed."""
        try:
            written = of_part(step.prompt.contract, generation).fields
        except DocumentError as error:
            return self._unmerged(group, error.code)
        self._written = generation
        return whole(self._contract, group.settled, written, group.answers)

    def _unmerged(self, group: _Group, code: str) -> Answer:
        self._cost.note(f"merge_failed:{code}")
        written, left = side_by_side(self._contract, group.settled, group.answers)
        self._left += left
        return whole(self._contract, group.settled, written, group.answers)

    # -- the end ------------------------------------------------------------------------------

    def _only(self, step: Step, generation: Generation, answer: Answer) -> Generation:
        """The answer about the beginning of a document is the answer."""
        shown = len(step.text)
        return generation.model_copy(
            update={
                "id": self.id,
                "places": answer.places,
                "shown": shown,
                "degraded": (*generation.degraded, f"head:{shown}/{self._characters}"),
            }
        )

    def _finished(self, answer: Answer) -> Generation:
        """One generation, as if the document had been shown at once.

        Its lists are made of all parts anew: what a group had no room for, the whole may have.
        """
        parts = [part for part in self._parts if part is not None]
        told = tuple(PartAnswer(start=p.span[0], end=p.span[1], output=p.fields) for p in parts)
        update: dict[str, object] = {"parts": told}
        if self._contract.kind == "text":
            # As it was written, for the places of its tokens.
            text = self._written.text if self._written else answer.fields["answer"]
            if self._written is not None:
                update |= {"choices": self._written.choices, "tokens": self._written.tokens}
            return self._cost.generation(self.id, text).model_copy(update=update)
        lists = lists_of(self._contract, parts)
        answer = with_lists(self._contract, answer, lists)
        left = (*lists.left, *self._left)
        notes = [f"left_out:{one.where}:{len(one.said)}" for one in left]
        if self._contract.quotable and (bare := sum(not part.quotable for part in parts)):
            notes.append(f"parts_without_quotes:{bare}")
        text = json.dumps(answer.fields, ensure_ascii=False)
        made = self._cost.generation(self.id, text, notes)
        made = made.model_copy(update={**update, "places": answer.places, "left_out": left})
        return made if self._written is None else scored(made, self._written)
