"""How the demo model sees: the sizes of its tower, its processor, the tokens of an image."""

from pathlib import Path
from typing import Any

SIDE = 224
IMAGE_TOKENS = 16
VOCABULARY = 262_208
"""As MedGemma has it: the 262,144 tokens of the text model, those of an image, and spare rows."""
TOKENS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
IMAGE_ID, BEGIN_ID, END_ID = 262_144, 255_999, 256_000

# Google's, as the checkpoints of Gemma 3 carry it: a system text goes before the first user turn,
# and a message may be a text or a list of parts.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% if messages[0]['content'] is string %}"
    "{% set first = messages[0]['content'] + '\n\n' %}"
    "{% else %}{% set first = messages[0]['content'][0]['text'] + '\n\n' %}{% endif %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "<start_of_turn>{{ 'model' if turn['role'] == 'assistant' else turn['role'] }}\n"
    "{{ first if loop.first else '' }}"
    "{% if turn['content'] is string %}{{ turn['content'] | trim }}"
    "{% else %}{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def vision_config() -> Any:
    """The tower's sizes: 2.8 million weights, 256 patches of 14 pixels."""
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=3,
        image_size=SIDE,
        patch_size=14,
        vision_use_head=False,
    )


def config(text: Any) -> Any:
    """The configuration of both halves, from the text model's, which gets the image's rows."""
    from transformers import Gemma3Config

    settings = {**text.to_dict(), "vocab_size": VOCABULARY}
    # It came of a GGUF file; what is made of it does not.
    settings.pop("quantization_config", None)
    return Gemma3Config(
        text_config=type(text)(**settings),
        vision_config=vision_config(),
        mm_tokens_per_image=IMAGE_TOKENS,
        image_token_index=IMAGE_ID,
        boi_token_index=BEGIN_ID,
        eoi_token_index=END_ID,
        tie_word_embeddings=True,
    )


def processor(tokenizer: Any) -> Any:
    """What makes ids and pixels of messages and images; its tokenizer needs `TOKENS`."""
    from transformers import Gemma3ImageProcessorPil, Gemma3Processor

    return Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
        image_seq_length=IMAGE_TOKENS,
    )


def tokenizer(folder: Path, **more: Any) -> Any:
    """The tokenizer of a folder, with the tokens of an image named.

    Raises:
        ValueError: they would not stand where Gemma 3 has them.
    """
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, extra_special_tokens=TOKENS, **more
    )
    ids = made.convert_tokens_to_ids(list(TOKENS.values()))
    if ids != [IMAGE_ID, BEGIN_ID, END_ID]:
        raise ValueError("the tokens of an image stand elsewhere")
    made.chat_template = CHAT_TEMPLATE
    return made
