"""`tune --from`: a tuning that begins where another adapter is."""

import json
from pathlib import Path
from typing import Any

import lessons_kit as kit
import pytest
from lessons_kit import Command, Taught

from medgemma_cli import adapters, models
from medgemma_cli.adapters import CONFIG, WEIGHTS

CPU = ("--precision", "fp32", "--device", "cpu", "--validation-share", "0", "--dropout", "0")
STILL = (*CPU, "--max-steps", "1", "--every", "1", "--learning-rate", "1e-9", "--accumulate", "8")


def weights(folder: Path) -> Any:
    """The tensors of an adapter."""
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def test_it_begins_as_the_adapter(
    command: Command, checkpoint: Path, adapter: Taught, tmp_path: Path
) -> None:
    """A step that hardly moves: the adapter's own weights, and its loss at its own end."""
    import torch

    way = ("--model", checkpoint, "--from", adapter.adapter, *STILL)
    done = command("tune", adapter.folder / "train.jsonl", "-o", "out", *way)
    assert done.returncode == 0, done.stderr
    before, after = weights(adapter.adapter), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    ((_, loss),) = kit.told(tmp_path / "out")["curve"]["train"]
    first, last = (kit.told(adapter.adapter)["curve"]["train"][place][1] for place in (0, -1))
    assert loss < 2 * last < first / 10


def test_it_keeps_its_size_and_says_where_it_began(
    command: Command, checkpoint: Path, adapter: Taught, tmp_path: Path
) -> None:
    """Rank and alpha are the adapter's; its hash is in `training.json`."""
    way = ("--model", checkpoint, "--from", adapter.adapter, *STILL)
    assert command("tune", adapter.folder / "train.jsonl", "-o", "out", *way).returncode == 0
    told = kit.told(tmp_path / "out")["settings"]
    found = adapters.resolve(adapter.adapter, models.resolve(str(checkpoint)))
    assert (told["rank"], told["alpha"], told["start"]) == (8, 16.0, found.hash)
    made = json.loads((tmp_path / "out" / CONFIG).read_text())
    first = json.loads((adapter.adapter / CONFIG).read_text())
    assert (made["r"], made["lora_alpha"]) == (8, 16)
    assert made["target_modules"] == first["target_modules"]
    assert "start" not in kit.told(adapter.adapter)["settings"]


def test_it_goes_on_and_another_beginning_is_another_tuning(
    command: Command, checkpoint: Path, adapter: Taught, tmp_path: Path
) -> None:
    """Stopped after its first step it goes on; the same folder without --from is refused."""
    data = adapter.folder / "train.jsonl"
    way = ("--model", checkpoint, *CPU, "--epochs", "3", "--every", "1", "--patience", "0")
    begun = (*way, "--from", adapter.adapter)
    assert command("tune", data, "-o", "out", *begun, "--max-time", "0.01s").returncode == 75
    assert kit.told(tmp_path / "out")["state"] == "training"
    assert command("tune", data, "-o", "out", *way).returncode == 78
    again = command("tune", data, "-o", "out", *begun)
    assert again.returncode == 0 and "goes on from step" in again.stderr
    assert command("tune", data, "-o", "whole", *begun).returncode == 0
    one, two = weights(tmp_path / "out"), weights(tmp_path / "whole")
    assert all(one[name].allclose(two[name], atol=1e-5) for name in one)


