"""The best checkpoint → the two files of an adapter, which name their base."""

import json
from typing import Any

from medgemma_cli.adapters import BASE, BASE_ID, CONFIG, WEIGHTS
from medgemma_cli.errors import StorageError
from medgemma_cli.models import Checkpoint
from medgemma_cli.tuning.book import Book

# What a checkpoint's configuration need not tell others: where things lay on this machine.
_OWN = ("base_model_name_or_path", "revision")


def put_in_place(book: Book, step: int, base: Checkpoint) -> None:
    """Write the adapter of a step's checkpoint into the folder.

    Raises:
        StorageError: 74.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    folder = book.checkpoint(step)
    try:
        weights = load_file(folder / WEIGHTS)
        settings = json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, SafetensorError):
        raise StorageError(
            "The best checkpoint cannot be read.", "Remove the output folder, then run again."
        ) from None
    on_hub = "@" in base.fingerprint
    told = {"format": "pt", BASE: base.fingerprint} | ({BASE_ID: base.id} if on_hub else {})
    book.finish(_config(settings, base if on_hub else None), save(weights, metadata=told))


def _config(settings: dict[str, Any], base: Checkpoint | None) -> bytes:
    kept = {name: value for name, value in settings.items() if name not in _OWN}
    if base is not None:
        kept |= {"base_model_name_or_path": base.id, "revision": base.revision}
    kept["inference_mode"] = True
    return (json.dumps(kept, indent=2, sort_keys=True) + "\n").encode()
