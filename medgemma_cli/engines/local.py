"""transformers on this machine: tokenizer first, weights when the first prompt is there.

The host makes prompts ready and the device decodes them, each in a thread of its own. An answer
that is empty, padding only, or came of logits that are not finite climbs a ladder, each step
noted in `degraded`: fp16 → the model loaded again in bf16 → once more with 48 new tokens at
least → a failed generation with the reason.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from medgemma_cli import models
from medgemma_cli.adapters import Adapter
from medgemma_cli.engines import attention, outcome, vision
from medgemma_cli.engines.base import Audience, SoFar, always, unwatched
from medgemma_cli.engines.decode import Decoder
from medgemma_cli.engines.device import Device, Done, Failed, Shown
from medgemma_cli.engines.encoding import Encoded, Encoder
from medgemma_cli.engines.fitting import fit
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.loading import (
    Loaded,
    free_memory,
    load_model,
    load_tokenizer,
    pick_device,
    pick_precision,
)
from medgemma_cli.engines.plan import Plan
from medgemma_cli.engines.schedule import Capacity
from medgemma_cli.engines.timing import Timing
from medgemma_cli.engines.work import Line, Work
from medgemma_cli.engines.writing import Answer, JsonAnswer
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.records import AdapterInfo, Generation, ModelInfo, Precision, Prompt

_LOG = logging.getLogger(__name__)
_FALLBACK_TOKENS = 48
# What is written inside a contract; counted up when that changes, since it is in every key.
_GRAMMAR = 3


@dataclass(frozen=True)
class LocalOptions:
    """How to load, how to batch, and whether to decode inside grammars.

    Attributes:
        batch_size: lines at once; None: what the device does best, as far as they fit.
        batch_tokens: lines times the longest of them, prompt and answer; None: what fits.
        deterministic: one document, and one picture, at a time.
        adapter: a LoRA adapter to put on the weights.
    """

    precision: Precision = "auto"
    device: str = "auto"
    double_quant: bool = True
    batch_size: int | None = None
    batch_tokens: int | None = None
    deterministic: bool = False
    grammar: bool = True
    adapter: Adapter | None = None


# Behind the last prompt: None says that there is none yet.
_END: Any = object()


def _quiet(text: str, done: int, total: int) -> None:
    return


class _Only:
    """Somebody who waits for the only answer, and watches it."""

    def wanted(self, name: str) -> bool:
        """Always."""
        return True

    def watched(self, name: str) -> bool:
        """Always."""
        return True


class LocalEngine:
    """One checkpoint on one device.

    Args:
        step: told of slow steps, with how far they are.
        tokens: told of every pass's new tokens.

    Attributes:
        timing: what the device did with its time so far.
    """

    def __init__(
        self,
        checkpoint: models.Checkpoint,
        options: LocalOptions | None = None,
        *,
        step: models.Step = _quiet,
        tokens: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.timing = Timing()
        self._checkpoint = checkpoint
        self._options = options or LocalOptions()
        self._step = step
        self._tokens = tokens
        self._encoder: Encoder | None = None
        self._config: dict[str, Any] | None = None
        self._loaded: Loaded | None = None
        self._decoder: Decoder | None = None
        self._capacity: Capacity | None = None
        self._compiler: Compiler | None = None
        self._plans: dict[str, Plan] = {}
        self._stop: list[int] = []
        self._precision: Precision | None = None
        self._fallback: str | None = None
        # The model is loaded by the host, and again by the device if fp16 overflows.
        self._loading = threading.RLock()

    @property
    def identity(self) -> dict[str, Any]:
        """Fingerprint of weights, tokenizer and adapter, and the precision asked for."""
        options = self._options
        quantised = options.precision in ("nf4", "fp4")
        identity = {
            "engine": "local",
            "weights": self._checkpoint.fingerprint,
            "adapter": options.adapter.hash if options.adapter else None,
            "precision": options.precision,
            "double_quant": options.double_quant if quantised else None,
            "grammar": options.grammar and _GRAMMAR,
        }
        # Only where it is asked for: an answer that shared a batch is not what was asked for.
        return identity | ({"deterministic": True} if options.deterministic else {})

    @property
    def info(self) -> ModelInfo:
        """The resolved checkpoint; precision as loaded, after any fallback."""
        adapter = self._options.adapter
        return ModelInfo(
            id=self._checkpoint.id,
            revision=self._checkpoint.revision,
            path=str(self._checkpoint.path) if self._checkpoint.path else None,
            precision=self._precision,
            asked=self._options.precision,
            engine="local",
            adapter=AdapterInfo(name=adapter.name, hash=adapter.hash) if adapter else None,
            deterministic=self._options.deterministic,
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

    def encoder(self) -> Encoder:
        """The checkpoint's tokenizer and processor, loaded at the first call."""
        if self._encoder is None:
            multimodal = self.reads_images
            assert self._checkpoint.path is not None
            self._step("loading the tokenizer", 0, 0)
            self._encoder = Encoder(*load_tokenizer(self._checkpoint.path, multimodal))
        return self._encoder

    def _encode(self, prompt: Prompt) -> Encoded:
        return self.encoder().encode(prompt)

    def count(self, prompt: Prompt) -> int:
        """Exact: the prompt's token ids, an image's among them."""
        return len(self._encode(prompt).ids)

    # -- the model ----------------------------------------------------------------------------

    def loaded(self) -> Loaded:
        """The model, loaded at the first call.

        Raises:
            ModelUnavailableError: 69, it does not fit or cannot be loaded.
        """
        with self._loading:
            if self._loaded is None:
                device = pick_device(self._options.device)
                precision = pick_precision(self._options.precision, device)
                self._loaded = self._load_as(precision, device)
            return self._loaded

    def _load_as(self, precision: Precision, device: str) -> Loaded:
        encoder, folder = self.encoder(), self._checkpoint.path
        assert folder is not None
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
            adapter=self._options.adapter,
        )
        attention.use(model)
        self._precision = precision
        self._step("model loaded", 1, 1)
        return Loaded(model, encoder.tokenizer, encoder.processor, device, precision)

    def decoder(self) -> Decoder:
        """The decoding loop on the loaded model; how much it takes at once is found here, too."""
        if self._decoder is None:
            loaded, options = self.loaded(), self._options
            self._decoder = Decoder(
                loaded.model,
                self.encoder().image_id,
                self.stop,
                self.timing,
                precision=loaded.precision,
                alone=options.deterministic,
                on_tokens=self._tokens,
            )
            self._capacity = fit(self._decoder, loaded, self._settings(), options)
        self._decoder.compiler = self._compiler
        return self._decoder

    @property
    def stop(self) -> list[int]:
        """The ids that end an answer: the checkpoint's own, and the end of a turn."""
        if not self._stop:
            own = self.loaded().model.generation_config.eos_token_id
            ids = [own] if isinstance(own, int) else list(own or [])
            self._stop = list(dict.fromkeys(ids + self.encoder().stop))
        return self._stop

    def compiler(self) -> Compiler:
        """What makes grammars for the checkpoint's tokenizer, made at the first call."""
        if self._compiler is None:
            self._step("preparing the output grammar", 0, 0)
            encoder = self.encoder()
            width = self.loaded().model.get_output_embeddings().weight.shape[0]
            control = encoder.control, encoder.control_text
            self._compiler = Compiler(encoder.tokenizer, width, self.stop, control)
            if self._decoder is not None:
                self._decoder.compiler = self._compiler
        return self._compiler

    def _again(self) -> Decoder:
        """fp16 overflowed: the same weights in bf16 (fp32 where the device has none)."""
        with self._loading:
            device = self.loaded().device
            self._loaded = self._decoder = None
            precision = pick_precision("auto", device)
            self._fallback = f"precision:fp16->{precision}"
            self._loaded = self._load_as(precision, device)
            return self.decoder()

    # -- prompts in, generations out ----------------------------------------------------------

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """As they finish; lines of a batch end and begin one by one."""
        for event in self._run(iter(prompts), keep_going, begin):
            if isinstance(event, Generation):
                yield event

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """Text as it comes; closing the iterator stops it."""
        sent = 0
        for event in self._run(iter([prompt]), audience=_Only()):
            final = isinstance(event, Generation)
            text = event.text if isinstance(event, Generation) else self._shown(event)
            if len(text) > sent and (final or not text.endswith("\ufffd")):
                yield text[sent:]
                sent = len(text)
            if isinstance(event, Generation):
                yield event

    def live(
        self, prompts: Iterable[Prompt | None], audience: Audience
    ) -> Iterator[Generation | SoFar]:
        """As they finish, and what is watched as it comes."""
        for event in self._run(iter(prompts), audience=audience):
            if isinstance(event, Generation):
                yield event
            elif not (text := self._shown(event)).endswith("\ufffd"):
                yield SoFar(event.name, text)

    def _shown(self, event: Shown) -> str:
        text, _ = self.encoder().text([token for token in event.ids if token not in self.stop])
        return text

    def _run(
        self,
        prompts: Iterator[Prompt | None],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
        *,
        audience: Audience | None = None,
    ) -> Iterator[Generation | Shown]:
        """Make prompts ready while the device works; what it has done comes out between."""
        first = next((prompt for prompt in prompts if prompt is not None), None)
        if first is None:
            return
        self.encoder().encode(first)
        if self._decoder is None:
            begin(())  # if loading brings the process down, no document did
            self.decoder()
            begin([first.id])
        decoders = [self.decoder()]
        assert self._capacity is not None

        def load() -> Decoder:
            return decoders.pop() if decoders else self._again()

        asked = {"watched": audience.watched, "wanted": audience.wanted} if audience else {}
        device = Device(load, self._capacity, keep_going, begin, **asked)
        device.start()
        try:
            yield from self._feed(device, chain([first], prompts))
        finally:
            device.abort()

    def _feed(
        self, device: Device, prompts: Iterator[Prompt | None]
    ) -> Iterator[Generation | Shown]:
        more, under_way = True, 0
        while more or under_way:
            if more and not device.full():
                prompt = next(prompts, _END)
                if prompt is None or prompt is _END:
                    more = prompt is None
                    device.close()
                elif isinstance(prepared := self._prepare(prompt), Work):
                    under_way += 1
                    device.put(prepared)
                else:
                    yield prepared
            # With nothing to make ready, what is done is waited for.
            event = device.next(wait=bool(under_way) and (not more or device.full()))
            while event is not None:
                made = event if isinstance(event, Shown) else self._finish(device, event)
                under_way -= isinstance(made, Generation)
                if made is not None:
                    yield made
                event = device.next(wait=False)
            if device.ended:
                return

    # -- one prompt ---------------------------------------------------------------------------

    def _prepare(self, prompt: Prompt) -> Work | Generation:
        """What the device needs; or the answer, if nothing is left to be decoded."""
        encoder = self.encoder()
        try:
            pictures = tuple(
                (vision.digest(image), vision.pixels(encoder.processor, image))
                for image in prompt.images
            )
            work = Work(
                # Pixels as read are large, and not needed any more.
                prompt=prompt.model_copy(update={"images": ()}),
                encoded=encoder.encode(prompt),
                make=partial(self._answer, prompt),
                answer=self._answer(prompt),
                pictures=pictures,
                at_least=prompt.limits.min_new_tokens,
            )
        except (RuntimeError, ValueError, OSError):
            # Shown with --debug alone: the message may quote what was being worked on.
            _LOG.debug("a prompt could not be made ready", exc_info=True)
            return Generation(id=prompt.id, finish_reason="error", error="engine")
        if work.answer.done:
            return outcome.generation(Line(work), encoder, self.stop)
        return work

    def _answer(self, prompt: Prompt) -> Answer:
        contract = prompt.contract
        if not self._options.grammar or contract.kind == "text":
            return Answer(prompt.limits, self.stop)
        compiler = self.compiler()
        matcher = compiler.matcher(contract.json_schema, prompt.document, prompt.prior)
        schema = contract.json_schema
        if schema not in self._plans:
            self._plans[schema] = Plan(schema, compiler)
        return JsonAnswer(prompt.limits, self.stop, compiler, matcher, self._plans[schema])

    def _finish(self, device: Device, event: Done | Failed) -> Generation | None:
        """The answer; None where it is asked for once more."""
        if isinstance(event, Failed):
            name, notes = event.work.prompt.id, event.work.notes
            return Generation(id=name, finish_reason="error", error=event.code, degraded=notes)
        work = event.line.work
        made = outcome.generation(event.line, self.encoder(), self.stop)
        if self._fallback and event.precision != "fp16":
            made = made.model_copy(update={"degraded": (self._fallback, *made.degraded)})
        if made.error not in ("bad_logits", "empty_output"):
            return made
        if event.precision == "fp16":
            device.put(work.again(tries=work.tries + 1), first=True)
            if self._fallback is None:
                device.reload()
            return None
        least = min(_FALLBACK_TOKENS, work.prompt.limits.max_new_tokens)
        text = work.prompt.contract.kind == "text"
        if made.error == "bad_logits" or not text or work.at_least >= least:
            return made
        note = f"min_new_tokens:{_FALLBACK_TOKENS}"
        device.put(work.again(note, at_least=least, tries=work.tries + 1), first=True)
        return None
