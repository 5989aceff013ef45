"""transformers on this machine: tokenizer first, weights when the first prompt is there.

Batches are left-padded and sorted by length within a small look-ahead. An answer that is empty,
padding only, or came of logits that are not finite climbs a ladder, each step noted in
`degraded`: fp16 → the model loaded again in bf16 → once more with 48 new tokens at least → a
failed generation with the reason.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medgemma_cli import models
from medgemma_cli.engines.base import always
from medgemma_cli.engines.batch import Batch
from medgemma_cli.engines.encoding import Encoded, Encoder
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.loading import (
    Loaded,
    free_memory,
    load_model,
    load_tokenizer,
    pick_device,
    pick_precision,
)
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.records import Generation, ModelInfo, Precision, Prompt

_LOG = logging.getLogger(__name__)
_LOOK_AHEAD = 4
_FALLBACK_TOKENS = 48
# What may be written inside a contract; counted up when that changes, since it is in every key.
_GRAMMAR = 2


@dataclass(frozen=True)
class LocalOptions:
    """How to load, how to batch, and whether to decode inside grammars."""

    precision: Precision = "auto"
    device: str = "auto"
    double_quant: bool = True
    batch_size: int = 16
    grammar: bool = True


def _quiet(text: str, done: int, total: int) -> None:
    return


class LocalEngine:
    """One checkpoint on one device.

    Args:
        step: told of slow steps, with how far they are.
        tokens: told of every step's new tokens.
    """

    def __init__(
        self,
        checkpoint: models.Checkpoint,
        options: LocalOptions | None = None,
        *,
        step: models.Step = _quiet,
        tokens: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._checkpoint = checkpoint
        self._options = options or LocalOptions()
        self._step = step
        self._tokens = tokens
        self._encoder: Encoder | None = None
        self._config: dict[str, Any] | None = None
        self._loaded: Loaded | None = None
        self._compiler: Compiler | None = None
        self._fallback: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Fingerprint of weights and tokenizer, and the precision asked for."""
        options = self._options
        quantised = options.precision in ("nf4", "fp4")
        return {
            "engine": "local",
            "weights": self._checkpoint.fingerprint,
            "adapter": None,
            "precision": options.precision,
            "double_quant": options.double_quant if quantised else None,
            "grammar": options.grammar and _GRAMMAR,
        }

    @property
    def info(self) -> ModelInfo:
        """The resolved checkpoint; precision as loaded, after any fallback."""
        loaded = self._loaded
        return ModelInfo(
            id=self._checkpoint.id,
            revision=self._checkpoint.revision,
            path=str(self._checkpoint.path) if self._checkpoint.path else None,
            precision=loaded.precision if loaded else None,
            asked=self._options.precision,
            engine="local",
        )

    @property
    def constrains(self) -> bool:
        """Whether contracts are decoded inside their grammar."""
        return self._options.grammar

    @property
    def window(self) -> int:
        """The model's `max_position_embeddings`."""
        return models.window(self._settings())

    @property
    def reads_images(self) -> bool:
        """Whether the checkpoint has a vision tower."""
        return models.is_multimodal(self._settings())

    def _settings(self) -> dict[str, Any]:
        if self._config is None:
            self._checkpoint = models.fetch(self._checkpoint, self._step)
            assert self._checkpoint.path is not None
            self._config = models.config(self._checkpoint.path)
        return self._config

    def _encode(self, prompt: Prompt) -> Encoded:
        if self._encoder is None:
            multimodal = self.reads_images
            assert self._checkpoint.path is not None
            self._step("loading the tokenizer", 0, 0)
            self._encoder = Encoder(*load_tokenizer(self._checkpoint.path, multimodal))
        return self._encoder.encode(prompt)

    def count(self, prompt: Prompt) -> int:
        """Exact: the prompt's token ids, an image's among them."""
        return len(self._encode(prompt).ids)

    def _load(self) -> Loaded:
        if self._loaded is None:
            device = pick_device(self._options.device)
            precision = pick_precision(self._options.precision, device)
            self._loaded = self._load_as(precision, device)
        return self._loaded

    def _load_as(self, precision: Precision, device: str) -> Loaded:
        folder, encoder = self._checkpoint.path, self._encoder
        assert folder is not None and encoder is not None
        self._step(f"loading the model ({precision} on {device})", 0, 0)
        weights = models.parameters(self._checkpoint) or 0
        need, free = models.memory_needed(weights, precision), free_memory(device)
        if need > free:
            raise ModelUnavailableError(
                f"The model needs about {need / 2**30:.1f} GiB at {precision}; "
                f"{free / 2**30:.1f} GiB are free on {device}.",
                "Try --precision nf4 or int8, a smaller --model, or free some memory.",
            )
        model = load_model(
            folder,
            multimodal=self.reads_images,
            precision=precision,
            device=device,
            double_quant=self._options.double_quant,
        )
        self._step("model loaded", 1, 1)
        return Loaded(model, encoder.tokenizer, encoder.processor, device, precision)

    def generate(
        self, prompts: Iterable[Prompt], keep_going: Callable[[], bool] = always
    ) -> Iterator[Generation]:
        """Batches of a look-ahead of a few batches, sorted by length and kind."""
        stream = iter(prompts)
        size = self._options.batch_size
        while window := list(islice(stream, size * _LOOK_AHEAD)):
            window.sort(key=lambda prompt: (_kind(prompt), self.count(prompt)))
            while window:
                if not keep_going():
                    return
                kind = _kind(window[0])
                batch = [prompt for prompt in window[:size] if _kind(prompt) == kind]
                del window[: len(batch)]
                yield from self._answer(batch)

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """Text as it comes, from a worker thread; closing the iterator stops it."""
        self._encode(prompt)
        self._load()
        encoder = self._encoder
        assert encoder is not None
        pieces: queue.Queue[str | Generation | BaseException] = queue.Queue()
        stopped = threading.Event()
        sent = 0

        def show(ids: list[int]) -> None:
            nonlocal sent
            if stopped.is_set():
                raise _StoppedError
            text, _ = encoder.text([token for token in ids if token not in encoder.stop])
            if not text.endswith("\ufffd") and len(text) > sent:
                pieces.put(text[sent:])
                sent = len(text)

        def work() -> None:
            try:
                generation = self._answer([prompt], show)[0]
                if len(generation.text) > sent:
                    pieces.put(generation.text[sent:])
                pieces.put(generation)
            except BaseException as error:
                pieces.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            while True:
                piece = pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                if isinstance(piece, Generation):
                    return
        finally:
            stopped.set()

    # -- one batch --------------------------------------------------------------------------

    def _answer(
        self, batch: list[Prompt], show: Callable[[list[int]], None] | None = None
    ) -> list[Generation]:
        """Every prompt's generation, after the ladder."""
        self._load()
        answers = {g.id: g for g in self._attempt(batch, 0, show)}
        assert self._loaded is not None
        again = [p for p in batch if answers[p.id].error in ("bad_logits", "empty_output")]
        if again and self._loaded.precision == "fp16":
            self._reload()
            answers |= {g.id: g for g in self._attempt(again, 0, None)}
            again = [p for p in again if answers[p.id].error in ("bad_logits", "empty_output")]
        again = [p for p in again if answers[p.id].error == "empty_output"]
        if again and again[0].contract.kind == "text":
            for generation in self._attempt(again, _FALLBACK_TOKENS, None):
                step = f"min_new_tokens:{_FALLBACK_TOKENS}"
                noted = {"degraded": (*generation.degraded, step)}
                answers[generation.id] = generation.model_copy(update=noted)
        return [answers[prompt.id] for prompt in batch]

    def _reload(self) -> None:
        """fp16 overflowed: the same weights in bf16 (fp32 where the device has none)."""
        assert self._loaded is not None
        device = self._loaded.device
        self._loaded = None
        precision = pick_precision("auto", device)
        self._fallback = f"precision:fp16->{precision}"
        self._loaded = self._load_as(precision, device)

    def _attempt(
        self, batch: list[Prompt], at_least: int, show: Callable[[list[int]], None] | None
    ) -> list[Generation]:
        """Generate; a batch that fails is halved until the prompt at fault stands alone."""
        import torch

        code = "engine"
        try:
            return self._run(batch, at_least, show)
        except torch.OutOfMemoryError:
            code = "oom"
        except (RuntimeError, ValueError, IndexError) as error:
            if _device_lost(error):
                raise ModelUnavailableError(
                    "The device was lost.", "Check it with `medgemma doctor`, then run again."
                ) from None
            # Shown with --debug alone: the message may quote what was being worked on.
            _LOG.debug("generation failed", exc_info=True)
        # Outside the except block, or the traceback would keep the batch's memory alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            return [Generation(id=batch[0].id, finish_reason="error", error=code)]
        half = len(batch) // 2
        halves = (batch[:half], batch[half:])
        note = f"batch_halved:{code}"
        return [
            g.model_copy(update={"degraded": (*g.degraded, note)})
            for part in halves
            for g in self._attempt(part, at_least, show)
        ]

    def _run(
        self, batch: list[Prompt], at_least: int, show: Callable[[list[int]], None] | None
    ) -> list[Generation]:
        loaded = self._load()
        assert self._encoder is not None
        runner = Batch(loaded, self._encoder, batch, at_least)
        wanted = self._options.grammar and batch[0].contract.kind == "json"
        if wanted and self._compiler is None:
            self._step("preparing the output grammar", 0, 0)
            width = loaded.model.get_output_embeddings().weight.shape[0]
            control = self._encoder.control, self._encoder.control_text
            self._compiler = Compiler(loaded.tokenizer, width, runner.stop, control)
        answers = runner.run(self._compiler if wanted else None, self._tokens, show)
        if self._fallback is None:
            return answers
        note = self._fallback
        return [g.model_copy(update={"degraded": (note, *g.degraded)}) for g in answers]


class _StoppedError(Exception):
    """Nobody reads the stream any more."""


def _kind(prompt: Prompt) -> tuple[Any, ...]:
    """Prompts of one kind may share a batch."""
    limits = prompt.limits
    return (prompt.contract.kind, len(prompt.images), *limits.model_dump().values())


def _device_lost(error: Exception) -> bool:
    text = str(error)
    return any(word in text for word in ("device-side assert", "CUDA error", "device lost"))
