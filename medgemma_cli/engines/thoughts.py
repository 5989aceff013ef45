"""Thought blocks: ``<unused94>thought …<unused95>answer``. They never reach the output.

MedGemma 1.5 may think before it answers, sometimes unasked. A thought that never closes holds no
answer at all.
"""

from collections.abc import Sequence

OPEN = "<unused94>"
CLOSE = "<unused95>"


def strip_thoughts(ids: Sequence[int], opening: int, closing: int) -> tuple[list[int], bool]:
    """Token ids without thought blocks, and whether the last thought was left open."""
    kept: list[int] = []
    thinking = False
    for token in ids:
        if token == opening:
            thinking = True
        elif token == closing:
            thinking = False
        elif not thinking:
            kept.append(token)
    return kept, thinking
