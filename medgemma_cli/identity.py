"""The key of a piece of work: the same key, the same question. Never the path or the time."""

import hashlib
import json
from typing import Any

from medgemma_cli.records import RECORD_SCHEMA, Limits

# Made once: `json.dumps` makes an encoder at every call that is not all defaults.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest(value: Any) -> str:
    """SHA-256, in hexadecimal, of canonical JSON (sorted names, no spaces, ASCII)."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def settings_digest(
    *,
    template_hash: str,
    question: str | None,
    model: dict[str, Any],
    limits: Limits,
) -> str:
    """What all documents of a run share in their keys.

    `model` holds the engine's name, the fingerprint of weights and tokenizer, the adapter, and
    the precision asked for (what ``auto`` became is in the record).
    """
    return digest(
        {
            "schema": RECORD_SCHEMA,
            "template": template_hash,
            "question": question,
            "model": model,
            "generation": limits.model_dump(exclude_none=True),
        }
    )


def document_key(settings: str, sha256: str, reader: str, limits: tuple[Any, ...]) -> str:
    """The key of bytes that were read, by their SHA-256, the reader's version and its limits."""
    return digest([settings, sha256, reader, list(limits)])


def long_key(key: str, rule: dict[str, Any] | None) -> str | None:
    """The key of a document that turns out to be longer than the window.

    Made of the one it would have if not, and of what is done with long ones: a document that fits
    is answered the same whatever that is, so its key says nothing of it. None without a rule.
    """
    return digest([key, "long", rule]) if rule is not None else None


def unread_key(
    settings: str, path: str, size: int | None, mtime_ns: int | None, limits: tuple[Any, ...]
) -> str:
    """The key of a file that was not read: by path, size, time of change and the limits."""
    return digest([settings, "unread", path, size, mtime_ns, list(limits)])
