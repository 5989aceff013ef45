"""An adapter's layers in a model: only those that have weights, in fp32, and all of them."""

from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest
import torch
from lessons_kit import Taught

from medgemma_cli import adapters, models
from medgemma_cli.adapters import WEIGHTS, Adapter
from medgemma_cli.engines import adapting
from medgemma_cli.engines.loading import load_model
from medgemma_cli.errors import ConfigError


def loaded(checkpoint: Path, adapter: Adapter | None = None, precision: Any = "fp32") -> Any:
    """The tiny model."""
    return load_model(
        checkpoint,
        multimodal=True,
        precision=precision,
        device="cpu",
        double_quant=True,
        adapter=adapter,
    )


def resolved(folder: Path, checkpoint: Path) -> Adapter:
    """An adapter that may be loaded."""
    return adapters.resolve(folder, models.resolve(str(checkpoint)))


def test_the_model_keeps_its_class(checkpoint: Path, adapter: Taught) -> None:
    """What calls it finds everything where it was; nothing of it can learn any more."""
    made = loaded(checkpoint, resolved(adapter.adapter, checkpoint))
    assert type(made) is type(loaded(checkpoint))
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert not made.training


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_weights_arrive_as_they_are(checkpoint: Path, adapter: Taught, precision: str) -> None:
    """Every tensor of the file, unrounded, on a base in another precision."""
    from safetensors.torch import load_file

    made = loaded(checkpoint, resolved(adapter.adapter, checkpoint), precision)
    there = {
        name.replace(".default", ""): value
        for name, value in made.named_parameters()
        if ".lora_" in name
    }
    file = load_file(adapter.adapter / WEIGHTS)
    wanted = {name.removeprefix(adapting.PREFIX): value for name, value in file.items()}
    assert set(there) == set(wanted)
    for name, value in wanted.items():
        assert there[name].dtype == torch.float32 and torch.equal(there[name], value), name


def test_the_arithmetic_is_loras(checkpoint: Path, adapter: Taught) -> None:
    """W x + alpha / rank · B (A x), of a layer picked."""
    plain, made = loaded(checkpoint), loaded(checkpoint, resolved(adapter.adapter, checkpoint))
    name = "model.language_model.layers.1.mlp.up_proj"
    base, layer = plain.get_submodule(name), made.get_submodule(name)
    shown = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = base(shown) + 16 / 8 * (shown @ a.T @ b.T)
    assert torch.allclose(layer(shown), expected, atol=1e-5)
    assert not torch.allclose(layer(shown), base(shown), atol=1e-2)


@pytest.mark.parametrize("fault", ["unknown", "missing", "shape", "damaged"])
def test_what_does_not_fit_is_refused(
    checkpoint: Path, adapter: Taught, tmp_path: Path, fault: str
) -> None:
    """78 for a layer that is not there, half of one, another size; no weight is left random."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter.adapter / WEIGHTS)
    first = next(name for name in sorted(weights) if "lora_A" in name)
    if fault == "unknown":
        weights[first.replace("layers.0", "layers.99")] = weights[first].clone()
    elif fault == "missing":
        del weights[first]
    elif fault == "shape":
        weights[first] = weights[first][:, :-1].contiguous()
    folder = kit.foreign(tmp_path / "a", r=8, lora_alpha=16)
    save_file(weights, folder / WEIGHTS)
    found = resolved(folder, checkpoint)
    if fault == "damaged":
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match="does not fit"):
        loaded(checkpoint, found)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("model.language_model.layers.0.self_attn.q_proj", True),
        ("model.layers.33.mlp.down_proj", True),
        ("model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj", False),
        ("model.language_model.layers.0.self_attn.q_proj.base_layer", False),
        ("lm_head", False),
    ],
)
def test_targets(name: str, taken: bool) -> None:
    """Layers of the text model, under both of its names; never the vision tower's."""
    import re

    assert bool(re.fullmatch(adapting.targets(adapting.MODULES), name)) is taken
