"""LoRA adapters on a loaded model: to answer with, in place, or to learn on.

An adapter is not merged into its base: rounding to bf16, or to 4 bits again, would lose much of
what it learned. Its own weights compute in fp32, as they were trained.
"""

import contextlib
import re
from collections.abc import Iterator
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
    """Put an adapter's layers into a model, quantised or not; it keeps its class.

    Raises:
        ConfigError: 78, its weights do not fit the model's.
    """
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.tuners_utils import cast_adapter_dtype

    with _fitting():
        weights = _weights(adapter)
        config = LoraConfig(
            **adapter.settings, target_modules=_layers(weights), inference_mode=True
        )
        inject_adapter_in_model(config, model, NAME)
        cast_adapter_dtype(model, NAME)
        _check_all(set_peft_model_state_dict(model, weights, NAME))
    model.requires_grad_(False)


def trainable(model: Any, adapter: Adapter, dropout: float) -> Any:
    """A PEFT model whose layers begin as an adapter's, and alone can learn.

    Raises:
        ConfigError: 78, its weights do not fit the model's, or some are not the text model's.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    model.requires_grad_(False)
    with _fitting():
        weights = _weights(adapter)
        layers = _layers(weights)
        if not all(re.fullmatch(targets(MODULES), layer) for layer in layers):
            raise ConfigError(
                "The adapter of --from changes other layers than the text model's.",
                "Only those are trained here: give another adapter.",
            )
        config = LoraConfig(
            **adapter.settings,
            lora_dropout=dropout,
            target_modules=_briefly(model, layers),
            task_type="CAUSAL_LM",
        )
        made = get_peft_model(model, config)
        named = {f"{PREFIX}{name}": tensor for name, tensor in weights.items()}
        _check_all(set_peft_model_state_dict(made, named, NAME))
    return made


def _weights(adapter: Adapter) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights = load_file(adapter.path / WEIGHTS)
    return {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}


def _layers(weights: dict[str, Any]) -> list[str]:
    """Only layers that have weights: no expression of the adapter's configuration is run."""
    return sorted({name.partition(".lora_")[0] for name in weights})


def _briefly(model: Any, layers: list[str]) -> str | list[str]:
    """The expression of `targets`, where it stands for just these layers of the model."""
    used = {layer.rpartition(".")[2] for layer in layers}
    meant = targets(tuple(name for name in MODULES if name in used))
    found = sorted(name for name, _ in model.named_modules() if re.fullmatch(meant, name))
    return meant if found == layers else layers


def _check_all(left: Any) -> None:
    if left.unexpected_keys or any(".lora_" in name for name in left.missing_keys):
        raise _does_not_fit()


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Whatever a library says of weights that do not fit, as ours."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError):
        # Their messages name layers at length.
        raise _does_not_fit() from None


def _does_not_fit() -> ConfigError:
    return ConfigError(
        "The adapter does not fit the model: its layers are named or shaped otherwise.",
        "Give the --model that it was made on, or another adapter.",
    )
