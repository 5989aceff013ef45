"""The mean of two adapters: of every weight, with the second's name for its base."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgemma_cli.adapters import CONFIG, WEIGHTS, metadata
from scripts.build_demo import averaging


def adapter(folder: Path, value: float, name: str = "a.lora_A.weight", base: str = "x") -> Path:
    """An adapter of one weight."""
    folder.mkdir()
    save_file({name: torch.full((2, 3), value)}, folder / WEIGHTS, {"medgemma.base": base})
    (folder / CONFIG).write_text(f'{{"r": 2, "of": "{folder.name}"}}')
    return folder


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    """A quarter of the first and three of the second."""
    first, second = adapter(tmp_path / "one", 1.0), adapter(tmp_path / "two", 5.0, base="y")
    averaging.average(first, second, 0.75, tmp_path / "out")
    (made,) = load_file(tmp_path / "out" / WEIGHTS).values()
    assert torch.equal(made, torch.full((2, 3), 4.0))
    assert metadata(tmp_path / "out" / WEIGHTS)["medgemma.base"] == "y"
    assert (tmp_path / "out" / CONFIG).read_text() == (second / CONFIG).read_text()


def test_other_layers_are_refused(tmp_path: Path) -> None:
    """Nothing is written of adapters that are no two states of one."""
    first = adapter(tmp_path / "one", 1.0)
    scaled = adapter(tmp_path / "three", 1.0)
    (scaled / CONFIG).write_text('{"r": 2, "lora_alpha": 8}')
    with pytest.raises(SystemExit, match="sizes"):
        averaging.average(first, scaled, 0.5, tmp_path / "out")
    second = adapter(tmp_path / "two", 1.0, name="b.lora_A.weight")
    with pytest.raises(SystemExit, match="other layers"):
        averaging.average(first, second, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()
