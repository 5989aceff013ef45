"""Which documents are whose: a stable split by a hash of the relative path.

What is hashed is the name that the document's summary wants, which follows from its relative path
alone: two documents that would compete for a name are thus in the same shard. A DICOM series is
one document, and so is a pair, by its current document. The rows of a table are split like files,
by their ids where they have some, else by their numbers: one large table is work for all shards.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from medgemma_cli import summaries
from medgemma_cli.errors import UsageError
from medgemma_cli.records import Source

if TYPE_CHECKING:
    from medgemma_cli.pairing.grouping import Sources

MOST = 100_000


class Shard(NamedTuple):
    """One part of a folder's documents: `number`, from 1, of `of`."""

    number: int
    of: int

    @property
    def name(self) -> str:
        """Of its folder: ``3-of-8``."""
        return f"{self.number}-of-{self.of}"

    def holds(self, source: Source) -> bool:
        """Whether a source belongs to it."""
        return part_of(source, self.of) == self.number


def part_of(source: Source, of: int) -> int:
    """The shard of a source, 1 to `of`: the first 64 bits of a SHA-256, modulo `of`, plus 1."""
    name = summaries.output_name(source.name or source.relative)
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(mark[:8]) % of + 1


def parse(text: str) -> Shard:
    """``3/8``.

    Raises:
        UsageError: 2, no two numbers, or the first is not within the second.
    """
    first, slash, last = text.partition("/")
    numbers = all(part.isascii() and part.isdigit() and len(part) < 9 for part in (first, last))
    if not slash or not numbers or not 1 <= int(first) <= int(last) <= MOST:
        raise UsageError(
            "--shard is not i/n, with i from 1 to n.", "Example: --shard 3/8; i counts from 1."
        )
    return Shard(int(first), int(last))


class Portion:
    """The sources of one shard. Each shard walks all of them, and takes its own.

    Attributes:
        whole: all of them.
        total: how many there were in all; None until they were walked to the end.
        listing: a digest of all their names, by which shards see that they walked the same.
        taken: how many were the shard's.
    """

    def __init__(self, sources: "Sources", shard: Shard) -> None:
        self.whole = sources
        self._shard = shard
        self.total: int | None = None
        self.listing: str | None = None
        self.taken = 0

    @property
    def skipped(self) -> Counter[str]:
        """What all of the walk left out, other shards' parts too."""
        return self.whole.skipped

    def __iter__(self) -> Iterator[Source]:
        self.total = self.listing = None
        self.taken, total, names = 0, 0, hashlib.sha256()
        for source in self.whole:
            total += 1
            name = f"{source.relative}\0{source.name}\0"
            if source.prior is not None:  # another earlier document is another pair
                name += f"{source.prior.relative}\0"
            names.update(name.encode("utf-8", "surrogatepass"))
            if self._shard.holds(source):
                self.taken += 1
                yield source
        self.total, self.listing = total, names.hexdigest()
