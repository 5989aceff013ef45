"""A text model, an adapter and an eye → one `Gemma3ForConditionalGeneration`."""

import json
from pathlib import Path
from typing import Any

from medgemma_cli.adapters import CONFIG, WEIGHTS

END_OF_TURN = 106
"""`<end_of_turn>` of every Gemma 3."""
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


def merge(model: Any, folder: Path) -> None:
    """Add a LoRA adapter's product to its base, in fp32; the sum is rounded once.

    W + alpha / r · B A (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1).

    Raises:
        ValueError: its layers are not the model's, or it is no plain LoRA.
    """
    import torch
    from safetensors.torch import load_file

    settings = json.loads((folder / CONFIG).read_text("utf-8"))
    if any(settings.get(name) for name in ("use_rslora", "use_dora", "rank_pattern")):
        raise ValueError("only plain LoRA is merged")
    scale = settings["lora_alpha"] / settings["r"]
    weights = load_file(folder / WEIGHTS)
    layers = {name.removesuffix(_A) for name in weights if name.endswith(_A)}
    if {layer + end for layer in layers for end in (_A, _B)} != set(weights):
        raise ValueError("the adapter has weights of another kind")
    for layer in sorted(layers):
        try:
            weight = model.get_submodule(layer.removeprefix(_PREFIX)).weight
        except AttributeError:
            raise ValueError("the adapter has layers that the model has not") from None
        change = weights[layer + _B].float() @ weights[layer + _A].float()
        if change.shape != weight.shape:
            raise ValueError("the adapter's layers are of another shape")
        with torch.no_grad():
            weight.copy_(weight.float() + scale * change)


def join(text: Any, sight: Path, config: Any) -> Any:
    """Both halves in one model; the text model's tensors are taken, not copied.

    Args:
        text: a `Gemma3ForCausalLM` whose output is its embedding.
        sight: weights named ``vision_tower.…`` and ``multi_modal_projector.…``.
        config: of both; rows beyond the text model's vocabulary get its last row's weights, an
            unused token's.

    Raises:
        ValueError, RuntimeError: the weights are not those of the configuration.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import Gemma3ForConditionalGeneration

    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(config)
    embedding = text.get_input_embeddings()
    spare = config.text_config.vocab_size - embedding.weight.shape[0]
    rows = torch.cat([embedding.weight.data, embedding.weight.data[-1:].expand(spare, -1)])
    embedding.weight = torch.nn.Parameter(rows, requires_grad=False)
    embedding.num_embeddings = config.text_config.vocab_size
    model.model.language_model = text.model
    model.lm_head.weight = embedding.weight
    weights = load_file(sight)
    parts: dict[str, Any] = {"vision_tower": config.vision_config, "multi_modal_projector": config}
    if not all(name.partition(".")[0] in parts for name in weights):
        raise ValueError("the eye has weights of another kind")
    for name, settings in parts.items():
        # Anew, and not on "meta", where what is no weight (positions) would stay undefined.
        part = type(getattr(model.model, name))(settings)
        own = {n.partition(".")[2]: v for n, v in weights.items() if n.startswith(f"{name}.")}
        part.load_state_dict(own)
        setattr(model.model, name, part.to(rows.dtype))
    stop = [config.text_config.eos_token_id, END_OF_TURN]
    model.generation_config.eos_token_id = [token for token in stop if token is not None]
    return model.eval()
