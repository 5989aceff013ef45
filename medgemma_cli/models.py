"""Which checkpoint: local folder → local cache → hub. Torch-free, offline where possible."""

import hashlib
import json
import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonlines

from medgemma_cli.errors import ConfigError, ModelUnavailableError
from medgemma_cli.files import replace_file
from medgemma_cli.records import Precision

DEFAULT_MODEL = "google/medgemma-1.5-4b-it"
DEMO = "demo"
Step = Callable[[str, int, int], None]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What `export` says of how it went is no part of a model.
_IDENTITY = re.compile(r"(?!export\.json$).*\.(safetensors|json|jinja|model)")
_WAYS = (
    "Three ways forward: accept the licence on the model's page and log in (`hf auth login`, or "
    "HF_TOKEN); or point --model at a folder with its files; or try --model demo."
)

# Bytes a weight takes. Quantised kinds keep embeddings and the vision tower in bf16: of the 4B
# model 1.1 of 4.3 billion weights, hence the extra.
_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.3, "nf4": 0.95, "fp4": 0.95}
# Parameters of published checkpoints, for those that are not here to be counted.
_PARAMETERS = {
    "google/medgemma-1.5-4b-it": 4_300_079_472,
    "google/medgemma-4b-it": 4_300_079_472,
    "google/medgemma-27b-it": 27_432_406_640,
    "google/medgemma-27b-text-it": 27_009_346_304,
}
# Beyond the weights: activations, the KV cache of a small batch, the runtime itself.
_OVERHEAD = 1.5 * 2**30


class Checkpoint(NamedTuple):
    """A resolved checkpoint.

    `path` is None while its files are still to be downloaded or made; `fingerprint` names the
    very weights and tokenizer (pinned commit, or a hash over the files) and is part of every key.
    `branch` is what `revision` was looked up from, where it is still to be downloaded.
    """

    id: str
    revision: str | None
    path: Path | None
    fingerprint: str
    branch: str | None = None


