"""One batch: prompts of one kind in, one `Generation` each out."""

import time
from collections.abc import Callable
from typing import Any

from medgemma_cli.engines.decode import Decoding
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.grammar import Compiler
from medgemma_cli.engines.loading import Loaded
from medgemma_cli.engines.plan import Plan
from medgemma_cli.engines.writing import Answer, JsonAnswer
from medgemma_cli.records import Generation, Image, Prompt, Usage


class Batch:
    """Prompts that share limits and kind of contract, on one loaded model.

    Args:
        at_least: new tokens to ask for at least, of free text (0: what the limits say).

    Attributes:
        stop: the token ids that end an answer.
    """

    def __init__(
        self, loaded: Loaded, encoder: Encoder, prompts: list[Prompt], at_least: int
    ) -> None:
        self._loaded = loaded
        self._encoder = encoder
        self._prompts = prompts
        self._limits = prompts[0].limits
        self._at_least = min(
            max(self._limits.min_new_tokens, at_least), self._limits.max_new_tokens
        )
        self._encoded = [encoder.encode(prompt) for prompt in prompts]
        own = loaded.model.generation_config.eos_token_id
        ids = [own] if isinstance(own, int) else list(own or [])
        self.stop: list[int] = list(dict.fromkeys(ids + encoder.stop))

    def run(
        self,
        compiler: Compiler | None,
        on_tokens: Callable[[int], None],
        show: Callable[[list[int]], None] | None,
    ) -> list[Generation]:
        """Generate.

        Args:
            compiler: decodes JSON contracts inside their grammar; without, they are free text.
            on_tokens: told of each step's new tokens.
            show: given the first answer's ids so far, before each step.

        Raises:
            ValueError: a contract cannot be decoded.
            torch.OutOfMemoryError, RuntimeError: whatever the model raises.
        """
        import torch

        started = time.perf_counter()
        answers = [self._answer(prompt, compiler) for prompt in self._prompts]

        def on_step(count: int) -> None:
            on_tokens(count)
            if show is not None:
                show(answers[0].ids)

        if self._limits.temperature > 0:
            torch.manual_seed(self._limits.seed)
        with torch.inference_mode():
            Decoding(
                self._loaded.model,
                self._collate(answers),
                answers,
                compiler,
                self._limits,
                self.stop,
                at_least=self._at_least,
            ).run(on_step)
        seconds = (time.perf_counter() - started) / len(self._prompts)
        return [self._generation(i, answer, seconds) for i, answer in enumerate(answers)]

    def _answer(self, prompt: Prompt, compiler: Compiler | None) -> Answer:
        contract = prompt.contract
        if compiler is None or contract.kind == "text":
            return Answer(prompt.limits, self.stop)
        matcher = compiler.matcher(contract.json_schema, prompt.document)
        plan = Plan(contract.json_schema, compiler)
        return JsonAnswer(prompt.limits, self.stop, compiler, matcher, plan)

    def _collate(self, answers: list[Answer]) -> dict[str, Any]:
        """Left-padded ids, mask and, with a processor, token types and pixels, on the device."""
        import torch

        device = self._loaded.model.device
        begun = [e.ids + a.ids for e, a in zip(self._encoded, answers, strict=True)]
        for answer in answers:
            answer.fed = len(answer.ids)
        longest = max(map(len, begun))
        pads = [longest - len(ids) for ids in begun]
        ids = torch.tensor(
            [[self._pad()] * pad + row for pad, row in zip(pads, begun, strict=True)]
        )
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if self._loaded.processor is not None:
            inputs["token_type_ids"] = (ids == self._encoder.image_id).long().to(device)
            if images := [image for e in self._encoded for image in e.images]:
                inputs["pixel_values"] = self._pixels(images)
        return inputs

    def _pixels(self, images: list[Image]) -> Any:
        """Shape (images, 3, 896, 896) for MedGemma, in the model's own dtype."""
        from PIL import Image as Pillow

        assert self._loaded.processor is not None
        pictures = [Pillow.frombytes("RGB", (i.width, i.height), i.rgb) for i in images]
        made = self._loaded.processor.image_processor(images=pictures, return_tensors="pt")
        return made["pixel_values"].to(self._loaded.model.device, self._loaded.model.dtype)

    def _pad(self) -> int:
        pad = self._loaded.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)

    def _generation(self, index: int, answer: Answer, seconds: float) -> Generation:
        ended = next((i for i, token in enumerate(answer.ids) if token in self.stop), None)
        written = answer.ids[:ended]
        text, thinking = self._encoder.text(written)
        error = None
        if answer.bad:
            error = "bad_logits"
        elif answer.broken:
            error = "engine"
        elif answer.refused:
            error = "budget"
        elif thinking:
            error = "unclosed_thought"
        elif not text.strip():
            error = "empty_output"
        prompt = self._prompts[index]
        complete = ended is not None or answer.complete
        return Generation(
            id=prompt.id,
            text=text,
            finish_reason="error" if error else "stop" if complete else "length",
            usage=Usage(
                prompt_tokens=len(self._encoded[index].ids),
                completion_tokens=len(written),
                images=len(prompt.images),
            ),
            degraded=(
                *(("shortened",) if answer.shortened else ()),
                *(f"ended_at_repeat:{place}" for place in answer.repeated),
            ),
            error=error,
            seconds=seconds,
            choices=answer.scores,
            tokens=self._measured(answer, written, text),
        )

    def _measured(self, answer: Answer, ids: list[int], text: str) -> tuple[tuple[int, float], ...]:
        """The end in the text, in characters, and the log-probability of each chosen token."""
        ends = self._encoder.ends(ids)
        if not ends or ends[-1] != len(text):
            return ()  # thoughts were taken out: the places are not the text's
        pairs = zip(ends, answer.logs, strict=False)
        return tuple((end, log) for end, log in pairs if log is not None)
