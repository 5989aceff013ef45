"""What all calls for one document took together, and what was degraded in any of them."""

from collections.abc import Iterable

from medgemma_cli.records import Generation, Usage


class Cost:
    """Of one long document."""

    def __init__(self) -> None:
        self._usage = Usage()
        self._seconds = 0.0
        self._attempts = 0
        self._notes: dict[str, None] = {}
        self._cut = self._again = False

    def add(self, generation: Generation) -> None:
        """One call more."""
        one, before = generation.usage, self._usage
        self._usage = Usage(
            prompt_tokens=before.prompt_tokens + one.prompt_tokens,
            completion_tokens=before.completion_tokens + one.completion_tokens,
            images=before.images + one.images,
        )
        self._seconds += generation.seconds
        self._attempts += generation.attempts
        self._again |= generation.attempts > 1
        self._cut |= generation.finish_reason == "length"
        notes = (note for note in generation.degraded if not note.startswith("attempts:"))
        self._notes |= dict.fromkeys(notes)

    def note(self, text: str) -> None:
        """Something was degraded that no call tells of."""
        self._notes[text] = None

    def generation(self, name: str, text: str, notes: Iterable[str] = ()) -> Generation:
        """The document's, of its text."""
        again = (f"attempts:{self._attempts}",) if self._again else ()
        return Generation(
            id=name,
            text=text,
            finish_reason="length" if self._cut else "stop",
            usage=self._usage,
            degraded=(*self._notes, *again, *notes),
            seconds=self._seconds,
            attempts=self._attempts,
        )

    def failure(self, name: str, code: str) -> Generation:
        """The document's, where it cannot be had."""
        failed = {"finish_reason": "error", "error": code}
        return self.generation(name, "").model_copy(update=failed)
