"""The arithmetic of memory, against the real classes, a real cache and a real pass."""

import json
from pathlib import Path
from typing import Any

import pytest

from medgemma_cli import models
from medgemma_cli.engines import sizing
from medgemma_cli.engines.sizing import Shape, Vision, kv_bytes, pass_bytes, rows_that_fit

# What google's gemma-3-4b-it/config.json says of the sizes: the rest are class defaults.
GOOGLE_4B: dict[str, Any] = {
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
}
MEDGEMMA = sizing.shape(GOOGLE_4B)


def of_config(config: Any) -> Shape:
    """The sizes as transformers itself understands a text configuration."""
    full = config.layer_types.count("full_attention")
    return Shape(
        full_layers=full,
        sliding_layers=len(config.layer_types) - full,
        window=config.sliding_window,
        kv_heads=config.num_key_value_heads,
        heads=config.num_attention_heads,
        head_dim=config.head_dim,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
    )


def test_the_4b_of_google() -> None:
    """Five full layers of 34, and an eye of 4,096 patches that become 256 tokens."""
    assert MEDGEMMA._replace(vision=None) == Shape(5, 29, 1024, 4, 8, 256, 2560, 10240, 262_208)
    assert MEDGEMMA.vision == Vision(256, 4096, 27, 16, 1152, 4304)


def test_defaults_are_those_of_transformers() -> None:
    """An empty config.json, and google's, mean to us what they mean to transformers."""
    from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

    assert sizing.shape({}) == of_config(Gemma3TextConfig())
    assert MEDGEMMA._replace(vision=None) == of_config(Gemma3Config(**GOOGLE_4B).text_config)
    eye = sizing.shape({"vision_config": {}}).vision
    assert eye is not None
    tower, whole = SiglipVisionConfig(), Gemma3Config()
    assert eye.patches == (tower.image_size // tower.patch_size) ** 2
    assert eye.image_tokens == whole.mm_tokens_per_image
    assert eye[2:] == (
        tower.num_hidden_layers,
        tower.num_attention_heads,
        tower.hidden_size,
        tower.intermediate_size,
    )


def test_a_saved_checkpoint(checkpoint: Path) -> None:
    """The tiny checkpoint's config.json, its text nested and its layer types listed."""
    from transformers import AutoConfig

    found = sizing.shape(models.config(checkpoint))
    real = AutoConfig.from_pretrained(checkpoint)
    assert found._replace(vision=None) == of_config(real.text_config)
    assert found.vision is not None and found.vision.image_tokens == real.mm_tokens_per_image


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ({"num_hidden_layers": 12}, 2),
        ({"num_hidden_layers": 12, "sliding_window_pattern": 4}, 3),
        ({"num_hidden_layers": 12, "sliding_window_pattern": None}, 2),
        ({"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}, 3),
        ({"num_hidden_layers": 3}, 0),
    ],
)
def test_which_layers_are_full(text: dict[str, Any], full: int) -> None:
    """A list of layer types is taken at its word, else a pattern, else every sixth."""
    found = sizing.shape(text)
    assert found.full_layers == full
    assert found.full_layers + found.sliding_layers == text["num_hidden_layers"]


def test_cache_of_the_4b() -> None:
    """136 KiB a token up to the window and its spare slots, 20 KiB a token beyond."""
    a_token = 2 * 4 * 256 * 2
    assert kv_bytes(MEDGEMMA, 1000, 2) == 34 * 1000 * a_token
    held = 1024 + sizing.SPARE
    assert kv_bytes(MEDGEMMA, held, 2) == 34 * held * a_token
    assert kv_bytes(MEDGEMMA, 4096, 2) == (5 * 4096 + 29 * held) * a_token
    assert kv_bytes(MEDGEMMA, 4096, 4) == 2 * kv_bytes(MEDGEMMA, 4096, 2)


@pytest.mark.parametrize("tokens", [1, 7, 40, 60])
def test_a_real_cache_below_the_window(checkpoint: Path, tokens: int) -> None:
    """As many bytes as a DynamicCache holds, for one line and for three."""
    model = load(checkpoint)
    config = models.config(checkpoint)
    for rows in (1, 3):
        cache = forward(model, rows, tokens).past_key_values
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        assert held == rows * kv_bytes(sizing.shape(config), tokens, 4)


def load(folder: Path) -> Any:
    """The tiny model in fp32."""
    import torch
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def forward(model: Any, rows: int, tokens: int) -> Any:
    """A pass over lines of ordinary tokens that ends in the last position's logits."""
    import torch

    ids = torch.arange(500, 500 + rows * tokens).reshape(rows, tokens)
    with torch.no_grad():
        return model(input_ids=ids, use_cache=True, logits_to_keep=1)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 60), (4, 60), (2, 400)])
