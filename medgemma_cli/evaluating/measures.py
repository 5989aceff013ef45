"""A measure: a figure of a set of documents that can be taken again of any resample of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

Of = Callable[["NDArray[float64]"], "NDArray[float64]"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True, eq=False)
class Measure:
    """What is measured.

    Attributes:
        of: from how often each document counts, of shape (resamples, documents), to the figure
            of each resample; NaN where it is not defined.
        n: what it is taken over: documents, findings, facts, items.
        each: the value of each document alone, where it has one, in the order of the documents.
    """

    name: str
    label: str
    better: Better
    of: Of
    n: int
    each: tuple[float | None, ...] = ()


def ratio(
    name: str,
    label: str,
    better: Better,
    parts: Sequence[float],
    wholes: Sequence[float] | None = None,
) -> Measure:
    """The sum of the parts by the sum of the wholes; a mean where every whole is 1."""
    import numpy as np

    top = np.asarray(parts, float)
    bottom = np.ones(len(top)) if wholes is None else np.asarray(wholes, float)

    def of(counts: "NDArray[float64]") -> "NDArray[float64]":
        total = counts @ bottom
        return np.where(total > 0, counts @ top / np.where(total > 0, total, 1), np.nan)

    each = tuple(
        float(part / whole) if whole else None for part, whole in zip(top, bottom, strict=True)
    )
    return Measure(name, label, better, of, int(bottom.sum()), each)


def difference(before: Measure, after: Measure, size: int) -> Measure:
    """What the second has more than the first, over the same `size` documents: paired."""

    def of(counts: "NDArray[float64]") -> "NDArray[float64]":
        return after.of(counts) - before.of(counts)

    return Measure(after.name, after.label, after.better, of, size)