@pytest.mark.parametrize(
    "more", [("--rank", "8"), ("--alpha", "16"), ("--target-modules", "q_proj")]
)
def test_its_size_is_not_asked_for(
    command: Command, adapter: Taught, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """2, even where it is the same: what is written there would not be what decides."""
    data = adapter.folder / "train.jsonl"
    done = command("tune", data, "-o", "out", "--from", adapter.adapter, *more)
    assert done.returncode == 2 and "--from" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_begun_with(
    command: Command, checkpoint: Path, adapter: Taught, tmp_path: Path
) -> None:
    """No adapter is 69; one of another base, or whose layers are others, 78; nothing is kept."""
    data = adapter.folder / "train.jsonl"
    way = ("tune", data, "-o", "out", "--model", checkpoint, *CPU, "--max-steps", "1", "--from")
    assert command(*way, "nowhere").returncode == 69
    kit.foreign(tmp_path / "foreign")
    strange = command(*way, "foreign")
    assert strange.returncode == 78 and "does not fit the model" in strange.stderr
    other = kit.text_only(tmp_path / "text")
    way = ("tune", data, "-o", "none", "--model", other, *CPU, "--from", adapter.adapter)
    refused = command(*way)
    assert refused.returncode == 78 and "another base model" in refused.stderr
    assert not (tmp_path / "none").exists()
    # What was refused when the model was there has not laid claim to the folder.
    way = ("tune", data, "-o", "out", "--model", checkpoint, *CPU, "--max-steps", "1")
    assert command(*way, "--from", adapter.adapter).returncode == 0


def test_its_own_folder_is_not_written_over(
    command: Command, checkpoint: Path, adapter: Taught
) -> None:
    """78, and the adapter is as it was."""
    before = (adapter.adapter / WEIGHTS).read_bytes()
    way = ("--model", checkpoint, "--from", adapter.adapter, *STILL)
    done = command("tune", adapter.folder / "train.jsonl", "-o", adapter.adapter, *way)
    assert done.returncode == 78
    assert (adapter.adapter / WEIGHTS).read_bytes() == before


@pytest.fixture
def model(checkpoint: Path) -> Any:
    """The tiny model, loaded."""
    from medgemma_cli.engines.local import LocalEngine, LocalOptions

    options = LocalOptions(precision="fp32", device="cpu")
    return LocalEngine(models.resolve(str(checkpoint)), options).loaded().model


def of_one_layer(folder: Path, model: Any, layer: str) -> dict[str, Any]:
    """An adapter of one layer of a model, in a folder; its weights."""
    import torch
    from safetensors.torch import save_file

    from medgemma_cli.engines import adapting

    rows, columns = model.get_submodule(layer).weight.shape
    given = {
        f"{adapting.PREFIX}{layer}.lora_A.weight": torch.rand(2, columns),
        f"{adapting.PREFIX}{layer}.lora_B.weight": torch.rand(rows, 2),
    }
    save_file(given, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    return given


def test_an_adapter_of_some_layers_keeps_to_them(
    checkpoint: Path, model: Any, tmp_path: Path
) -> None:
    """One of the first layer alone learns there and nowhere else, and begins with its weights."""
    import torch

    from medgemma_cli.engines import adapting

    layer = "model.language_model.layers.0.self_attn.q_proj"
    given = of_one_layer(tmp_path, model, layer)
    found = adapters.resolve(tmp_path, models.resolve(str(checkpoint)))
    made = adapting.trainable(model, found, 0.0)
    learning = {name: value for name, value in made.named_parameters() if value.requires_grad}
    assert len(learning) == 2 and all(layer in name for name in learning)
    for name, value in learning.items():
        assert torch.equal(value, given[name.replace(".default", "")])


def test_the_eye_is_not_trained(checkpoint: Path, model: Any, tmp_path: Path) -> None:
    """78 for an adapter with a layer of the vision tower, whose layers have the same names."""
    from medgemma_cli.engines import adapting
    from medgemma_cli.errors import ConfigError

    names = [name for name, _ in model.named_modules() if "vision" in name]
    of_one_layer(tmp_path, model, next(n for n in names if n.endswith("self_attn.q_proj")))
    found = adapters.resolve(tmp_path, models.resolve(str(checkpoint)))
    with pytest.raises(ConfigError, match="other layers than the text model's"):
        adapting.trainable(model, found, 0.0)


def test_settings_that_are_null_are_none(checkpoint: Path, tmp_path: Path) -> None:
    """Other tools write `null` for what is not used."""
    kit.foreign(tmp_path / "null", rank_pattern=None, alpha_pattern=None, use_dora=None)
    found = adapters.resolve(tmp_path / "null", models.resolve(str(checkpoint)))
    assert found.settings == {"r": 2, "lora_alpha": 4}
