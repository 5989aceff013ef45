"""The examples as a whole: their fingerprint, and which of them are kept for validation. Pure."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from medgemma_cli.identity import digest
from medgemma_cli.tuning.examples import Example


def fingerprint(data: bytes, examples: Sequence[Example]) -> str:
    """SHA-256 over a file of examples, and the images and templates that it names."""
    pictures = [shown.sha256 for example in examples for shown in example.pictures]
    templates = sorted({example.template or "" for example in examples})
    return digest([hashlib.sha256(data).hexdigest(), pictures, templates])


def divide(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """For training and for validation: whole groups, by a hash of theirs, in the file's order.

    At least one group is left to train on; one is taken for validation where there are two.
    """
    sizes = Counter(example.group for example in examples)
    groups = sorted(sizes, key=lambda group: digest([seed, group]))
    taken: set[str] = set()
    count = 0
    for group in groups[:-1] if share > 0 else []:
        if taken and count >= round(share * len(examples)):
            break
        taken.add(group)
        count += sizes[group]
    train = [example for example in examples if example.group not in taken]
    return train, [example for example in examples if example.group in taken]
