"""A LoRA adapter's layers → weights of the base, summed in fp32 and rounded once at the end."""

from pathlib import Path
from typing import Any, Literal

from medgemma_cli.engines.adapting import NAME
from medgemma_cli.errors import ConfigError

Kind = Literal["bf16", "fp16"]
_SHARD = "5GB"


def merge(model: Any, kind: Kind) -> None:
    """Put the adapter of a loaded model into its weights, then round all of them, in place.

    W + alpha / rank · B A, as PEFT computes it, in fp32 whatever the base was loaded in.

    Raises:
        ConfigError: 78, a layer shares its weights with another, or a sum is not finite.
    """
    layers = _layers(model)
    _check_unshared(model, layers)
    for name, layer in layers.items():
        base = layer.get_base_layer()
        for parameter in base.parameters():
            parameter.data = parameter.data.float()
        try:
            layer.merge(safe_merge=True, adapter_names=[NAME])
        except (ValueError, RuntimeError):
            raise ConfigError(
                "The adapter cannot be merged: a sum is not finite, or a bias has no place.",
                "Use it unmerged with --adapter, or train it again.",
            ) from None
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, base)
    _round(model, kind)


def _layers(model: Any) -> dict[str, Any]:
    """The layers of the adapter, by their names."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: one for name, one in model.named_modules() if isinstance(one, BaseTunerLayer)}


def enable(model: Any, *, on: bool) -> None:
    """Let the adapter's layers compute, or their base's alone."""
    for layer in _layers(model).values():
        layer.enable_adapters(on)


def _check_unshared(model: Any, layers: dict[str, Any]) -> None:
    """An adapter on one of two layers with common weights changes one; merged it would both."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for layer in layers.values():
        if any(owners[id(one)] > 1 for one in layer.get_base_layer().parameters()):
            raise ConfigError(
                "The adapter changes one of two layers that share their weights.",
                "It cannot be merged: use it with --adapter, or train one without lm_head and "
                "embed_tokens.",
            )


def _round(model: Any, kind: Kind) -> None:
    import torch

    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    for parameter in model.parameters():
        parameter.data = parameter.data.to(wanted)
        if not torch.isfinite(parameter.data).all():
            raise ConfigError(
                f"Some weights are not finite in {kind}.",
                "Use --dtype bf16." if kind == "fp16" else "Check the adapter, or train it again.",
            )
    for config in (model.config, *(getattr(model.config, name) for name in _parts(model.config))):
        config.dtype = wanted


def _parts(config: Any) -> list[str]:
    return [name for name in ("text_config", "vision_config") if hasattr(config, name)]


def save(model: Any, folder: Path) -> None:
    """Write weights, config and generation config; the folder may have only these.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder, max_shard_size=_SHARD)
    except SafetensorError as error:
        # Without the class of its own that the system has for it.
        raise OSError(None, "the weights could not be written") from error
