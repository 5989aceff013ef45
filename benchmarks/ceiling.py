"""How fast the device could be at best, by arithmetic, and the share of it that was reached.

Decoding at a small batch is bound by memory: every pass reads all weights of the text model once
(the output layer among them; of the input embeddings only a row a line) and the keys and values of
every line. A prefill is bound by arithmetic. What the device can do of either is measured here, in
the same process, by the plainest means there are; the data sheet's number is shown beside it.

The ceiling is generous, so the shares are on the low side: activations, norms, masks, sampling,
padding and the launching of kernels count as nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# TB/s; the fuller name first. NVIDIA's data sheets of the H100 and the H200.
DATA_SHEETS = {"H200": 4.8, "H100 PCIe": 2.0, "H100 NVL": 3.9, "H100": 3.35}
WIDTHS = {"bf16": 2, "fp16": 2, "fp32": 4}
# Far larger than any cache; numbers of the square matrices that are multiplied.
_BYTES = {"cpu": 2**29, "cuda": 2**32}
_SIDE = {"cpu": 2048, "cuda": 8192}


class Peak(NamedTuple):
    """What the device did at best, in bytes and floating-point operations a second."""

    read: float
    copy: float
    flops: float
    data_sheet: float | None

    @property
    def bandwidth(self) -> float:
        """The better of reading and copying."""
        return max(self.read, self.copy)

    def or_better(self, other: "Peak") -> "Peak":
        """The best of two measurements: what slowed one down did not lower the ceiling."""
        return Peak(
            max(self.read, other.read),
            max(self.copy, other.copy),
            max(self.flops, other.flops),
            self.data_sheet,
        )


def peak(device: str, precision: str) -> Peak:
    """Measure: a sum over much memory, a copy of it, a product of two large square matrices."""
    import torch

    kind = "cuda" if device.startswith("cuda") else "cpu"
    types = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    read, copy = _bandwidth(_BYTES[kind], device)
    side = _SIDE[kind]
    left = torch.randn(side, side, device=device).to(types[precision])
    right = left.t().contiguous().t()  # as a linear layer has its weights
    flops = 2 * side**3 / _best(lambda: left @ right, device)
    return Peak(read, copy, flops, _data_sheet(device))


def _bandwidth(size: int, device: str) -> tuple[float, float]:
    """Bytes a second: read by a sum, and read and written by a copy."""
    import torch

    block = torch.ones(size // 4, dtype=torch.float32, device=device)
    other = torch.empty_like(block)
    read = _best(block.sum, device)
    copy = _best(lambda: other.copy_(block), device)
    return size / read, 2 * size / copy


def _best(work: Callable[[], Any], device: str, repeats: int = 8) -> float:
    """Seconds of the quickest of several runs; the first ones warm up."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def synchronise(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
    elif device.startswith("mps"):
        import torch

        torch.mps.synchronize()


