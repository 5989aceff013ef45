"""One tokenizer, several threads: Rust refuses a borrow while another thread changes a setting."""

import threading
from typing import Any

# One for all tokenizers: what is guarded takes microseconds.
_LOCK = threading.Lock()


def split(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """The ids of a text; with `special`, names of control tokens become those tokens."""
    with _LOCK:
        made = tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
    ids: list[int] = made["input_ids"]
    return ids


def join(tokenizer: Any, ids: list[int], *, special: bool = False) -> str:
    """The text of ids, without special tokens unless they are asked for."""
    with _LOCK:
        text: str = tokenizer.decode(ids, skip_special_tokens=not special)
    return text
