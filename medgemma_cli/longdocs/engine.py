"""An engine whose documents may be longer than its window.

A prompt that fits goes through as it is. Of a longer one every part (`splitting`) is a prompt of
its own with the same words around it; what is answered is put together (`joining`), by the model
where that is needed, again and again if the answers do not fit into one prompt. The document is
one all the way: its id is what `begin` is told, and a run that dies in it begins it anew.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from medgemma_cli import quoting
from medgemma_cli.engines.base import Engine, always, room, unwatched
from medgemma_cli.errors import DocumentError
from medgemma_cli.longdocs import splitting
from medgemma_cli.longdocs.flow import Flow, Way
from medgemma_cli.longdocs.forms import unquotable
from medgemma_cli.longdocs.joining import VERSION, Joining
from medgemma_cli.longdocs.showing import BEGINNING, document_of, notice, shown
from medgemma_cli.longdocs.splitting import Span
from medgemma_cli.longdocs.steps import Step
from medgemma_cli.records import Generation, Limits, Message, ModelInfo, Prompt
from medgemma_cli.templates import Template

MERGE = "merge"
"""The template that joins the answers about parts."""

# More characters a token than any text of words has: longer than so many need not be counted.
_SURE = 8


class LongDocuments:
    """An engine, for long documents, too.

    Args:
        on_long: ``split``: in parts; ``head``: the first part alone, which the record says.
        merge: joins the answers about the parts.

    Attributes:
        identity: the engine's; `rule` is in the keys of long documents alone.
    """

    def __init__(self, engine: Engine, on_long: Literal["split", "head"], merge: Template) -> None:
        self._engine = engine
        self._head = on_long == "head"
        self._merge = merge
        self.identity = engine.identity
        self.rule: dict[str, Any] = {"on_long": on_long, "splitting": splitting.VERSION}
        if not self._head:
            self.rule |= {"joining": VERSION, "merge": merge.hash}
        self.constrains = engine.constrains
        self.timing = getattr(engine, "timing", None)
        self._known: tuple[tuple[Message, ...], Limits] | None = None
        self._found: tuple[list[Span], int] = ([], 0)

    @property
    def info(self) -> ModelInfo:
        """The engine's."""
        return self._engine.info

    @property
    def window(self) -> int:
        """The engine's: of one prompt and its answer."""
        return self._engine.window

    @property
    def reads_images(self) -> bool:
        """Whether the engine's model reads images."""
        return self._engine.reads_images

    def count(self, prompt: Prompt) -> int:
        """The longest prompt that the engine would be shown for it, in tokens."""
        return self._measured(prompt)[1]

    def parts(self, prompt: Prompt) -> list[Span]:
        """The parts of its document that would be shown; none where it is shown as it is."""
        return self._measured(prompt)[0]

    def _measured(self, prompt: Prompt) -> tuple[list[Span], int]:
        """The parts and the longest prompt, counted once: a prompt is asked about thrice in a row.

        By its messages, which stay the same when the prompt is given another id.
        """
        known = self._known
        if known is None or known[0] is not prompt.messages or known[1] != prompt.limits:
            self._found = self._measure(prompt)
            self._known = prompt.messages, prompt.limits
        return self._found

    def _measure(self, prompt: Prompt) -> tuple[list[Span], int]:
        text, most = document_of(prompt), room(prompt.limits, self._engine)
        whole = self._engine.count(prompt) if len(text) <= _SURE * most else None
        if not text or (whole is not None and whole <= most):
            return [], whole or self._engine.count(prompt)
        parts = self._parts(prompt, text, most)
        longest = max((part.tokens for part in parts), default=whole)
        return parts, longest or self._engine.count(prompt)

    def _parts(self, prompt: Prompt, text: str, most: int) -> list[Span]:
        def measure(piece: str, start: int) -> int:
            said = BEGINNING if self._head else notice(9999, 9999)
            probe = shown(prompt, piece, first=start == 0, said=said)
            # An id of its own: an engine may remember its last count by it.
            name = f"{prompt.id}/{start}+{len(piece)}"
            return self._engine.count(probe.model_copy(update={"id": name}))

        try:
            found = splitting.spans(text, most, measure)
            parts = [next(found)] if self._head else list(found)
        except DocumentError:
            return []  # as it is, it does not fit either, and `check_fits` says so
        beginning = text[: parts[0].end]
        if self._head and prompt.contract.quotable and not quoting.is_quotable(beginning):
            return []  # what stands there cannot answer for the document
        return [] if parts[0].end == len(text) else parts

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """As the engine does; a long document's answer comes when all its parts have theirs."""
        flow, stopped = Flow(self._way, iter(prompts)), False

        def going() -> bool:
            nonlocal stopped
            stopped = stopped or not keep_going()
            return not stopped

        def begun(ids: Sequence[str]) -> None:
            begin(flow.documents(ids))

        while True:
            for generation in self._engine.generate(flow.stream(), going, begun):
                made = flow.take(generation)
                if made is not None:
                    yield made
            # What follows from the last answers is asked in another round.
            if stopped or not flow.ready:
                return

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """A long document's answer in one piece; any other as it comes."""
        if not self.parts(prompt):
            yield from self._engine.stream(prompt)
            return
        for generation in self.generate([prompt]):
            yield generation.text
            yield generation

    def _way(self, prompt: Prompt) -> Way | None:
        if not (parts := self.parts(prompt)):
            return None
        joining = Joining(
            self._engine,
            prompt,
            self._merge,
            len(parts),
            len(document_of(prompt)),
            head=self._head,
        )
        return Way(joining, self._steps(prompt, parts))

    def _steps(self, prompt: Prompt, parts: list[Span]) -> Iterator[Step]:
        """The prompts of the parts, one after the other."""
        text = document_of(prompt)
        for k, part in enumerate(parts):
            piece = text[part.start : part.end]
            said = BEGINNING if self._head else notice(k + 1, len(parts))
            made = shown(prompt, piece, first=k == 0, said=said)
            if prompt.contract.quotable and not quoting.is_quotable(piece):
                made = made.model_copy(update={"contract": unquotable(prompt.contract)})
            made = made.model_copy(update={"id": f"{prompt.id}/{k + 1}"})
            yield Step(made, piece, part.start, k)
