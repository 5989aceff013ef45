"""A tiny, randomly initialised multimodal Gemma 3: SigLIP tower, processor, tokenizer, all real."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.records import Contract, Image, Limits, Message, Part, Prompt

MakeEngine = Callable[..., LocalEngine]

NOTES = Path(__file__).parent.parent / "raw" / "notes"
IMAGE_TOKENS = 4
WINDOW = 4096

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}<start_of_turn>"
    "{{ 'model' if turn['role'] == 'assistant' else turn['role'] }}\n"
    "{{ first if loop.first else '' }}{{ turn['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def _tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    turns = ["<start_of_turn>", "<end_of_turn>"]
    image = ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    unused = [f"<unused{i}>" for i in range(99)]
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    octets = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=[*special, "[multimodal]", *unused, *turns, *octets, *image],
        show_progress=False,
    )
    texts = [path.read_text("utf-8") for path in sorted(NOTES.rglob("*")) if path.is_file()]
    made.train_from_iterator(texts, trainer)
    # The trainer declares octets and [multimodal] special; in Gemma they are plain vocabulary.
    vocabulary = Tokenizer.from_str(_without_special(made.to_str(), {*octets, "[multimodal]"}))
    vocabulary.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in [*special, *turns, *unused, *image]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=vocabulary,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )


def _without_special(serialised: str, plain: set[str]) -> str:
    import json

    value = json.loads(serialised)
    value["added_tokens"] = [t for t in value["added_tokens"] if t["content"] not in plain]
    return json.dumps(value)


def build(folder: Path) -> Path:
    """Save model, processor and tokenizer into the folder with `save_pretrained`."""
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    tokenizer = _tokenizer()
    known = tokenizer.get_vocab()
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=64,
        max_position_embeddings=WINDOW,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        tie_word_embeddings=False,  # or the last token would be its own best successor
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=IMAGE_TOKENS,
        image_token_index=known["<image_soft_token>"],
        boi_token_index=known["<start_of_image>"],
        eoi_token_index=known["<end_of_image>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config).eval()
    # Wide random logits, so that prompts give different answers instead of one repeated token.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
        # A special token's logit is then 0, which the best of 1,500 others always beats.
        model.get_output_embeddings().weight[tokenizer.all_special_ids] = 0.0
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, known["<end_of_turn>"]]
    model.save_pretrained(folder)
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
        image_seq_length=IMAGE_TOKENS,
    )
    processor.save_pretrained(folder)
    return folder


def picture(shade: int, side: int = 8) -> Image:
    """A square of one grey."""
    return Image(width=side, height=side, rgb=bytes([shade]) * (3 * side * side))


def prompt(
    name: str,
    text: str = "",
    *,
    images: tuple[Image, ...] = (),
    schema: str = "",
    tokens: int = 12,
) -> Prompt:
    """A prompt with a system text, a document and a question."""
    parts = [Part(kind="image") for _ in images]
    if text:
        parts.append(Part(kind="document", text=text))
    parts.append(Part(kind="text", text="\n\nWhat does it say?"))
    return Prompt(
        id=name,
        messages=(
            Message(role="system", parts=(Part(kind="text", text="You assist a clinician."),)),
            Message(role="user", parts=tuple(parts)),
        ),
        images=images,
        contract=Contract(kind="json" if schema else "text", json_schema=schema),
        limits=Limits(max_new_tokens=tokens),
    )
