"""The prompts by which the model joins answers: how many go into one, and how they read."""

import hashlib
import json
from collections.abc import Iterator

from medgemma_cli import templates
from medgemma_cli.engines.base import Engine, room
from medgemma_cli.longdocs.answers import Answer, told
from medgemma_cli.longdocs.settling import settle
from medgemma_cli.records import Contract, Document, Prompt, Source

TOGETHER = 32
"""Answers: as many options as a choice of one of them can have, and be read."""
_SLACK = 0.9  # of the room for answers, which are counted one by one


class Asking:
    """Of one document.

    Args:
        prompt: the document's own.
        merge: joins answers.
    """

    def __init__(self, engine: Engine, prompt: Prompt, merge: templates.Template) -> None:
        self._engine = engine
        self._prompt = prompt
        self._merge = merge
        self._room = room(prompt.limits, engine)
        self._most: int | None = None
        self._probes = 0
        data = prompt.document.encode("utf-8", "surrogatepass")
        self._mark = hashlib.sha256(data).hexdigest()

    def prompt(self, group: list[Answer], asked: Contract, name: str) -> Prompt | None:
        """What joins a group of answers; None if that does not fit."""
        made = self._render(told(group, self._most), asked, name)
        return made if self._engine.count(made) <= self._room else None

    def groups(self, answers: list[Answer]) -> list[list[Answer]]:
        """Neighbours that fit into one prompt together: all of them, if they do.

        Where not even two fit, the beginning of each is shown, see `shortened`.
        """
        contract = self._prompt.contract
        asked = settle(contract, answers[:TOGETHER]).asked
        if asked is None and len(answers) <= TOGETHER:
            return [answers]
        own, free = self._free(asked or contract)
        found = list(self._grouped(answers, asked or contract, own, free))
        if len(found) == len(answers) and self._most is None:
            # A token has two characters at least in most words of most languages.
            self._most = max(int(free), 0)
            found = list(self._grouped(answers, asked or contract, own, free))
        if len(found) == len(answers):
            # Not even so: as many as would be joined at most, by whoever can.
            found = [answers[i : i + TOGETHER] for i in range(0, len(answers), TOGETHER)]
        return found

    @property
    def shortened(self) -> bool:
        """Whether only the beginning of each answer is shown."""
        return self._most is not None

    def _grouped(
        self, answers: list[Answer], asked: Contract, own: int, free: float
    ) -> Iterator[list[Answer]]:
        group: list[Answer] = []
        used = 0.0
        for answer in answers:
            size = self._size(told([answer], self._most), asked) - own
            if group and (used + size > free or len(group) == TOGETHER):
                yield group
                group, used = [], 0.0
            group.append(answer)
            used += size
        yield group

    def _free(self, asked: Contract) -> tuple[int, float]:
        """Tokens of the prompt without answers, and those that are left for them."""
        own = self._size("", asked)
        return own, (self._room - own) * _SLACK

    def _size(self, text: str, asked: Contract) -> int:
        # An id of its own: an engine may remember its last count by it.
        self._probes += 1
        probe = self._render(text or "-", asked, f"{self._prompt.id}/size/{self._probes}")
        return self._engine.count(probe)

    def _render(self, text: str, asked: Contract, name: str) -> Prompt:
        source = Source(place="", relative="", origin="")
        shown = Document(
            source=source,
            sha256=self._mark,  # one marker for all of them, so that all are as long
            bytes=0,
            media_type="text/plain",
            text=text,
            coverage={},
        )
        limits, question = self._prompt.limits, self._question(asked)
        made = templates.render(self._merge, shown, self._prompt.id, limits, question)
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
