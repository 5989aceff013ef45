"""A text model, an adapter and an eye become one model, weight by weight."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgemma_cli.demo import joining

RANK, ALPHA = 2, 6
LAYER = "base_model.model.model.layers.1.mlp.up_proj"


def text_model() -> Any:
    """A tiny text model whose output is its embedding, as the demo's is."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=8,
        tie_word_embeddings=True,
    )
    return Gemma3ForCausalLM(config).eval()


def both(text: Any) -> Any:
    """A configuration of it with a tiny eye, and eight rows more."""
    from transformers import Gemma3Config, SiglipVisionConfig

    vision = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
        vision_use_head=False,
    )
    settings = {**text.config.to_dict(), "vocab_size": 68}
    return Gemma3Config(
        text_config=type(text.config)(**settings),
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=60,
        boi_token_index=58,
        eoi_token_index=59,
    )


@pytest.fixture
def sight(tmp_path: Path) -> Path:
    """Weights of an eye, by their names in the whole model."""
    from transformers import Gemma3ForConditionalGeneration

    torch.manual_seed(1)
    model = Gemma3ForConditionalGeneration(both(text_model())).model
    weights = {
        f"{part}.{name}": torch.randn_like(value)
        for part in ("vision_tower", "multi_modal_projector")
        for name, value in model.get_submodule(part).state_dict().items()
    }
    save_file(weights, tmp_path / "sight.safetensors")
    return tmp_path / "sight.safetensors"


def adapter(folder: Path, layers: tuple[str, ...] = (LAYER,), **settings: Any) -> Path:
    """An adapter of random weights."""
    folder.mkdir(exist_ok=True)
    made = torch.Generator().manual_seed(2)
    weights = {}
    for layer in layers:
        weights[f"{layer}.lora_A.weight"] = torch.randn(RANK, 16, generator=made)
        weights[f"{layer}.lora_B.weight"] = torch.randn(32, RANK, generator=made)
    save_file(weights, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def test_an_adapter_is_added_to_its_layer_alone(tmp_path: Path) -> None:
    """W + alpha / r · B A; every other weight stays."""
    model, before = text_model(), text_model().state_dict()
    joining.merge(model, adapter(tmp_path / "a"))
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    change = weights[f"{LAYER}.lora_B.weight"] @ weights[f"{LAYER}.lora_A.weight"] * ALPHA / RANK
    name = "model.layers.1.mlp.up_proj.weight"
    after = model.state_dict()
    assert torch.allclose(after[name], before[name] + change, atol=1e-6)
    assert change.abs().max() > 0.1
    assert all(torch.equal(after[n], before[n]) for n in before if n != name)


def test_merging_says_what_peft_says(tmp_path: Path) -> None:
    """The merged model's logits are those of the model with the adapter on it."""
    pytest.importorskip("peft")
    from medgemma_cli.adapters import Adapter
    from medgemma_cli.engines import adapting

    folder = adapter(tmp_path / "a")
    merged, beside = text_model(), text_model()
    joining.merge(merged, folder)
    settings = {"r": RANK, "lora_alpha": ALPHA}
    adapting.apply(beside, Adapter("a", folder, "", settings))
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, beside(ids).logits, atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "settings", "why"),
    [
        ((LAYER.replace("up_proj", "nothing"),), {}, "has not"),
        ((LAYER.replace("up_proj", "down_proj"),), {}, "shape"),
        ((LAYER,), {"use_dora": True}, "plain"),
        ((LAYER,), {"use_rslora": True}, "plain"),
        ((LAYER,), {"rank_pattern": {"q_proj": 4}}, "plain"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    tmp_path: Path, layers: tuple[str, ...], settings: dict[str, Any], why: str
) -> None:
    """Other layers, other shapes, other kinds: nothing is passed over in silence."""
    with pytest.raises(ValueError, match=why):
        joining.merge(text_model(), adapter(tmp_path / "a", layers, **settings))


def test_half_an_adapter_is_refused(tmp_path: Path) -> None:
    """An A without its B."""
    folder = adapter(tmp_path / "a")
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(f"{LAYER}.lora_B.weight")
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="another kind"):
        joining.merge(text_model(), folder)


def test_texts_are_answered_as_before(sight: Path) -> None:
    """The same logits for every token it knew; the new rows answer as its last token does."""
    ids = torch.arange(1, 24)[None]
    with torch.no_grad():
        before = text_model()(ids).logits
        text = text_model()
        after = joining.join(text, sight, both(text))(input_ids=ids).logits
    assert after.shape[-1] == 68
    assert torch.allclose(after[..., :60], before, atol=1e-5)
    assert torch.allclose(after[..., 60:], before[..., -1:].expand(-1, -1, 8), atol=1e-5)


def test_it_is_saved_and_loaded_whole(sight: Path, tmp_path: Path) -> None:
    """Reloaded as any checkpoint, nothing is missing, and a picture is answered the same."""
    from transformers import AutoModelForImageTextToText

    text = text_model()
    made = joining.join(text, sight, both(text))
    made.save_pretrained(tmp_path / "whole")
    again, told = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "whole", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert type(again).__name__ == "Gemma3ForConditionalGeneration"
    ids = torch.tensor([[2, 58, 60, 60, 60, 60, 59, 7, 8]])
    shown = {"input_ids": ids, "token_type_ids": (ids == 60).long()}
    with torch.no_grad():
        pictures = [torch.full((1, 3, 28, 28), shade) for shade in (-1.0, 1.0)]
        one, other = (made(pixel_values=p, **shown).logits for p in pictures)
        same = again.eval()(pixel_values=pictures[0], **shown).logits
    assert torch.allclose(one, same, atol=1e-5)
    assert not torch.allclose(one, other, atol=1e-3), "it does not see"


def test_an_eye_of_other_shapes_is_refused(sight: Path) -> None:
    """A weight too few, one too many, one of another name."""
    weights = load_file(sight)
    name = "multi_modal_projector.mm_input_projection_weight"
    for broken, kind in (
        ({k: v for k, v in weights.items() if k != name}, RuntimeError),
        ({**weights, name: weights[name][:, :3].contiguous()}, RuntimeError),
        ({**weights, "lm_head.weight": weights[name].clone()}, ValueError),
    ):
        save_file(broken, sight)
        text = text_model()
        with pytest.raises(kind):
            joining.join(text, sight, both(text))
