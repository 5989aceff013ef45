"""How much memory a pass and its cache take, from config.json alone. No torch, no weights.

The numbers are bytes; `width` is the bytes of one number of the model's activations (2 for bf16
and fp16, 4 for fp32). Quantised checkpoints compute, and cache, in bf16: their width is 2.
"""

from typing import Any, NamedTuple

# Slots that a sliding layer's ring buffer holds beyond the window.
SPARE = 64

# Lines at which a pass begins to cost as much more as it writes more, by kind of device.
LINES = {"cpu": 32, "mps": 32, "cuda": 256}
# Tokens of prompts in one pass. On a CPU, what still fits its caches is fastest.
SHOWN = {"cpu": 4096, "mps": 4096, "cuda": 16384}

# What config.json leaves out has these values: the class defaults of transformers 5.23,
# models/gemma3/configuration_gemma3.py (google's own files name only what differs from them).
_TEXT = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}
# models/siglip/configuration_siglip.py, SiglipVisionConfig.
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
}
_IMAGE_TOKENS = 256  # Gemma3Config.mm_tokens_per_image

_FP32 = 4
_LEFT_OVER = 0.1  # share of the free memory kept: the allocator's fragments, a neighbour


class Vision(NamedTuple):
    """The SigLIP tower. `patches` go in for an image, `image_tokens` come out to the text model."""

    image_tokens: int
    patches: int
    layers: int
    heads: int
    hidden: int
    intermediate: int


class Shape(NamedTuple):
    """The sizes of a Gemma 3.

    Attributes:
        full_layers: layers whose cache holds every token.
        sliding_layers: layers whose cache holds the last `window` tokens.
        vision: the tower, or None for a model that reads text only.
    """

    full_layers: int
    sliding_layers: int
    window: int
    kv_heads: int
    heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocabulary: int
    vision: Vision | None = None


def shape(config: dict[str, Any]) -> Shape:
    """The sizes that a checkpoint's config.json (`models.config`) tells, defaults filled in."""
    text = _filled(config.get("text_config", config), _TEXT)
    kinds = text.get("layer_types") or _layer_types(text)
    full = sum(kind == "full_attention" for kind in kinds)
    return Shape(
        full_layers=full,
        sliding_layers=len(kinds) - full,
        window=text["sliding_window"],
        kv_heads=text["num_key_value_heads"],
        heads=text["num_attention_heads"],
        head_dim=text["head_dim"],
        hidden=text["hidden_size"],
        intermediate=text["intermediate_size"],
        vocabulary=text["vocab_size"],
        vision=_vision(config),
    )


def _filled(given: dict[str, Any], defaults: dict[str, int]) -> dict[str, Any]:
    # null in the file means the default, too.
    return {**defaults, **{name: value for name, value in given.items() if value is not None}}


def _layer_types(text: dict[str, Any]) -> list[str]:
    """Every sixth layer is full, as `Gemma3TextConfig.__post_init__` has it."""
    every = text["sliding_window_pattern"]
    layers = range(1, text["num_hidden_layers"] + 1)
    return ["sliding_attention" if layer % every else "full_attention" for layer in layers]


def _vision(config: dict[str, Any]) -> Vision | None:
    if config.get("vision_config") is None:
        return None
    tower = _filled(config["vision_config"], _VISION)
    return Vision(
        image_tokens=config.get("mm_tokens_per_image") or _IMAGE_TOKENS,
        patches=(tower["image_size"] // tower["patch_size"]) ** 2,
        layers=tower["num_hidden_layers"],
        heads=tower["num_attention_heads"],
        hidden=tower["hidden_size"],
        intermediate=tower["intermediate_size"],
    )


def kv_bytes(shape: Shape, tokens: int, width: int) -> int:
    """Keys and values of one line of `tokens` tokens, prompt and answer together.

    A sliding layer never holds more than its window and `SPARE` slots.
    """
    slots = shape.full_layers * tokens
    slots += shape.sliding_layers * min(tokens, shape.window + SPARE)
    return 2 * shape.kv_heads * shape.head_dim * slots * width


def pass_bytes(shape: Shape, tokens: int, rows: int, width: int) -> int:
    """Working memory of one forward pass, at most: its cache and the weights not among it.

    Args:
        tokens: tokens of all lines together that go in.
        rows: lines whose last position gets logits.

    An upper bound, since it adds up what is not all alive at once. Per token: the residual and
    the layer's output, and three fp32 copies in Gemma3RMSNorm (the input, its square or the
    normed, the scaled); queries three times (as made, rotated, the attention's output), keys
    and values twice; the MLP's gate, up and their product.
    """
    residual = shape.hidden * (2 * width + 3 * _FP32)
    attention = (3 * shape.heads + 2 * 2 * shape.kv_heads) * shape.head_dim * width
    return tokens * (residual + attention + 3 * shape.intermediate * width) + rows * _logits(shape)


def _logits(shape: Shape) -> int:
    """One line's logits: as made, in fp32, masked by a grammar, and as probabilities."""
    return 4 * shape.vocabulary * _FP32


def rows_that_fit(
    shape: Shape, tokens: int, free: float, width: int, *, slice_tokens: int, most: int
) -> int:
    """The most lines that fit in the memory that the weights leave free; 0 if none does.

    Args:
        tokens: of one line, prompt and answer together.
        free: bytes free once the weights are there; a tenth of it is left over.
        slice_tokens: tokens of all lines together that one slice of the prefill takes.
        most: never more than that.
    """
    # Attention with a mask needs the keys and values once for every query head: one layer's.
    repeated = 2 * shape.heads * shape.head_dim * tokens * width
    row = kv_bytes(shape, tokens, width) + repeated + _logits(shape)
    mask = 2 * slice_tokens * tokens * width  # one of full layers, one of sliding ones
    room = free * (1 - _LEFT_OVER) - pass_bytes(shape, slice_tokens, 0, width) - mask
    return max(0, min(most, int(room // row)))
