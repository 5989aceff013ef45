"""For engines without grammars: generate, judge, and ask again with the error named.

An engine that decodes inside grammars cannot write what this refuses; for it, nothing happens
here but one check. What was asked again is in the generation's `attempts` and `degraded`.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from medgemma_cli import decoding, quoting
from medgemma_cli.engines.base import Engine, always, check_fits, unwatched
from medgemma_cli.errors import DocumentError
from medgemma_cli.records import Generation, Message, ModelInfo, Part, Prompt, Usage

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_SHAPE = "it is not JSON of the schema below alone, without a code fence"
_QUOTES = "these fields quote words that do not stand in the document: "


def fault(prompt: Prompt, generation: Generation) -> str | None:
    """What is wrong with an answer, for the model to read; None where nothing is."""
    contract = prompt.contract
    if contract.kind == "text" or generation.error:
        return None
    try:
        output = decoding.parse(contract, generation.text)
    except ValueError:
        return f"{_SHAPE}: {contract.json_schema}"
    texts = {"current": prompt.document, "prior": prompt.prior}
    wrong = [
        quote.where
        for quote in decoding.quoted(contract, output.fields)
        if quoting.locate(quote.text, texts[quote.which]) is None
    ]
    return _QUOTES + ", ".join(wrong) if wrong else None


class Retrying:
    """An engine whose refused answers are asked for again, `attempts` times in all.

    The best answer is handed on as it is: the checks after it say what is wrong with it.
    """

    def __init__(self, engine: Engine, attempts: int) -> None:
        self._engine = engine
        self._attempts = attempts
        self.identity = {**engine.identity, "attempts": attempts}
        self.count = engine.count
        self.constrains = engine.constrains
        self.timing = getattr(engine, "timing", None)

    @property
    def info(self) -> ModelInfo:
        """The engine's."""
        return self._engine.info

    @property
    def window(self) -> int:
        """The engine's."""
        return self._engine.window

    @property
    def reads_images(self) -> bool:
        """Whether the engine's model reads images."""
        return self._engine.reads_images

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """As the engine does; an answer asked for again comes when it is accepted or given up."""
        asked: dict[str, Prompt] = {}
        stopped = False
        earlier: dict[str, Generation] = {}
        again: deque[Prompt] = deque()

        def first() -> Iterator[Prompt]:
            for prompt in prompts:
                # Refused answers go in between, so that few of them are held.
                while again:
                    yield again.popleft()
                asked[prompt.id] = prompt
                yield prompt

        def going() -> bool:
            nonlocal stopped
            stopped = stopped or not keep_going()
            return not stopped

        stream: Iterable[Prompt] = first()
        while True:
            for generation in self._engine.generate(stream, going, begin):
                prompt = asked[generation.id]
                made = _joined(prompt, earlier.pop(prompt.id, None), _unfenced(generation))
                follow_up = self._refused(prompt, made)
                if follow_up is None:
                    del asked[prompt.id]
                    yield made
                else:
                    earlier[prompt.id] = made
                    again.append(follow_up)
            if stopped or not again:
                return
            stream = list(again)
            again.clear()

    def _refused(self, prompt: Prompt, made: Generation) -> Prompt | None:
        """What to ask again, if the answer is refused and there is room to ask."""
        reason = fault(prompt, made) if made.attempts < self._attempts else None
        if reason is None:
            return None
        follow_up = _follow_up(prompt, made, reason)
        try:
            check_fits(follow_up, self._engine)
        except DocumentError:
            return None
        return follow_up

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """The answer that is kept, in one piece where it is checked first; else as it comes."""
        if prompt.contract.kind == "text" or self.constrains:
            yield from self._engine.stream(prompt)
            return
        for generation in self.generate([prompt]):
            yield generation.text
            yield generation


def _unfenced(generation: Generation) -> Generation:
    """The answer without the code fence that many models put around JSON."""
    match = _FENCED.fullmatch(generation.text)
    if match is None:
        return generation
    return generation.model_copy(update={"text": match[1], "tokens": (), "choices": ()})


def _quality(prompt: Prompt, generation: Generation) -> int:
    """0 where nothing can be used, 1 where a quote is not there, 2 where all is well."""
    if generation.error:
        return 0
    reason = fault(prompt, generation)
    return 2 if reason is None else int(reason.startswith(_QUOTES))


def _joined(prompt: Prompt, before: Generation | None, now: Generation) -> Generation:
    """The better answer, of two as good the newer, with what both of them cost."""
    if before is None:
        return now
    best = before if _quality(prompt, before) > _quality(prompt, now) else now
    usage = Usage(
        prompt_tokens=before.usage.prompt_tokens + now.usage.prompt_tokens,
        completion_tokens=before.usage.completion_tokens + now.usage.completion_tokens,
        images=best.usage.images,
    )
    attempts = before.attempts + 1
    notes = dict.fromkeys((*before.degraded, *now.degraded))
    kept = [note for note in notes if not note.startswith("attempts:")]
    return best.model_copy(
        update={
            "usage": usage,
            "attempts": attempts,
            "seconds": before.seconds + now.seconds,
            "degraded": (*kept, f"attempts:{attempts}"),
        }
    )


def _follow_up(prompt: Prompt, generation: Generation, reason: str) -> Prompt:
    """The same question, with the refused answer and why; a document's words stay data."""
    answer = Message(role="assistant", parts=(Part(kind="document", text=generation.text),))
    text = f"Your answer was refused: {reason}. Answer the same question again."
    ask = Message(role="user", parts=(Part(kind="text", text=text),))
    return prompt.model_copy(update={"messages": (*prompt.messages, answer, ask)})
