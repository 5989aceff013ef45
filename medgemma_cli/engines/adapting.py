"""LoRA adapters on a loaded model, in place: the model keeps its class, and what calls it.

An adapter is not merged into its base: rounding to bf16, or to 4 bits again, would lose much of
what it learned. Its own weights compute in fp32, as they were trained.
"""

from typing import Any

from medgemma_cli.adapters import WEIGHTS, Adapter
from medgemma_cli.errors import ConfigError

NAME = "default"
PREFIX = "base_model.model."
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def targets(modules: tuple[str, ...]) -> str:
    """An expression for layers of the text model: never the eye, whose layers have these names."""
    return rf"model\.(language_model\.)?layers\.\d+\.(self_attn|mlp)\.({'|'.join(modules)})"


def apply(model: Any, adapter: Adapter) -> None:
    """Put an adapter's layers into a model, quantised or not.

    Raises:
        ConfigError: 78, its weights do not fit the model's.
    """
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.tuners_utils import cast_adapter_dtype
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(adapter.path / WEIGHTS)
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
        # Only layers that have weights: no expression of the adapter's configuration is run.
        layers = sorted({name.partition(".lora_")[0] for name in weights})
        config = LoraConfig(**adapter.settings, target_modules=layers, inference_mode=True)
        inject_adapter_in_model(config, model, NAME)
        cast_adapter_dtype(model, NAME)
        left = set_peft_model_state_dict(model, weights, NAME)
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError):
        # Their messages name layers at length.
        raise _does_not_fit() from None
    if left.unexpected_keys or any(".lora_" in name for name in left.missing_keys):
        raise _does_not_fit()
    model.requires_grad_(False)


def _does_not_fit() -> ConfigError:
    return ConfigError(
        "The adapter does not fit the model: its layers are named or shaped otherwise.",
        "Give the --model that it was made on, or another --adapter.",
    )