def _data_sheet(device: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    import torch

    name = torch.cuda.get_device_name(device)
    return next((1e12 * rate for key, rate in DATA_SHEETS.items() if key in name), None)


@dataclass(frozen=True)
class Sizes:
    """The text model's sizes, as its config tells them."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    windows: tuple[int | None, ...]  # a layer each; None sees everything

    @classmethod
    def of(cls, folder: Path) -> "Sizes":
        """Read a checkpoint's config, what it leaves out filled in by transformers."""
        from transformers import AutoConfig

        text = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
        return cls(
            text.hidden_size,
            text.intermediate_size,
            text.num_attention_heads,
            text.num_key_value_heads,
            text.head_dim,
            text.vocab_size,
            tuple(
                text.sliding_window if kind == "sliding_attention" else None
                for kind in text.layer_types
            ),
        )

    @property
    def layers(self) -> int:
        """Weights of all layers' matrices."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return len(self.windows) * (attention + 3 * self.hidden * self.intermediate)

    @property
    def output(self) -> int:
        """Weights of the output layer."""
        return self.hidden * self.vocabulary

    def cached(self, length: float) -> float:
        """Numbers in keys and values of one line of so many tokens, in all layers."""
        slots = sum(length if window is None else min(length, window) for window in self.windows)
        return 2 * self.kv_heads * self.head_dim * slots

    def seen(self, first: int, last: int) -> float:
        """Pairs of query and key, over all layers, of the positions from `first` to `last`."""
        return sum(_pairs(last, window) - _pairs(first, window) for window in self.windows)

    def mean_cached(self, lengths: list[int], tokens: int) -> float:
        """Numbers in keys and values of a line, the mean over all lines and all passes."""
        # A pass sees the prompt, what was written before, and the token that it is shown.
        total = sum(self.cached(n + step) for n in lengths for step in range(1, tokens))
        return total / (len(lengths) * max(1, tokens - 1))


def _pairs(length: int, window: int | None) -> int:
    """Pairs of query and key, each query seeing itself and what comes before in its window."""
    full = length if window is None else min(length, window)
    return full * (full + 1) // 2 + (length - full) * (window or 0)


def decoding(
    sizes: Sizes, width: int, best: Peak, lengths: list[int], t: "Measured"
) -> dict[str, Any]:
    """The ceiling of the decoding passes at the lines that they had, and the share reached."""
    rows = t.written / t.passes
    weights = width * (sizes.layers + sizes.output)
    cache = width * sizes.mean_cached(lengths, t.tokens)
    memory = (weights + rows * cache) / best.bandwidth
    # Two operations a weight and line; four a pair of query and key and number of a head.
    pairs = sizes.mean_cached(lengths, t.tokens) / (2 * sizes.kv_heads * sizes.head_dim)
    work = rows * (2 * (sizes.layers + sizes.output) + 4 * sizes.heads * sizes.head_dim * pairs)
    ideal, taken = max(memory, work / best.flops), t.decode / t.passes
    return {
        "lines_a_pass": rows,
        "weight_bytes_a_pass": weights,
        "cache_bytes_a_pass": rows * cache,
        "flops_a_pass": work,
        "ms_a_pass": 1000 * taken,
        "ideal_ms_a_pass_memory": 1000 * memory,
        "ideal_ms_a_pass": 1000 * ideal,
        "tokens_s": rows / taken,
        "ceiling_tokens_s": rows / ideal,
        "share_of_memory_ceiling": memory / taken,
        "share_of_ceiling": ideal / taken,
        "bound_by": "memory" if memory >= ideal else "arithmetic",
    }


def prefill(sizes: Sizes, best: Peak, lengths: list[int], t: "Measured") -> dict[str, Any]:
    """The operations of the prompts that were really computed, against the measured peak."""
    # Tokens not computed are those of a shared beginning: the same of every line.
    spared = max(0.0, sum(lengths) * t.rounds - t.prompt_tokens) / (len(lengths) * t.rounds)
    pairs = t.rounds * sum(sizes.seen(round(spared), n) for n in lengths)
    lines = len(lengths) * t.rounds
    work = 2 * sizes.layers * t.prompt_tokens + 4 * sizes.heads * sizes.head_dim * pairs
    work += 2 * sizes.output * lines  # the last position's logits
    return {
        "tokens": t.prompt_tokens,
        "tokens_not_computed": sum(lengths) * t.rounds - t.prompt_tokens,
        "tokens_s": t.prompt_tokens / t.prefill,
        "flops": work,
        "flops_s": work / t.prefill,
        "share_of_ceiling": work / t.prefill / best.flops,
    }


@dataclass(frozen=True)
class Measured:
    """What an engine's `Timing` gained over all timed passes of an arm.

    Attributes:
        rounds: how often the documents were answered.
        tokens: new tokens of an answer.
        written: tokens that decoding passes wrote.
        wall: seconds of it all.
    """

    rounds: int
    tokens: int
    prompt_tokens: int
    written: int
    images: int
    passes: int
    prefill: float
    decode: float
    vision: float
    idle: float
    wall: float

    @property
    def shares(self) -> dict[str, float]:
        """Of the time on the clock; `other` is what the engine did not account for."""
        parts = {name: getattr(self, name) for name in ("prefill", "decode", "vision", "idle")}
        parts["other"] = self.wall - sum(parts.values())
        return {name: seconds / self.wall for name, seconds in parts.items()}


def reached(
    sizes: Sizes, width: int, best: Peak, lengths: list[int], measured: Measured
) -> dict[str, Any]:
    """Everything about the ceiling of one arm that its measurements allow."""
    found: dict[str, Any] = {"shares": measured.shares}
    if measured.passes and measured.decode:
        found["decode"] = decoding(sizes, width, best, lengths, measured)
    if measured.prefill:
        found["prefill"] = prefill(sizes, best, lengths, measured)
    return found
