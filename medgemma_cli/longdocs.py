"""Documents longer than the window: one document in, several prompts to the engine, one answer out.

Stands between the pipeline and an engine, and looks like one. A prompt that fits goes through as
it is. Of a longer one every part (`splitting`) is a prompt of its own with the same words around
it; what is answered is put together (`merging`), by the model where that is needed, again and
again if the answers do not fit into one prompt. The document is one all the way: its id is what
`begin` is told, and a run that dies in it begins it anew.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from medgemma_cli import quoting, splitting
from medgemma_cli.engines.base import Engine, always, room, unwatched
from medgemma_cli.errors import DocumentError
from medgemma_cli.joining import Joining, Step
from medgemma_cli.merging import unquotable
from medgemma_cli.records import Generation, Message, ModelInfo, Part, Prompt
from medgemma_cli.splitting import Span
from medgemma_cli.templates import Template

MERGE = "merge"
"""The template that joins the answers about parts."""

# More characters a token than any text of words has: longer than so many need not be counted.
_SURE = 8


class LongDocuments:
    """An engine whose documents may be longer than its window.

    Args:
        on_long: ``split``: in parts; ``head``: the first part alone, which the record says.
        merge: joins the answers about the parts.
    """

    def __init__(self, engine: Engine, on_long: Literal["split", "head"], merge: Template) -> None:
        self._engine = engine
        self._head = on_long == "head"
        self._merge = merge
        rule = {"on_long": on_long, "splitting": splitting.VERSION, "overlap": splitting.OVERLAP}
        joined = {} if self._head else {"merge": merge.hash}
        self.identity = {**engine.identity, "long": {**rule, **joined}}
        self.constrains = engine.constrains
        self.timing = getattr(engine, "timing", None)
        self._known: tuple[Prompt | None, list[Span]] = (None, [])

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
        parts = self.parts(prompt)
        return max(part.tokens for part in parts) if parts else self._engine.count(prompt)

    def parts(self, prompt: Prompt) -> list[Span]:
        """The parts of its document that would be shown; none where it is shown as it is."""
        if self._known[0] is not prompt:
            self._known = (prompt, self._parts(prompt))
        return self._known[1]

    def _parts(self, prompt: Prompt) -> list[Span]:
        text, most = _document(prompt), room(prompt.limits, self._engine)
        if not text or (len(text) <= _SURE * most and self._engine.count(prompt) <= most):
            return []

        def measure(piece: str) -> int:
            probe = _shown(prompt, piece, first=True, notice=_notice(9999, 9999))
            # An id of its own: an engine may remember its last count by it.
            return self._engine.count(probe.model_copy(update={"id": f"{prompt.id}/{len(piece)}"}))

        try:
            found = splitting.spans(text, most, measure)
            parts = [next(found)] if self._head else list(found)
        except DocumentError:
            return []  # as it is, it does not fit either, and `check_fits` says so
        return [] if parts[0].end == len(text) else parts

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """As the engine does; a long document's answer comes when all its parts have theirs."""
        flow, stopped = _Flow(self, iter(prompts)), False

        def going() -> bool:
            nonlocal stopped
            stopped = stopped or not keep_going()
            return not stopped

        def begun(ids: Sequence[str]) -> None:
            names = flow.documents(ids)
            if names or not ids:
                begin(names)

        while True:
            for generation in self._engine.generate(flow.stream(), going, begun):
                made = flow.take(generation)
                if made is not None:
                    yield made
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

    def steps(self, prompt: Prompt) -> Iterator[Step]:
        """The prompts of a long document's parts, one after the other; images are in the first."""
        text, parts = _document(prompt), self.parts(prompt)
        for k, part in enumerate(parts, 1):
            piece = text[part.start : part.end]
            shown = _shown(prompt, piece, first=k == 1, notice=_notice(k, len(parts)))
            if self._head:
                shown = _shown(prompt, piece, first=True, notice=_BEGINNING)
            if prompt.contract.quotable and not quoting.is_quotable(piece):
                shown = shown.model_copy(update={"contract": unquotable(prompt.contract)})
            name = f"{prompt.id}/{k}"
            yield Step(shown.model_copy(update={"id": name}), piece, part.start)

    def joining(self, prompt: Prompt) -> Joining:
        """What collects the answers about a long document's parts."""
        count, characters = len(self.parts(prompt)), len(_document(prompt))
        return Joining(self._engine, prompt, self._merge, count, characters, head=self._head)


def prompts_of(engine: Engine, prompt: Prompt) -> list[int]:
    """The tokens of each prompt that an engine would be shown of a document."""
    parts = engine.parts(prompt) if isinstance(engine, LongDocuments) else []
    return [part.tokens for part in parts] or [engine.count(prompt)]


class _Flow:
    """What is on its way in one call of `generate`.

    Attributes:
        ready: prompts that follow from answers; they go before anything new.
    """

    def __init__(self, long: LongDocuments, prompts: Iterator[Prompt]) -> None:
        self._long = long
        self._prompts = prompts
        self._steps: Iterator[Step] = iter(())
        self._now: Joining | None = None
        self._asked: dict[str, tuple[Joining, Step]] = {}
        self._names: dict[str, str] = {}
        self.ready: deque[tuple[Joining, Step]] = deque()

    def stream(self) -> Iterator[Prompt]:
        """The prompts for the engine, made as it asks for them."""
        while True:
            if self.ready:
                yield self._ask(*self.ready.popleft())
            elif self._now is not None and (step := next(self._steps, None)) is not None:
                # Of a document that has failed, the other parts need not be asked about.
                if self._now.done:
                    self._now = None
                else:
                    yield self._ask(self._now, step)
            elif (prompt := next(self._prompts, None)) is None:
                return
            elif not self._long.parts(prompt):
                yield prompt
            else:
                self._now, self._steps = self._long.joining(prompt), self._long.steps(prompt)

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


# -- prompts of parts ---------------------------------------------------------------------------

_BEGINNING = "The beginning of a longer document; what follows is not shown.\n"


def _notice(k: int, n: int) -> str:
    return f"Part {k} of {n} of one long document; answer about this part alone.\n"


def _document(prompt: Prompt) -> str:
    """The document's text, once: a template may show it twice."""
    parts = (part for message in prompt.messages for part in message.parts)
    return next((part.text for part in parts if part.kind == "document"), "")


def _shown(prompt: Prompt, text: str, *, first: bool, notice: str) -> Prompt:
    """The same prompt with a part of the document in its place, and without images but for one.

    The fence holds, since its marker is not in the whole text; the notice stands outside of it.
    """
    messages = []
    for message in prompt.messages:
        parts: list[Part] = []
        for i, part in enumerate(message.parts):
            opens = part.kind == "fence" and message.parts[i + 1 : i + 2]
            if part.kind == "document":
                parts.append(part.model_copy(update={"text": text}))
            elif opens and message.parts[i + 1].kind == "document":
                parts.append(part.model_copy(update={"text": notice + part.text}))
            elif first or part.kind not in ("image", "label"):
                parts.append(part)
        messages.append(Message(role=message.role, parts=tuple(parts)))
    images = prompt.images if first else ()
    return prompt.model_copy(update={"messages": tuple(messages), "images": images})