def cache_folder() -> Path:
    """Where converted models and file hashes are kept: MEDGEMMA_CACHE, or the user's cache."""
    if own := os.environ.get("MEDGEMMA_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medgemma"


def resolve(
    model: str, *, revision: str | None = None, offline: bool = False, step: Step | None = None
) -> Checkpoint:
    """Find a checkpoint without loading it, and without the network if it is here already.

    Args:
        model: ``demo``, a folder, or a hub id such as ``google/medgemma-1.5-4b-it``.
        revision: a branch, tag or commit of a hub id.
        step: told of slow hashing.

    Raises:
        ModelUnavailableError: 69, with the three ways forward.
        ConfigError: 78, pickle weights or code of its own (`auto_map`).
    """
    if model == DEMO:
        from medgemma_cli import demo

        return Checkpoint(DEMO, demo.GGUF_SHA256[:12], demo.converted(), demo.fingerprint())
    if Path(model).is_dir():
        folder = _model_folder(Path(model))
        check_safe(folder)
        return Checkpoint(model, None, folder, _fingerprint(folder, step))
    if not _HUB_ID.fullmatch(model):
        raise ModelUnavailableError(f"There is no folder and no model {model!r}.", _WAYS)
    return _hub(model, revision or "main", offline)


def _model_folder(folder: Path) -> Path:
    if (folder / "config.json").is_file():
        return folder
    children = [child for child in folder.iterdir() if not child.name.startswith(".")]
    if len(children) == 1 and (children[0] / "config.json").is_file():
        return children[0]
    raise ModelUnavailableError(f"The folder {str(folder)!r} has no config.json.", _WAYS)


def _hub(model: str, revision: str, offline: bool) -> Checkpoint:
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json", revision=revision)
    if isinstance(cached, str):
        folder = Path(cached).parent
        # `medgemma plan`, or a download that broke off, leaves a configuration alone.
        if _weights(folder) or _pickled(folder):
            check_safe(folder)
            return Checkpoint(model, folder.name, folder, f"{model}@{folder.name}")
    if offline or constants.HF_HUB_OFFLINE:
        raise ModelUnavailableError(f"{model} is not in the local cache, and offline is on.", _WAYS)
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(model, revision=revision).sha
    except Exception as error:  # whatever the hub client and its HTTP library raise
        raise _unavailable(model, error) from None
    return Checkpoint(model, commit, None, f"{model}@{commit}", revision)


def _unavailable(model: str, error: Exception) -> ModelUnavailableError:
    # The class alone: hub errors carry addresses and request ids.
    return ModelUnavailableError(f"{model} cannot be had ({type(error).__name__}).", _WAYS)


def fetch(checkpoint: Checkpoint, step: Step, *, weights: bool = True) -> Checkpoint:
    """The checkpoint with its files on this machine: downloads, or makes the demo model.

    Without `weights` only a few megabytes are downloaded: configuration and tokenizer.

    Raises:
        ModelUnavailableError: 69. ConfigError: 78, unsafe files.
    """
    if checkpoint.path is not None:
        return checkpoint
    if checkpoint.id == DEMO:
        from medgemma_cli import demo

        return checkpoint._replace(path=demo.convert(step))
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if sys.stderr is None or not sys.stderr.isatty():
        # On a terminal the hub's own bars show; a log gets one line.
        disable_progress_bars()
        step(f"downloading {checkpoint.id}", 0, 0)
    wanted = ["*.json", "*.model", "*.jinja"]
    try:
        path = snapshot_download(
            checkpoint.id,
            revision=checkpoint.branch,  # by its name, so that the cache is found by name, too
            allow_patterns=[*wanted, "*.safetensors"] if weights else wanted,
        )
    except Exception as error:  # whatever the hub client and its HTTP library raise
        raise _unavailable(checkpoint.id, error) from None
    if Path(path).name != checkpoint.revision:
        raise ModelUnavailableError(f"{checkpoint.id} changed while it was fetched.", "Run again.")
    if weights:
        check_safe(Path(path))
    else:
        _check_code(Path(path))
    return checkpoint._replace(path=Path(path))


def config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ConfigError: it cannot be read as JSON.
    """
    try:
        value: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise ConfigError("The model's config.json cannot be read.", "Fetch it again.") from None
    return value


def is_multimodal(settings: dict[str, Any]) -> bool:
    """Whether a checkpoint with this config.json has a vision tower."""
    return "vision_config" in settings


def window(settings: dict[str, Any]) -> int:
    """Longest sequence in tokens: `max_position_embeddings`; Gemma 3's default where absent."""
    text = settings.get("text_config", settings)
    return int(text.get("max_position_embeddings") or 131_072)


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _pickled(folder: Path) -> bool:
    return any(next(folder.glob(kind), None) for kind in ("*.bin", "*.pt", "*.pth"))


def check_safe(folder: Path) -> None:
    """Refuse weights that could run code.

    Raises:
        ConfigError: 78, there is an `auto_map`, or weights but none as safetensors.
        ModelUnavailableError: 69, there are no weights at all.
    """
    _check_code(folder)
    if not _weights(folder):
        if _pickled(folder):
            raise ConfigError(
                "The model's weights are pickles, which can run code when loaded.",
                "Convert them to safetensors, or fetch the safetensors version.",
            )
        raise ModelUnavailableError("The model's folder has no *.safetensors weights.", _WAYS)


def _check_code(folder: Path) -> None:
    names = ["config.json", "tokenizer_config.json", "processor_config.json"]
    for name in [*names, "preprocessor_config.json"]:
        path = folder / name
        if path.is_file() and '"auto_map"' in path.read_text("utf-8", "replace"):
            raise ConfigError(
                "The model brings code of its own (auto_map), which is never run.",
                "Use a checkpoint that transformers knows without custom code.",
            )


def _fingerprint(folder: Path, step: Step | None) -> str:
    """SHA-256 over names and hashes of all files that can change the answer."""
    files = sorted(path for path in folder.iterdir() if _IDENTITY.fullmatch(path.name))
    hashes = file_hashes(files, step)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def file_hashes(files: list[Path], step: Step | None = None) -> dict[str, str]:
    """SHA-256 of files by their names; remembered by path, size and time of change."""
    known = _known_hashes()
    hashes: dict[str, str] = {}
    fresh: dict[str, str] = {}
    for i, path in enumerate(files):
        status = path.stat()
        mark = f"{os.path.realpath(path)}:{status.st_size}:{status.st_mtime_ns}"
        if mark not in known:
            if step is not None:
                step("hashing the weights", i, len(files))
            with path.open("rb") as file:
                fresh[mark] = hashlib.file_digest(file, "sha256").hexdigest()
        hashes[path.name] = known.get(mark) or fresh[mark]
    if fresh:
        _remember({**known, **fresh})
    return hashes


def _known_hashes() -> dict[str, str]:
    try:
        with jsonlines.open(cache_folder() / "hashes.jsonl") as reader:
            return {
                line["file"]: line["sha256"]
                for line in reader.iter(type=dict, skip_invalid=True)
                if isinstance(line.get("file"), str) and isinstance(line.get("sha256"), str)
            }
    except OSError:
        return {}


def _remember(hashes: dict[str, str]) -> None:
    lines = (json.dumps({"file": k, "sha256": v}) + "\n" for k, v in hashes.items())
    try:
        replace_file(cache_folder() / "hashes.jsonl", "".join(lines).encode())
    except OSError:
        return  # a cache that cannot be written costs time, not truth


def parameters(checkpoint: Checkpoint) -> int | None:
    """How many weights: counted in the safetensors headers, or known of a published model.

    The header is a little-endian 8-byte length and that much JSON (the safetensors format).
    """
    if checkpoint.path is None or not _weights(checkpoint.path):
        if checkpoint.id == DEMO:
            from medgemma_cli import demo

            return demo.PARAMETERS
        return _PARAMETERS.get(checkpoint.id)
    total = 0
    for path in _weights(checkpoint.path):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for extent in tensor["shape"]:
                    size *= extent
                total += size
    return total


def memory_needed(weights: int, precision: Precision) -> float:
    """Bytes to load and run a small batch at a precision; an estimate, `auto` counts as bf16."""
    return weights * _BYTES["bf16" if precision == "auto" else precision] + _OVERHEAD
