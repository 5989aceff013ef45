"""The answers about one long document's parts, collected and joined."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from medgemma_cli import merging, templates
from medgemma_cli.engines.base import Engine, room
from medgemma_cli.errors import DocumentError
from medgemma_cli.jsonplaces import leaves
from medgemma_cli.merging import Answer, Settled
from medgemma_cli.records import (
    ChoiceScore,
    Contract,
    Document,
    Generation,
    Prompt,
    Source,
    Usage,
)

_TOGETHER = 32  # answers: as many options as a choice of one of them can have, and be read
_SLACK = 0.9  # of the room for answers, which are counted one by one


class Step(NamedTuple):
    """One prompt of a long document: about a part, or joining answers.

    Attributes:
        text: the part's; empty where answers are joined.
        start: where the part begins.
        at: which group of answers is joined.
    """

    prompt: Prompt
    text: str = ""
    start: int = 0
    at: int = -1


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
        self._engine = engine
        self._prompt = prompt
        self._merge = merge
        self._head = head
        self._characters = characters
        self._cost = _Cost(parts)
        self._parts: list[Answer | None] = [None] * parts
        self._groups: list[tuple[list[Answer], Settled]] = []
        self._joined: list[Answer | None] = []
        self._written: Generation | None = None
        self._level = self._probes = 0
        self._most: int | None = None
        self._further: list[Step] = []

    def further(self) -> Iterator[Step]:
        """The steps that follow from what was taken; each once."""
        yield from self._further
        self._further = []

    def take(self, step: Step, generation: Generation) -> Generation | None:
        """Take a step's answer; the document's, if that was the last or it cannot be had."""
        self._cost.add(generation)
        try:
            return self._taken(step, generation)
        except DocumentError as error:
            self.done = True
            return self._cost.failure(self.id, error.code)

    def _taken(self, step: Step, generation: Generation) -> Generation | None:
        if generation.error:
            raise DocumentError(generation.error)
        if self._head:
            self.done = True
            return self._only(step, generation)
        if step.at < 0:
            k = int(step.prompt.id.rpartition("/")[2]) - 1
            contract = step.prompt.contract
            self._parts[k] = merging.of_part(contract, generation, step.text, step.start)
            waiting = self._parts
        else:
            written = merging.of_part(step.prompt.contract, generation, "", 0).fields
            answers, settled = self._groups[step.at]
            self._joined[step.at] = self._whole(settled, written, answers)
            self._written = generation
            waiting = self._joined
        ready = [answer for answer in waiting if answer is not None]
        return self._join(ready) if len(ready) == len(waiting) else None

    def _join(self, answers: list[Answer]) -> Generation | None:
        """Join answers as far as that needs no model; ask for the rest."""
        while len(answers) > 1:
            self._written = None
            contract = self._prompt.contract
            groups = list(self._grouped(answers))
            if len(groups) == len(answers):
                self._shorten(answers)
                groups = list(self._grouped(answers))
            if len(groups) == len(answers):
                raise DocumentError("too_long")
            self._groups = [(group, merging.settle(contract, group)) for group in groups]
            self._joined = [None] * len(groups)
            self._level += 1
            for i, (group, settled) in enumerate(self._groups):
                if len(group) == 1:
                    self._joined[i] = group[0]
                elif settled.asked is None:
                    self._joined[i] = self._whole(settled, {}, group)
                else:
                    self._further.append(self._asking(group, settled.asked, i))
            if self._further:
                return None
            answers = [answer for answer in self._joined if answer is not None]
        self.done = True
        return self._finished(answers[0])

    def _whole(self, settled: Settled, written: dict[str, object], group: list[Answer]) -> Answer:
        return merging.whole(self._prompt.contract, settled, written, group)[0]

    # -- asking for what the answers do not say together --------------------------------------

    def _asking(self, group: list[Answer], asked: Contract, i: int) -> Step:
        prompt = self._render(self._told(group), asked, f"{self.id}/join/{self._level}.{i}")
        if self._engine.count(prompt) > room(prompt.limits, self._engine):
            raise DocumentError("too_long")
        return Step(prompt, at=i)

    def _render(self, text: str, asked: Contract, name: str) -> Prompt:
        source = Source(place="", relative="", origin="")
        shown = Document(
            source=source, sha256="", bytes=0, media_type="text/plain", text=text, coverage={}
        )
        # The marker is made of the document's key: what a document says cannot foresee it.
        limits, question = self._prompt.limits, self._question(asked)
        made = templates.render(self._merge, shown, self.id, limits, question)
        return made.model_copy(update={"id": name, "contract": asked})

    def _question(self, asked: Contract) -> str:
        """The template's own words, and which of the fields are wanted now."""
        users = [message for message in self._prompt.messages if message.role == "user"]
        own = "".join(part.text for m in users for part in m.parts if part.kind == "text").strip()
        if asked.kind == "text":
            return own
        properties = json.loads(asked.json_schema)["properties"]
        fields = [
            f"{name} ({', '.join(node['enum'])})" if "enum" in node else name
            for name, node in properties.items()
        ]
        return f"{own}\n\nOf these fields, write JSON with {', '.join(fields)} and no others."

    def _grouped(self, answers: list[Answer]) -> Iterator[list[Answer]]:
        """Neighbours that fit into one prompt together: all of them, if they do."""
        contract = self._prompt.contract
        asked = merging.settle(contract, answers[:_TOGETHER]).asked
        if asked is None and len(answers) <= _TOGETHER:
            yield answers
            return
        asked = asked or contract
        own = self._size("", asked)
        free = (room(self._prompt.limits, self._engine) - own) * _SLACK
        number, used, count = 0, 0.0, 0
        numbers = []
        for answer in answers:
            size = self._size(self._told([answer]), asked) - own
            if count and (used + size > free or count == _TOGETHER):
                number, used, count = number + 1, 0, 0
            used, count = used + size, count + 1
            numbers.append(number)
        for _, group in groupby(zip(numbers, answers, strict=True), key=lambda pair: pair[0]):
            yield [answer for _, answer in group]

    def _told(self, answers: list[Answer]) -> str:
        return merging.told(answers, self._most)

    def _shorten(self, answers: list[Answer]) -> None:
        """Where not even two answers fit, show the beginning of each; the record says so."""
        contract = self._prompt.contract
        own = self._size("", merging.settle(contract, answers[:_TOGETHER]).asked or contract)
        free = (room(self._prompt.limits, self._engine) - own) * _SLACK
        # A token has two characters at least in most words of most languages.
        self._most = max(int(free), 0)
        self._cost.note("answers_shortened")

    def _size(self, text: str, asked: Contract) -> int:
        # An id of its own: an engine may remember its last count by it.
        self._probes += 1
        probe = self._render(text or "-", asked, f"{self.id}/size/{self._probes}")
        return self._engine.count(probe)

    # -- the end ------------------------------------------------------------------------------

    def _only(self, step: Step, generation: Generation) -> Generation:
        """The answer about the beginning of a document is the answer."""
        merged = merging.of_part(step.prompt.contract, generation, step.text, 0)
        shown = len(step.text)
        return generation.model_copy(
            update={
                "id": self.id,
                "places": merged.places,
                "shown": shown,
                "degraded": (*generation.degraded, f"head:{shown}/{self._characters}"),
            }
        )

    def _finished(self, answer: Answer) -> Generation:
        """One generation, as if the document had been shown at once."""
        contract, parts = self._prompt.contract, [a for a in self._parts if a is not None]
        if contract.kind == "text" and self._written is not None:
            made = self._cost.generation(self.id, self._written.text)
            scores = {"choices": self._written.choices, "tokens": self._written.tokens}
            return made.model_copy(update=scores)
        lists, notes = merging.whole(contract, Settled({}, None, {}), {}, parts)
        fields, places = merging.with_lists(contract, answer, lists)
        if contract.quotable and (bare := sum(not part.quotable for part in parts)):
            notes = (*notes, f"parts_without_quotes:{bare}")
        made = self._cost.generation(self.id, json.dumps(fields, ensure_ascii=False), notes)
        made = made.model_copy(update={"places": places})
        return made if self._written is None else _scored(made, self._written)


