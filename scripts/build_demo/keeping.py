"""Checkpoints: one file, replaced whole, so that a kill leaves the last good one."""

import os
from pathlib import Path
from typing import Any

_NAME = "checkpoint.pt"


def keep(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in place of the last."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".{_NAME}"
    torch.save(state, work)
    os.replace(work, folder / _NAME)


def kept(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The last checkpoint, or None.

    Raises:
        SystemExit: it is one of other settings.
    """
    import torch

    if not (folder / _NAME).is_file():
        return None
    state: dict[str, Any] = torch.load(folder / _NAME, weights_only=True)
    if state["settings"] != settings:
        raise SystemExit("The folder has a checkpoint of other settings: give another -o.")
    return state


def mark(folder: Path | None) -> str:
    """What makes two folders of weights the same for a checkpoint."""
    from medgemma_cli.identity import digest
    from medgemma_cli.models import file_hashes

    return digest(file_hashes(sorted(folder.glob("*.safetensors")))) if folder else ""


def write_sight(path: Path, tower: Any, projector: Any) -> None:
    """The weights of both, named as Gemma3Model names them, fp32, in one safetensors file."""
    from safetensors.torch import save_file

    named = {f"vision_tower.{name}": value for name, value in tower.state_dict().items()}
    named |= {
        f"multi_modal_projector.{name}": value for name, value in projector.state_dict().items()
    }
    work = path.with_name(f".{path.name}")
    save_file({name: value.contiguous() for name, value in named.items()}, work)
    os.replace(work, path)


def read_sight(path: Path, tower: Any, projector: Any) -> None:
    """Take the weights of both from a file of `write_sight`."""
    from safetensors.torch import load_file

    weights = load_file(path)
    for module, begin in ((tower, "vision_tower."), (projector, "multi_modal_projector.")):
        own = {k.removeprefix(begin): v for k, v in weights.items() if k.startswith(begin)}
        module.load_state_dict(own)
