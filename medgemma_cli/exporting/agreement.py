"""How well a merged model says what base and adapter say. Pure."""

from typing import Any, NamedTuple


class Difference(NamedTuple):
    """Absolute differences of log-probabilities, in natural logarithms."""

    greatest: float
    mean: float


class Agreement(NamedTuple):
    """What the comparison came to.

    Attributes:
        merged: the written model against base and adapter.
        adapter: base and adapter against the base alone: what there was to keep.
        greedy: answer tokens that are the likeliest of both, and all of them. The greedy answers
            are the same where all are.
        values: how many log-probabilities were compared.
    """

    merged: Difference
    adapter: Difference
    greedy: tuple[int, int]
    prompts: int
    values: int

    def within(self, tolerance: float) -> bool:
        """Whether no difference is over the tolerance; one that is not a number is."""
        return self.merged.greatest <= tolerance and self.merged.mean <= tolerance

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "merged": self.merged._asdict(),
            "adapter": self.adapter._asdict(),
            "greedy": {"same": self.greedy[0], "of": self.greedy[1]},
            "prompts": self.prompts,
            "values": self.values,
        }

    def words(self) -> str:
        """For people."""
        same, of = self.greedy
        tokens = "all" if same == of else f"{same} of"
        return (
            f"log-probabilities differ from those of base and adapter by "
            f"{self.merged.greatest:.3g} at most, {self.merged.mean:.2g} in the mean (what the "
            f"adapter changes: {self.adapter.greatest:.3g}, {self.adapter.mean:.2g}); "
            f"{tokens} {of} greedy tokens are the same"
        )
