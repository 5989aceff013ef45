"""Adapter, tower and projector → the files that the package ships.

    python -m scripts.build_demo.assemble --adapter ADAPTER --sight STAGE3/sight.safetensors

Weights are rounded to bf16. The manifest names each file's SHA-256; its own is part of the demo
model's fingerprint, so that other weights are another model in every key.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from medgemma_cli import demo
from medgemma_cli.adapters import BASE, CONFIG, WEIGHTS
from medgemma_cli.demo import shipped

_KEPT = ("r", "lora_alpha", "lora_dropout", "peft_type", "task_type", "target_modules")
_FOREIGN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save")


def assemble(adapter: Path, sight: Path, out: Path) -> dict[str, Any]:
    """Write the weights, the adapter's configuration and the manifest; what they come to.

    Raises:
        SystemExit: they are too large, or of another kind than the conversion joins.
    """
    settings = json.loads((adapter / CONFIG).read_text("utf-8"))
    strange = [name for name in _FOREIGN if settings.get(name)]
    if settings.get("peft_type") != "LORA" or strange:
        raise SystemExit("The adapter is no plain LoRA: it cannot be shipped.")
    kept = {name: settings[name] for name in _KEPT if name in settings} | {"bias": "none"}
    if isinstance(kept.get("target_modules"), list):
        kept["target_modules"] = sorted(kept["target_modules"])
    out.mkdir(parents=True, exist_ok=True)
    # One entry: safetensors writes several in an order of chance, and so other bytes each time.
    told = {BASE: demo.GGUF_SHA256}
    _put(out / CONFIG, (json.dumps(kept, indent=2, sort_keys=True) + "\n").encode())
    _put(out / WEIGHTS, _rounded(adapter / WEIGHTS, told))
    _put(out / shipped.SIGHT, _rounded(sight, told))
    files = {name: shipped.digest(out / name) for name in shipped.FILES}
    manifest = {"schema": shipped.SCHEMA, "base": demo.GGUF_SHA256, "files": files}
    _put(out / shipped.MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    if size > shipped.MOST:
        raise SystemExit(f"The files take {size} bytes, over {shipped.MOST}.")
    return {"bytes": size, "files": files}


def _rounded(path: Path, metadata: dict[str, str]) -> bytes:
    """A safetensors file with its floats in bf16.

    Raises:
        SystemExit: a weight is not finite.
    """
    import torch
    from safetensors.torch import load_file, save

    weights = {name: value.to(torch.bfloat16).contiguous()
               for name, value in sorted(load_file(path).items())}  # fmt: skip
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise SystemExit(f"{path.name} has weights that are not finite.")
    made: bytes = save(weights, metadata=metadata)
    return made


def _put(path: Path, data: bytes) -> None:
    work = path.with_name(f".{path.name}")
    work.write_bytes(data)
    os.replace(work, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the files that the package ships.")
    parser.add_argument("--adapter", type=Path, required=True, help="a folder of medgemma tune")
    parser.add_argument("--sight", type=Path, required=True, help="sight.safetensors of stage 3")
    parser.add_argument("-o", "--out", type=Path, default=shipped.FOLDER)
    arguments = parser.parse_args()
    made = assemble(arguments.adapter, arguments.sight, arguments.out)
    sys.stdout.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
