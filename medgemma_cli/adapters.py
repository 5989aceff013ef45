"""A folder with a LoRA adapter: is it safe, what is it, was it made on this base. Torch-free.

Two files are read, no others: adapter_config.json and adapter_model.safetensors. The weights of
`medgemma tune` name their base in the metadata of that file, so that no file of an adapter has to
be kept with it and none can be exchanged without its hash telling.
"""

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli.errors import ConfigError, MissingExtraError, ModelUnavailableError
from medgemma_cli.identity import digest
from medgemma_cli.models import Checkpoint, Step, file_hashes

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
UNFINISHED = "training.json"
BASE = "medgemma.base"
BASE_ID = "medgemma.base_id"
_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
# A header of more bytes belongs to no adapter; the format allows 100 MB.
_LONGEST_HEADER = 20_000_000
# What of a LoRA configuration says how its weights are computed with, and is passed on.
_KNOWN = {
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
    "fan_in_fan_out", "lora_bias",
}  # fmt: skip
# What names the base or the training, or what the names of the weights say already.
_IDLE = {
    "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "exclude_modules",
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "target_modules", "task_type", "eva_config", "corda_config",
    "lora_ga_config",
}  # fmt: skip


class Adapter(NamedTuple):
    """An adapter that may be loaded.

    `hash` covers both files and is part of every key. `settings` are the fields of its
    configuration that bear on the arithmetic. `warning` is a sentence where nothing says
    whether it was made on the checkpoint in hand.
    """

    name: str
    path: Path
    hash: str
    settings: dict[str, Any]
    warning: str | None = None


def require() -> None:
    """See that PEFT is there; it is not imported, which takes seconds.

    Raises:
        MissingExtraError: 69.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError(
            "An adapter needs the package peft.",
            "Install it: pip install 'medgemma-cli[tune]'",
        )


def resolve(folder: Path, checkpoint: Checkpoint, step: Step | None = None) -> Adapter:
    """Check an adapter for a checkpoint, without loading it.

    Raises:
        ModelUnavailableError: 69, there is no adapter. MissingExtraError: 69, PEFT is missing.
        ConfigError: 78, pickled weights, a kind that is not loaded here, another base.
    """
    require()
    _check_files(folder)
    settings = _read_config(folder / CONFIG)
    warning = _check_base(settings, metadata(folder / WEIGHTS), checkpoint)
    hashes = file_hashes([folder / CONFIG, folder / WEIGHTS], step)
    kept = {n: value for n, value in settings.items() if n in _KNOWN and value is not None}
    name = folder.resolve().name
    return Adapter(name, folder, digest(hashes), kept, warning)


def _check_files(folder: Path) -> None:
    if any(path.suffix in _PICKLED for path in folder.glob("adapter_model*")):
        raise ConfigError(
            "The adapter's folder has pickled weights, which can run code when loaded.",
            f"Keep {CONFIG} and {WEIGHTS} alone; convert the weights if need be.",
        )
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing and (folder / UNFINISHED).is_file():
        raise ModelUnavailableError(
            "The adapter is not finished.", "Run its `medgemma tune` again; it goes on."
        )
    if missing:
        raise ModelUnavailableError(
            f"The adapter's folder has no {missing[0]}.",
            f"Give a folder with {CONFIG} and {WEIGHTS}, such as `medgemma tune` writes.",
        )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError(f"The adapter's {CONFIG} cannot be read as JSON.", "Fetch it again.")
    if settings.get("peft_type") != "LORA":
        raise ConfigError("The adapter is no LoRA adapter.", "No other kind is loaded.")
    known = _KNOWN | _IDLE
    # What is off is written as null, false or empty.
    strange = sorted(name for name, value in settings.items() if value and name not in known)
    if strange or settings.get("bias", "none") != "none":
        named = ", ".join(name for name in strange if name.isidentifier()) or "bias"
        raise ConfigError(
            f"The adapter uses what is not loaded here: {named}.",
            "Train it again without, or merge it into its base.",
        )
    _check_numbers(settings)
    return settings


def _check_numbers(settings: dict[str, Any]) -> None:
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    patterns = [settings.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    good = isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)
    if not good or not all(isinstance(pattern, dict) for pattern in patterns):
        raise ConfigError(f"The adapter's {CONFIG} has no rank and alpha.", "Fetch it again.")


def metadata(weights: Path) -> dict[str, str]:
    """The metadata in a safetensors header: 8 bytes of length, little-endian, and JSON.

    Raises:
        ConfigError: 78, it is no such file.
    """
    try:
        with weights.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length if length < _LONGEST_HEADER else 0))
        found = header.get("__metadata__") or {}
        return {str(name): str(value) for name, value in found.items()}
    except (OSError, ValueError, AttributeError, RecursionError, struct.error):
        raise ConfigError(f"The adapter's {WEIGHTS} is damaged.", "Fetch it again.") from None


def _check_base(
    settings: dict[str, Any], told: dict[str, str], checkpoint: Checkpoint
) -> str | None:
    """A warning where it cannot be told; see that it is the same base where it can."""
    ours, theirs = checkpoint.fingerprint, told.get(BASE)
    if theirs == ours:
        return None
    # A commit of the hub and hashes of a folder may be the same weights: then the shapes decide.
    if theirs is not None and ("@" in theirs) == ("@" in ours):
        raise _other_base(told.get(BASE_ID) if "@" in theirs else None)
    named = told.get(BASE_ID) or settings.get("base_model_name_or_path")
    if theirs is None and "@" in ours and named != checkpoint.id:
        raise _other_base(named if isinstance(named, str) else None)
    return "nothing says whether the adapter was made on these very weights"


def _other_base(named: str | None) -> ConfigError:
    shown = f", {named!r}" if named and named.isascii() and named.isprintable() else ""
    return ConfigError(
        f"The adapter was made on another base model{shown}.",
        "Give that one as --model (with its --revision), or another adapter.",
    )
