"""One call of `generate`: prompts of one kind in, one `Generation` each out."""

import time
from collections.abc import Callable
from typing import Any

from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.grammar import Compiler, Guard
from medgemma_cli.engines.loading import Loaded
from medgemma_cli.records import Generation, Image, Prompt, Usage


class Batch:
    """Prompts that share limits and kind of contract, on one loaded model.

    Args:
        at_least: new tokens to ask for at least, of free text (0: what the limits say).

    Attributes:
        stop: the token ids that end an answer.
        constrained: whether the answers are decoded inside a grammar.
    """

    def __init__(
        self, loaded: Loaded, encoder: Encoder, prompts: list[Prompt], at_least: int
    ) -> None:
        self._loaded = loaded
        self._encoder = encoder
        self._prompts = prompts
        self._limits = prompts[0].limits
        self._at_least = at_least
        self._encoded = [encoder.encode(prompt) for prompt in prompts]
        own = loaded.model.generation_config.eos_token_id
        ids = [own] if isinstance(own, int) else list(own or [])
        self.stop: list[int] = list(dict.fromkeys(ids + encoder.stop))
        self.constrained = prompts[0].contract.kind == "json"

    def run(
        self,
        compiler: Compiler | None,
        on_tokens: Callable[[int], None],
        show: Callable[[Any], None] | None,
    ) -> list[Generation]:
        """Generate.

        Args:
            compiler: needed where `constrained`.
            on_tokens: told of each step's new tokens.
            show: given the ids so far, of shape (prompts, length), after each step.

        Raises:
            torch.OutOfMemoryError, RuntimeError: whatever the model raises.
        """
        import torch

        started = time.perf_counter()
        inputs = self._collate()
        length = inputs["input_ids"].shape[1]

        def on_step(ids: Any, live: int) -> None:
            on_tokens(live)
            if show is not None and ids.shape[1] > length:
                show(ids)

        schemas = [
            p.contract.json_schema if p.contract.kind == "json" else None for p in self._prompts
        ]
        budget = self._limits.max_new_tokens
        guard = Guard(compiler, schemas, length, budget, self.stop, on_step)
        if self._limits.temperature > 0:
            torch.manual_seed(self._limits.seed)
        with torch.inference_mode():
            output = self._loaded.model.generate(
                **inputs,
                generation_config=self._generation_config(),
                logits_processor=[*self._penalty(length), guard],
            )
        seconds = (time.perf_counter() - started) / len(self._prompts)
        rows = output[:, length:].tolist()
        return [self._generation(i, row, guard, seconds) for i, row in enumerate(rows)]

    def _collate(self) -> dict[str, Any]:
        """Left-padded ids, mask and, with a processor, token types and pixels, on the device."""
        import torch

        device = self._loaded.model.device
        longest = max(len(e.ids) for e in self._encoded)
        pads = [longest - len(e.ids) for e in self._encoded]
        rows = [[self._pad()] * pad + e.ids for pad, e in zip(pads, self._encoded, strict=True)]
        ids = torch.tensor(rows)
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

    def _penalty(self, length: int) -> list[Any]:
        """The checkpoint's own repetition penalty, on what was written alone.

        Counting the prompt too, as transformers does by default, would punish quoting it.
        """
        from transformers import RepetitionPenaltyLogitsProcessor

        penalty = self._loaded.model.generation_config.repetition_penalty or 1.0
        if penalty == 1.0:
            return []
        return [RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=length)]

    def _generation_config(self) -> Any:
        from transformers import GenerationConfig

        limits = self._limits
        sampling: dict[str, Any] = {"do_sample": False}
        if limits.temperature > 0:
            sampling = {
                "do_sample": True,
                "temperature": limits.temperature,
                "top_p": limits.top_p,
                "top_k": 0,
            }
        # A grammar decides itself when an answer may end.
        shortest = 0 if self.constrained else max(limits.min_new_tokens, self._at_least)
        return GenerationConfig(
            max_new_tokens=limits.max_new_tokens,
            min_new_tokens=min(shortest, limits.max_new_tokens) or None,
            eos_token_id=self.stop,
            pad_token_id=self._pad(),
            bos_token_id=self._loaded.tokenizer.bos_token_id,
            use_cache=True,
            repetition_penalty=1.0,
            **sampling,
        )

    def _generation(self, index: int, row: list[int], guard: Guard, seconds: float) -> Generation:
        ended = next((i for i, token in enumerate(row) if token in self.stop), None)
        written = row[:ended] if ended is not None else row
        text, thinking = self._encoder.text(written)
        error = None
        if guard.bad[index]:
            error = "bad_logits"
        elif thinking:
            error = "unclosed_thought"
        elif not text.strip():
            error = "empty_output"
        prompt = self._prompts[index]
        return Generation(
            id=prompt.id,
            text=text,
            finish_reason="error" if error else "stop" if ended is not None else "length",
            usage=Usage(
                prompt_tokens=len(self._encoded[index].ids),
                completion_tokens=len(written),
                images=len(prompt.images),
            ),
            degraded=("shortened",) if guard.shortened[index] else (),
            error=error,
            seconds=seconds,
        )
