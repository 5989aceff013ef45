"""Merged weights are those of base and adapter, rounded once; what cannot be merged is refused."""

from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest
import tiny
import torch
from lessons_kit import Taught

from medgemma_cli import adapters, models
from medgemma_cli.adapters import WEIGHTS
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.exporting import comparing, merging
from medgemma_cli.engines.loading import load_model, load_tokenizer
from medgemma_cli.errors import ConfigError
from medgemma_cli.exporting.agreement import Agreement, Difference

LAYER = "model.language_model.layers.1.mlp.up_proj"


def loaded(checkpoint: Path, folder: Path | None, precision: Any = "fp32") -> Any:
    """The tiny model, with an adapter."""
    base = models.resolve(str(checkpoint))
    return load_model(
        checkpoint,
        multimodal=models.is_multimodal(models.config(checkpoint)),
        precision=precision,
        device="cpu",
        double_quant=False,
        adapter=adapters.resolve(folder, base) if folder else None,
    )


def expected(checkpoint: Path, folder: Path, scale: float) -> torch.Tensor:
    """W + scale · B A of one layer, in fp64."""
    from safetensors.torch import load_file

    file = load_file(folder / WEIGHTS)
    name = f"base_model.model.{LAYER}.lora_{{}}.weight"
    a, b = file[name.format("A")].double(), file[name.format("B")].double()
    base = loaded(checkpoint, None).get_submodule(LAYER).weight.double()
    return base + scale * (b @ a)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_sums_are_rounded_once(
    checkpoint: Path, adapter: Taught, kind: merging.Kind, precision: str
) -> None:
    """The nearest number of 16 bits to the sum; layers without an adapter are only rounded."""
    made = loaded(checkpoint, adapter.adapter, precision)
    merging.merge(made, kind)
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    assert {value.dtype for value in made.parameters()} == {wanted}
    exact = expected(checkpoint, adapter.adapter, 16 / 8)
    if precision == "bf16":  # the base itself was rounded when it was loaded
        base = loaded(checkpoint, None).get_submodule(LAYER).weight.double()
        exact = exact - base + base.bfloat16().double()
    weight = made.get_submodule(LAYER).weight
    step = torch.finfo(wanted).eps * exact.abs().clamp(min=torch.finfo(wanted).tiny)
    assert ((weight.double() - exact).abs() <= step / 2 + 1e-6).all()
    plain = loaded(checkpoint, None, precision).lm_head.weight
    assert torch.equal(made.lm_head.weight, plain.to(wanted))


def test_nothing_of_the_adapter_is_left(checkpoint: Path, adapter: Taught) -> None:
    """The model has the names that it had, and no layer of PEFT's."""
    made = loaded(checkpoint, adapter.adapter)
    merging.merge(made, "bf16")
    assert set(made.state_dict()) == set(loaded(checkpoint, None).state_dict())


def test_rank_patterns_and_rslora_merge(checkpoint: Path, adapter: Taught, tmp_path: Path) -> None:
    """What PEFT computes otherwise is merged otherwise: alpha over the root of the rank."""
    import json
    import shutil

    folder = tmp_path / "a"
    shutil.copytree(adapter.adapter, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"use_rslora": True}))
    made = loaded(checkpoint, folder)
    merging.merge(made, "bf16")
    exact = expected(checkpoint, folder, 16 / 8**0.5)
    assert torch.allclose(made.get_submodule(LAYER).weight.double(), exact, rtol=2**-8, atol=1e-5)


def test_shared_weights_are_not_merged_into(tmp_path: Path) -> None:
    """78: merged into a head that is the embedding, too, both would change."""
    from safetensors.torch import save_file
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=50, hidden_size=64, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(tmp_path / "tied")
    folder = kit.foreign(tmp_path / "a")
    name = "base_model.model.lm_head.lora_{}.weight"
    both = {name.format("A"): torch.ones(2, 64), name.format("B"): torch.ones(50, 2)}
    save_file(both, folder / WEIGHTS)
    with pytest.raises(ConfigError, match="share their weights"):
        merging.merge(loaded(tmp_path / "tied", folder), "bf16")


@pytest.mark.parametrize(
    ("size", "kind", "advice"), [(1e5, "fp16", "--dtype bf16"), (float("inf"), "bf16", "")]
)
def test_weights_out_of_range(
    checkpoint: Path, adapter: Taught, size: float, kind: merging.Kind, advice: str
) -> None:
    """78 where a weight is over fp16's 65504, or the adapter is not finite."""
    made = loaded(checkpoint, adapter.adapter)
    with torch.no_grad():
        made.get_submodule(LAYER).lora_B["default"].weight[0, 0] = size
        made.get_submodule(LAYER).lora_A["default"].weight[0, 0] = 1.0
    with pytest.raises(ConfigError) as raised:
        merging.merge(made, kind)
    assert advice in raised.value.next_step


# -- the comparison -------------------------------------------------------------------------------


def test_the_comparison_sees(checkpoint: Path, adapter: Taught) -> None:
    """Nothing of the model against itself, little of a rounding, much of an adapter left out."""
    encoder = Encoder(*load_tokenizer(checkpoint, multimodal=True))
    probes = comparing.probes(encoder)
    assert [probe.pixels is not None for probe in probes] == [False] * 3 + [True]
    assert probes[-1].ids.count(encoder.image_id) == tiny.IMAGE_TOKENS
    model = loaded(checkpoint, adapter.adapter)
    seen = comparing.look(model, probes, encoder.image_id)
    same = comparing.again(model, probes, seen, encoder.image_id)
    merging.enable(model, on=False)
    base = comparing.again(model, probes, seen, encoder.image_id)
    merging.enable(model, on=True)
    merging.merge(model, "bf16")
    merged = comparing.again(model.float(), probes, seen, encoder.image_id)

    itself = comparing.agreement(seen, same, base)
    assert itself.merged.greatest < 1e-4 and itself.greedy[0] == itself.greedy[1] > 4
    found = comparing.agreement(seen, merged, base)
    assert 0 < found.merged.mean < found.merged.greatest < 0.5 < found.adapter.greatest
    assert found.within(0.5) and not found.within(found.merged.greatest / 2)
    left_out = comparing.agreement(seen, base, base)
    assert not left_out.within(1.0) and left_out.greedy[0] < left_out.greedy[1]


def test_the_greedy_answer_is_generates(checkpoint: Path, adapter: Taught) -> None:
    """A model that chooses each token of an answer writes that answer: tried, on two models."""
    encoder = Encoder(*load_tokenizer(checkpoint, multimodal=True))
    probes = comparing.probes(encoder)[:1]
    model = loaded(checkpoint, adapter.adapter)
    (seen,) = comparing.look(model, probes, encoder.image_id)
    merging.enable(model, on=False)
    (own,) = comparing.look(model, probes, encoder.image_id)
    (chosen,) = comparing.again(model, probes, [own], encoder.image_id)
    assert chosen.answer == own.answer != seen.answer


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.5])
def test_not_a_number_is_too_much(bad: float) -> None:
    """A comparison that came to nothing is no agreement."""
    made = Agreement(Difference(bad, bad), Difference(1, 1), (0, 1), 1, 1)
    assert not made.within(1.0)


def test_words(checkpoint: Path) -> None:
    """The figures stand in the sentence."""
    made = Agreement(Difference(0.25, 0.01), Difference(12, 3), (27, 28), 4, 100)
    assert "0.25 at most, 0.01 in the mean" in made.words() and "27 of 28 greedy" in made.words()
    assert "all 28 greedy" in made._replace(greedy=(28, 28)).words()