def _scored(made: Generation, written: Generation) -> Generation:
    """With the probabilities of what the model wrote, moved to where it stands now."""
    now = {leaf.path: leaf for leaf in leaves(made.text)}
    choices: list[ChoiceScore] = []
    tokens: list[tuple[int, float]] = []
    for leaf in leaves(written.text):
        new = now.get(leaf.path)
        raw = written.text[leaf.start : leaf.end]
        if new is None or made.text[new.start : new.end] != raw:
            continue
        by = new.start - leaf.start
        choices += [
            score.model_copy(update={"at": new.start})
            for score in written.choices
            if score.at == leaf.start
        ]
        tokens += [(at + by, log) for at, log in written.tokens if leaf.start < at <= leaf.end]
    return made.model_copy(update={"choices": tuple(choices), "tokens": tuple(sorted(tokens))})


class _Cost:
    """What all calls for one document took together, and what was degraded in any of them."""

    def __init__(self, parts: int) -> None:
        self.usage = Usage()
        self.seconds = 0.0
        self.attempts = 0
        self._notes: dict[str, None] = {f"parts:{parts}": None}
        self._cut = self._again = False

    def add(self, generation: Generation) -> None:
        """One call more."""
        one = generation.usage
        self.usage = Usage(
            prompt_tokens=self.usage.prompt_tokens + one.prompt_tokens,
            completion_tokens=self.usage.completion_tokens + one.completion_tokens,
            images=self.usage.images + one.images,
        )
        self.seconds += generation.seconds
        self.attempts += generation.attempts
        self._again |= generation.attempts > 1
        self._cut |= generation.finish_reason == "length"
        notes = (note for note in generation.degraded if not note.startswith("attempts:"))
        self._notes |= dict.fromkeys(notes)

    def note(self, text: str) -> None:
        """Something was degraded that no call tells of."""
        self._notes[text] = None

    def generation(self, name: str, text: str, notes: Iterable[str] = ()) -> Generation:
        """The document's, of its text."""
        again = (f"attempts:{self.attempts}",) if self._again else ()
        return Generation(
            id=name,
            text=text,
            finish_reason="length" if self._cut else "stop",
            usage=self.usage,
            degraded=(*self._notes, *again, *notes),
            seconds=self.seconds,
            attempts=self.attempts,
        )

    def failure(self, name: str, code: str) -> Generation:
        """The document's, where it cannot be had."""
        failed = {"finish_reason": "error", "error": code}
        return self.generation(name, "").model_copy(update=failed)