def test_a_real_pass_takes_no_more(
    checkpoint: Path, tmp_path: Path, rows: int, tokens: int
) -> None:
    """What the allocator really hands out is below the estimate, and above a fifth of it."""
    model, shape = load(checkpoint), sizing.shape(models.config(checkpoint))
    forward(model, rows, tokens)  # the first pass makes tables that stay
    peak = allocated(lambda: forward(model, rows, tokens), tmp_path / "trace.json")
    cache = rows * tokens * (kv_bytes(shape, 64, 4) // 64)
    estimate = pass_bytes(shape, rows * tokens, rows, 4)
    attention = rows * (2 * shape.heads * shape.head_dim * tokens * 4 + 2 * tokens * tokens * 4)
    assert estimate / 5 < peak < estimate + cache + attention


def allocated(work: Any, trace: Path) -> int:
    """The most bytes that were allocated at once, beyond those at the start."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    watched.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    changes = [e["args"]["Bytes"] for e in sorted(events, key=_when) if e["name"] == "[memory]"]
    held, most = 0, 0
    for change in changes:
        held += change
        most = max(most, held)
    return most


def _when(event: dict[str, Any]) -> float:
    return float(event.get("ts", 0))


def test_a_pass_grows_with_each_of_its_sizes() -> None:
    """Tokens, rows and width all count; nothing costs nothing."""
    assert pass_bytes(MEDGEMMA, 0, 0, 2) == 0
    one = pass_bytes(MEDGEMMA, 100, 1, 2)
    assert pass_bytes(MEDGEMMA, 200, 2, 2) == 2 * one
    assert pass_bytes(MEDGEMMA, 0, 1, 2) == 4 * 4 * 262_208
    assert one < pass_bytes(MEDGEMMA, 100, 1, 4) < 2 * one


def test_rows_that_fit_fit() -> None:
    """The rows told leave a tenth free; a third more would not."""
    for free in (2**30, 10 * 2**30, 60 * 2**30):
        rows = rows_that_fit(MEDGEMMA, 2000, free, 2, slice_tokens=2048, most=10_000)

        def taken(rows: int) -> float:
            cached = rows * kv_bytes(MEDGEMMA, 2000, 2)
            return cached + pass_bytes(MEDGEMMA, 2048, rows, 2)

        assert rows > 0 and taken(rows) <= 0.9 * free
        assert taken(int(rows * 1.3) + 2) > 0.9 * free  # not far from what is there


def test_rows_at_the_ends() -> None:
    """None where not even a slice fits, never more than the most asked for."""
    assert rows_that_fit(MEDGEMMA, 2000, 10e6, 2, slice_tokens=2048, most=64) == 0
    assert rows_that_fit(MEDGEMMA, 2000, -1, 2, slice_tokens=2048, most=64) == 0
    assert rows_that_fit(MEDGEMMA, 10, 1e12, 2, slice_tokens=2048, most=64) == 64
    short = rows_that_fit(MEDGEMMA, 500, 8e9, 2, slice_tokens=2048, most=10_000)
    assert short > rows_that_fit(MEDGEMMA, 5000, 8e9, 2, slice_tokens=2048, most=10_000) > 0
