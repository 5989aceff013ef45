"""A prompt → the bodies of its requests, and an answer → its `Generation`."""

from typing import Any

from medgemma_cli.engines.calls import structure
from medgemma_cli.engines.calls.about import Served
from medgemma_cli.engines.calls.replies import Reply
from medgemma_cli.engines.calls.structure import Level
from medgemma_cli.engines.calls.wording import Worded, least_tokens
from medgemma_cli.records import Generation, Prompt, Usage

_TOKEN = 200  # characters; longer tokens than the longest runs of spaces are in no vocabulary


class Call:
    """What one document is asked.

    Args:
        level: how the shape of the answer is asked for at first.
        asked: how the user wants it asked for; what differs is noted.
        notes: what else was degraded.
    """

    def __init__(
        self,
        prompt: Prompt,
        served: Served,
        level: Level,
        asked: Level,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.prompt = prompt
        self.level = level
        self._asked = asked
        self._served = served
        self._notes = notes
        self._worded = Worded(prompt)

    def body(self) -> dict[str, Any]:
        """The request; a level of which nothing can be made is passed over."""
        limits = self.prompt.limits
        while True:
            try:
                shape = structure.fields(self.prompt, self.level, self._served.maker)
                break
            except ValueError:
                self.lower()
        if more := structure.words(self.prompt, self.level):
            self._worded = Worded(self.prompt, more)
        least = {"min_tokens": limits.min_new_tokens} if self._keeps_least() else {}
        return {
            "model": self._served.name,
            "messages": self._worded.messages,
            "max_tokens": limits.max_new_tokens,
            "temperature": limits.temperature,
            "top_p": limits.top_p,
            "seed": limits.seed,
            **least,
            **shape,
        }

    @property
    def longest(self) -> int:
        """More characters than the answer can have; a server that writes more keeps no limit."""
        return self.prompt.limits.max_new_tokens * _TOKEN

    def lower(self) -> bool:
        """Ask for less the next time; whether there was less to ask for."""
        below = structure.lower(self.level)
        if self.prompt.contract.kind == "text" or below is None:
            return False
        self.level = below
        return True

    def _keeps_least(self) -> bool:
        """Whether the server knows a least number of new tokens; OpenAI's API does not."""
        return self.prompt.limits.min_new_tokens > 0 and self._served.maker == "vllm"

    def _degraded(self) -> tuple[str, ...]:
        notes = [*self._notes]
        if self._worded.split:
            notes.append(f"control_tokens_split:{self._worded.split}")
        if self.prompt.contract.kind == "json" and self.level != self._asked:
            notes.append(f"structured:{self._asked}->{self.level}")
        if self.prompt.limits.min_new_tokens and not self._keeps_least():
            notes.append("min_new_tokens:not_sent")
        return tuple(notes)

    def failed(self, code: str, seconds: float) -> Generation:
        """The generation of a document that ended with a code of `errors.FAULTS`."""
        if code == "no_vision" and not self.prompt.images:
            code = "server_refused"
        return Generation(
            id=self.prompt.id,
            finish_reason="error",
            error=code,
            seconds=seconds,
            degraded=self._degraded(),
        )

    def made(self, reply: Reply, seconds: float) -> Generation:
        """The generation of an answer; one to a prompt that was cut is none."""
        error = self._error(reply)
        return Generation(
            id=self.prompt.id,
            text=reply.text,
            finish_reason="error" if error else reply.finish,
            usage=Usage(
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                images=len(self.prompt.images),
            ),
            degraded=self._degraded(),
            error=error,
            seconds=seconds,
        )

    def _error(self, reply: Reply) -> str | None:
        # Some servers cut what is too long for them, and say nothing.
        if 0 < reply.prompt_tokens < least_tokens(self._worded.words):
            return "too_long"
        if reply.thinking:
            return "unclosed_thought"
        return None if reply.text.strip() else "empty_output"
