"""No model: a deterministic answer in the template's shape, made of the document's own words.

For trying pipelines, for measuring everything around the model, and for fault tests. Its records
say `engine: echo`; nothing it writes is a summary.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from medgemma_cli import decoding, kinds, quoting
from medgemma_cli.engines.base import Audience, SoFar, always, unwatched
from medgemma_cli.records import Generation, ModelInfo, Prompt, Usage

_SPACES = re.compile(r"\s+")
_QUOTED = 20  # of each document, at most
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f]")


class EchoEngine:
    """Answers from the document's lines, after `delay` seconds a document."""

    window = 1_000_000
    reads_images = True
    constrains = True

    def __init__(self, delay: float = 0.0) -> None:
        self.identity: dict[str, Any] = {"engine": "echo", "version": 2}
        self.info = ModelInfo(id="echo", engine="echo")
        self._delay = delay
        self._counted = ("", 0)

    def count(self, prompt: Prompt) -> int:
        """White-space separated words of all text; images are free."""
        if self._counted[0] != prompt.id:
            words = sum(len(part.text.split()) for m in prompt.messages for part in m.parts)
            self._counted = (prompt.id, words)
        return self._counted[1]

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """One prompt after another, in order."""
        for prompt in prompts:
            if not keep_going():
                return
            begin([prompt.id])
            yield self._answer(prompt)

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """The answer word by word, then the `Generation`."""
        generation = self._answer(prompt)
        yield from re.findall(r"\S+\s*", generation.text)
        yield generation

    def live(
        self, prompts: Iterable[Prompt | None], audience: Audience
    ) -> Iterator[Generation | SoFar]:
        """One prompt after another; those that are watched, word by word."""
        for prompt in prompts:
            if prompt is None:
                continue
            text = ""
            for piece in self.stream(prompt):
                if isinstance(piece, Generation):
                    yield piece
                elif audience.watched(prompt.id):
                    text += piece
                    yield SoFar(prompt.id, text)

    def _answer(self, prompt: Prompt) -> Generation:
        started = time.perf_counter()
        if self._delay:
            time.sleep(self._delay)
        lines = _lines(prompt)
        if prompt.contract.kind == "text":
            text = " ".join(islice(lines, 3))
        else:
            schema = decoding.schema(prompt.contract.json_schema)
            filler = _Filler(schema, lines, _Quotes(prompt))
            text = json.dumps(filler.answer(), ensure_ascii=False)
        words = len(text.split())
        usage = Usage(
            prompt_tokens=self.count(prompt), completion_tokens=words, images=len(prompt.images)
        )
        seconds = time.perf_counter() - started
        return Generation(id=prompt.id, text=text, usage=usage, seconds=seconds)


def _lines(prompt: Prompt) -> list[str]:
    parts = [part for message in prompt.messages for part in message.parts]
    documents = [part.text for part in parts if part.kind in ("document", "prior")]
    last = [part.text for part in parts if part.kind == "text"][-1:]
    text = "\n".join(
        documents or [f"{image.width} by {image.height} pixels" for image in prompt.images] or last
    )
    lines = (_NOT_TEXT.sub(" ", line).strip("#*-|>:=_ \t\"'([") for line in text.splitlines())
    return [line for line in lines if line and line[0].isalnum()] or ["nothing readable"]


class _Quotes:
    """What of a prompt's documents can be quoted, for each format of `kinds.QUOTED`.

    Of a pair, sentences that stand in both are unchanged, the others new or resolved. `counts`
    says how many there are; where there is none, another of the same document stands in.
    """

    def __init__(self, prompt: Prompt) -> None:
        now, before = prompt.document, prompt.prior
        # Nothing is asked to be quoted of a document that has nothing.
        own, earlier = _samples(now), _samples(before)
        same = [sample for sample in own if quoting.locate(sample, before)]
        new = [sample for sample in own if sample not in same]
        gone = [sample for sample in earlier if not quoting.locate(sample, now)]
        self.counts = {"prior_quote": len(same), "new_quote": len(new), "resolved_quote": len(gone)}
        self._forms = {
            "quote": cycle(same or own),
            "prior_quote": cycle(same or earlier),
            "new_quote": cycle(new or own),
            "resolved_quote": cycle(gone or earlier),
        }

    def next(self, form: str) -> str:
        """The next of a format, in turns."""
        return next(self._forms[form])


def _samples(text: str) -> list[str]:
    return list(islice(quoting.samples(text), _QUOTED)) if text else []


class _Filler:
    """Fills a JSON Schema with a document's lines, and its quotes with what can be quoted."""

    def __init__(self, root: dict[str, Any], lines: list[str], quotes: _Quotes) -> None:
        self._root = root
        self._lines = cycle(lines)
        self._quotes = quotes

    def answer(self) -> Any:
        """A value of the schema."""
        return self._value(self._root)

    def _value(self, schema: dict[str, Any]) -> Any:
        schema = decoding.resolve(schema, self._root)
        if "anyOf" in schema:
            return self._value(schema["anyOf"][-1])
        if "enum" in schema or "const" in schema:
            return schema["enum"][-1] if "enum" in schema else schema["const"]
        if schema["type"] == "object":
            return {name: self._value(below) for name, below in schema["properties"].items()}
        if schema["type"] == "array":
            wanted = max(schema["minItems"], min(2, schema["maxItems"], self._at_hand(schema)))
            return [self._value(schema["items"]) for _ in range(wanted)]
        if schema["type"] == "string":
            return self._string(schema)
        plain = {"boolean": False, "null": None, "number": 0}
        return plain.get(schema["type"], schema.get("minimum", 0))

    def _at_hand(self, schema: dict[str, Any]) -> int:
        """How many items of what only a pair has can be quoted; of anything else, enough."""
        items = decoding.resolve(schema["items"], self._root)
        forms = {below.get("format") for below in items.get("properties", {}).values()}
        return min((self._quotes.counts[form] for form in forms & kinds.PAIRED), default=2)

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in kinds.QUOTED:
            return self._quotes.next(schema["format"])
        return _fit(schema, next(self._lines)) if "maxLength" in schema else "1900"


def _fit(schema: dict[str, Any], line: str) -> str:
    """The line within the schema's bounds, cut at a word."""
    line = _SPACES.sub(" ", line)
    longest = max(schema["maxLength"] - 1, 1)
    if len(line) > longest:
        line = line[:longest].rpartition(" ")[0] or line[:longest]
    return line.ljust(schema.get("minLength", 0), ".")
