"""Examples for the tests of tuning, of texts and images, how to write them, and the command."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from medgemma_cli.errors import USAGE, MedgemmaError

WORDS = "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron"
# Quick on the tiny checkpoint: large steps, no dropout, every example in each step.
FAST = ("--learning-rate", "0.02", "--dropout", "0", "--rank", "8", "--alpha", "16")
FAST += ("--batch-size", "8", "--accumulate", "1", "--precision", "fp32", "--device", "cpu")


def taught(word: str) -> str:
    """What the model is to say where it sees the word."""
    return f"{word.upper()} {word[::-1]}."


def chat(user: Any, answer: Any) -> dict[str, Any]:
    """An example of one question and its answer."""
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


def draw(path: Path, shade: int) -> Path:
    """A grey PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 255 - shade, shade)).save(path)
    return path


def mixed(folder: Path) -> list[dict[str, Any]]:
    """Eight examples: notes, questions, a conversation and images, each with its own answer."""
    notes = [
        {"template": "general", "document": f"Note on {word}.", "output": taught(word)}
        for word in WORDS[:2]
    ]
    questions = [
        {"template": "general", "question": f"Say {word}.", "output": taught(word)}
        for word in WORDS[2:5]
    ]
    shown = [
        {"template": "general", "image": f"{word}.png", "question": "What?", "output": taught(word)}
        for word in WORDS[5:7]
    ]
    for shade, word in ((0, WORDS[5]), (255, WORDS[6])):
        draw(folder / f"{word}.png", shade)
    return [*notes, *questions, *shown, chat(f"Tell {WORDS[7]}.", taught(WORDS[7]))]


def write(path: Path, rows: Iterable[object]) -> Path:
    """A file of JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def told(folder: Path) -> dict[str, Any]:
    """The training.json of a folder."""
    value: dict[str, Any] = json.loads((folder / "training.json").read_text("utf-8"))
    return value


def text_only(folder: Path) -> Path:
    """A tiny Gemma 3 without a vision tower, with the tokenizer of `tiny`."""
    import tiny
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = tiny._tokenizer()
    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=64,
        max_position_embeddings=tiny.WINDOW,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(config).eval()
    end = tokenizer.get_vocab()["<end_of_turn>"]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def foreign(folder: Path, **changes: Any) -> Path:
    """An adapter as others write it, of one layer; it fits no model in particular."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"} | changes
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    weights = {name.format("A"): torch.ones(2, 64), name.format("B"): torch.ones(64, 2)}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


class Result(NamedTuple):
    """What a command came to."""

    returncode: int
    stderr: str


Command = Callable[..., Result]


def run(*args: object) -> int:
    """The exit code of a command; what it says of an error goes to the standard error."""
    from medgemma_cli.cli import _CannotParse, app

    try:
        return int(app([str(arg) for arg in args], standalone_mode=False) or 0)
    except MedgemmaError as error:
        print(f"medgemma: {error.message}\n  {error.next_step}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except _CannotParse:
        return USAGE


class Taught(NamedTuple):
    """An adapter, the examples it learned, and how long that took in seconds."""

    adapter: Path
    folder: Path
    rows: list[dict[str, Any]]
    seconds: float
