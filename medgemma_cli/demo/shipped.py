"""What the package brings of the demo model, and is it whole. Torch-free.

`manifest.json` names each file with its SHA-256; its own hash stands for them all.
"""

import hashlib
import json
from pathlib import Path

from medgemma_cli.adapters import CONFIG, WEIGHTS
from medgemma_cli.errors import ModelUnavailableError

FOLDER = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"
SIGHT = "sight.safetensors"
FILES = (CONFIG, WEIGHTS, SIGHT)
SCHEMA = "medgemma.demo/1"
MOST = 15_000_000
"""Bytes that all files together may take."""


def fingerprint() -> str:
    """The SHA-256 of the manifest.

    Raises:
        ModelUnavailableError: 69, it is missing.
    """
    return hashlib.sha256(_manifest()).hexdigest()


def check() -> None:
    """See that every file is the one that the manifest names.

    Raises:
        ModelUnavailableError: 69, one is missing or another.
    """
    try:
        told = json.loads(_manifest())["files"]
        whole = sorted(told) == sorted(FILES) and all(
            digest(FOLDER / name) == expected for name, expected in told.items()
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise _damaged("damaged (a SHA-256 differs)")


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest() -> bytes:
    try:
        return (FOLDER / MANIFEST).read_bytes()
    except OSError:
        raise _damaged("missing") from None


def _damaged(how: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"The demo model's adapter or eye is {how}.",
        "pip install --force-reinstall --no-cache-dir 'medgemma-cli[demo]'",
    )
