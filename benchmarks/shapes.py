"""Randomly initialised checkpoints of known shapes: they write noise, at the cost of sense.

Everything is made on this machine, without a network: the tokenizer is the demo model's where
that has been converted, else the tests' tiny one filled up to the size of the vocabulary.
"""

import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medgemma_cli import demo
from medgemma_cli.engines.encoding import Encoder

# tests/tiny.py is not installed.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

# Root mean squares as the residual sees them, where an MLP adds 1. What is left of a token's
# embedding at the end must not, the output layer being tied, make it its own successor; and
# attention, which for random weights is the mean of all that came before and hardly changes from
# token to token, must not drown it at the beginning. Answers of one token, repeated, would be
# guessed by any speculative method, and no real answer is like that.
_EMBEDDING = 0.5
_ATTENTION = 0.2
_IMAGE_TOKENS = 256

# google/gemma-3-4b-it; rope and the order of sliding and full layers are the class's defaults.
TEXT_4B = {
    "vocab_size": 262_208,
    "hidden_size": 2560,
    "intermediate_size": 10_240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
}
VISION_4B = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}
# google/gemma-3-270m-it
TEXT_270M = {
    "vocab_size": 262_144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32_768,
}
_IMAGE_NAMES = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}


def folder(name: str, work: Path, device: str) -> Path:
    """The checkpoint of a shape, made if it is not there; renamed into place when whole."""
    target = work / f"shape-{name}"
    if (target / "config.json").is_file():
        return target
    scratch = work / f".{target.name}-{secrets.token_hex(4)}"
    scratch.mkdir(parents=True)
    try:
        _BUILDERS[name](scratch, device)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _tiny(folder: Path, device: str) -> None:
    import tiny  # type: ignore[import-not-found]

    tiny.build(folder)


def _text_270m(folder: Path, device: str) -> None:
    import torch
    from transformers import Gemma3ForCausalLM

    tokenizer = _tokenizer(TEXT_270M["vocab_size"])
    with torch.device(device):
        model = Gemma3ForCausalLM._from_config(text_config(tokenizer), dtype=torch.bfloat16)
    tokenizer.chat_template = demo.CHAT_TEMPLATE
    _save(folder, model, tokenizer, None)


def _medgemma_4b(folder: Path, device: str) -> None:
    import torch
    from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil
    from transformers import Gemma3Processor as Processor

    tokenizer, side = _tokenizer(TEXT_4B["vocab_size"]), VISION_4B["image_size"]
    with torch.device(device):
        model = Gemma3ForConditionalGeneration._from_config(
            config_4b(tokenizer), dtype=torch.bfloat16
        )
    processor = Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": side, "width": side}),
        tokenizer=tokenizer,
        chat_template=demo.CHAT_TEMPLATE,
        image_seq_length=_IMAGE_TOKENS,
    )
    _save(folder, model, tokenizer, processor)


_BUILDERS: dict[str, Callable[[Path, str], None]] = {
    "tiny": _tiny,
    "270m": _text_270m,
    "medgemma-4b": _medgemma_4b,
}
NAMES = tuple(_BUILDERS)


def text_config(tokenizer: Any, sizes: dict[str, int] | None = None) -> Any:
    """The text model's config, by default of 270M."""
    from transformers import Gemma3TextConfig

    return Gemma3TextConfig(
        **(sizes or TEXT_270M),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )


def config_4b(tokenizer: Any) -> Any:
    """The multimodal config of 4B, with this tokenizer's ids for what marks an image."""
    from transformers import Gemma3Config, SiglipVisionConfig

    ids = {name: tokenizer.convert_tokens_to_ids(text) for name, text in _IMAGE_NAMES.items()}
    return Gemma3Config(
        text_config=text_config(tokenizer, TEXT_4B),
        vision_config=SiglipVisionConfig(**VISION_4B, vision_use_head=False),
        mm_tokens_per_image=_IMAGE_TOKENS,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
    )


def _save(folder: Path, model: Any, tokenizer: Any, processor: Any | None) -> None:
    import torch

    weight = model.get_input_embeddings().weight
    count, width = weight.shape
    control = Encoder(tokenizer, processor).control | set(tokenizer.all_special_ids)
    with torch.no_grad():
        weight.normal_(0.0, _EMBEDDING / math.sqrt(width))  # Gemma scales by that root
        for name, parameter in model.named_parameters():
            if name.endswith("post_attention_layernorm.weight"):
                parameter.fill_(_ATTENTION - 1)  # Gemma's norms multiply by 1 and their weight
        # Neither a control token nor a blank is ever the likeliest: such answers would be empty.
        weight[sorted(control | _blank(tokenizer, count))] = 0.0
    turn_end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, turn_end]
    model.save_pretrained(folder)
    (processor or tokenizer).save_pretrained(folder)


def _blank(tokenizer: Any, count: int) -> set[int]:
    """Ids without a visible text, those that the tokenizer does not know among them."""
    texts = tokenizer.batch_decode([[i] for i in range(min(count, len(tokenizer)))])
    blank = {i for i, text in enumerate(texts) if not text.strip()}
    return blank | set(range(len(texts), count))


def _tokenizer(size: int) -> Any:
    """A tokenizer that knows the marks of images and has at most `size` entries."""
    if (converted := demo.converted()) is not None:
        from transformers import AutoTokenizer

        made = AutoTokenizer.from_pretrained(converted, local_files_only=True)._tokenizer
        made = _cut(made, size)
    else:
        made = _filled(size)
    return _wrapped(made, images=size > TEXT_270M["vocab_size"])


def _cut(made: Any, size: int) -> Any:
    """Without what was added behind `size` entries: the mark of an image, which a text has not."""
    from tokenizers import Tokenizer

    if made.get_vocab_size() <= size:
        return made
    value = json.loads(made.to_str())
    value["added_tokens"] = [token for token in value["added_tokens"] if token["id"] < size]
    return Tokenizer.from_str(json.dumps(value))


def _filled(size: int) -> Any:
    """The tests' tokenizer with words that no text is split into, only so that every id is one."""
    import tiny  # type: ignore[import-not-found]
    from tokenizers import Tokenizer

    value = json.loads(tiny._tokenizer()._tokenizer.to_str())
    known = value["model"]["vocab"]
    known |= {f"▁word{i}": i for i in range(len(known), size)}
    return Tokenizer.from_str(json.dumps(value))


def _wrapped(made: Any, *, images: bool) -> Any:
    from transformers import PreTrainedTokenizerFast

    names = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{f"{name}_token": text for name, text in names.items()},
        **({"extra_special_tokens": _IMAGE_NAMES} if images else {}),
    )
