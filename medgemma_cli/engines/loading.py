"""A checkpoint folder → a model on a device at a precision. The only place that picks a class."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgemma_cli.adapters import Adapter
from medgemma_cli.errors import ModelUnavailableError
from medgemma_cli.records import Precision

_FASTER = "Try --precision nf4 or int8, a smaller --model, or free some memory."

# Never quantised: the output layer, and the eye. SigLIP's rows are no multiple of the 64 weights
# that 4-bit blocks hold, which the CPU kernels need.
_KEPT_WHOLE = ["lm_head", "model.vision_tower", "model.multi_modal_projector"]


@dataclass
class Loaded:
    """A model ready to generate. `processor` is None for checkpoints that read text only."""

    model: Any
    tokenizer: Any
    processor: Any | None
    device: str
    precision: str


def load_tokenizer(folder: Path, multimodal: bool) -> tuple[Any, Any | None]:
    """The tokenizer, and the processor of a multimodal checkpoint. No weights are read.

    Raises:
        ModelUnavailableError: the files are missing or damaged.
    """
    from transformers import AutoProcessor, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        if multimodal:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            return processor.tokenizer, processor
        return AutoTokenizer.from_pretrained(folder, local_files_only=True), None
    except (OSError, ValueError, KeyError) as error:
        raise _damaged("tokenizer", error) from None


def _damaged(what: str, error: Exception) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"The model's {what} cannot be loaded ({type(error).__name__}).",
        "Fetch the checkpoint again; `medgemma doctor --model …` checks it.",
    )


def pick_device(wanted: str) -> str:
    """``auto`` → cuda, else mps, else cpu.

    Called before anything else of torch: see `_large_pages`.

    Raises:
        ModelUnavailableError: 69, the device asked for is not there.
    """
    _large_pages()
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    there = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available(),
    }
    kind, _, index = wanted.partition(":")
    found = there.get(kind, False)
    if found and kind == "cuda" and index:
        found = index.isdigit() and int(index) < torch.cuda.device_count()
    if not found:
        raise ModelUnavailableError(
            f"The device {wanted!r} is not here.", "Use --device auto, or see `medgemma doctor`."
        )
    return wanted


def _large_pages() -> None:
    """Let torch ask Linux for large pages on the CPU: its temporaries cost fewer page faults."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def pick_precision(wanted: Precision, device: str) -> Precision:
    """``auto`` → bf16 where the device computes in it, else fp32. Never fp16: Gemma 3 overflows."""
    if wanted != "auto":
        return wanted
    import torch

    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device == "cpu":
        return "bf16" if _cpu_has_bf16() else "fp32"
    return "bf16"


def _cpu_has_bf16() -> bool:
    import torch

    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())


def free_memory(device: str) -> float:
    """Bytes free on the device; main memory for the CPU and for Apple's shared memory."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def device_name(device: str) -> str:
    """The device by its make: one cache folder may serve machines that have other ones."""
    if device.startswith("cuda"):
        import torch

        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device} with {os.cpu_count()} cores"


def _arguments(precision: Precision, double_quant: bool) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    if precision == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=_KEPT_WHOLE)
    elif precision in ("nf4", "fp4"):
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=precision,
            bnb_4bit_use_double_quant=double_quant,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=_KEPT_WHOLE,
        )
    else:
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return {"dtype": kinds[precision]}
    # Without a dtype the unquantised rest would load in fp16, which overflows.
    return {"dtype": torch.bfloat16, "quantization_config": config}


def load_model(
    folder: Path,
    *,
    multimodal: bool,
    precision: Precision,
    device: str,
    double_quant: bool,
    adapter: Adapter | None = None,
) -> Any:
    """Load the weights, then the adapter; safetensors only, no code of the checkpoint's own.

    Raises:
        ModelUnavailableError: 69, it does not fit, or the files are damaged.
        ConfigError: 78, the adapter is one of another model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    try:
        model = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            device_map={"": device},
            **_arguments(precision, double_quant),
        )
    except torch.OutOfMemoryError:
        raise ModelUnavailableError(
            f"The model does not fit on {device} at {precision}.", _FASTER
        ) from None
    except (OSError, ValueError, KeyError, SafetensorError, ImportError) as error:
        raise _damaged(f"weights at {precision}", error) from None
    if adapter is not None:
        from medgemma_cli.engines import adapting

        adapting.apply(model, adapter)
    return model.eval()
