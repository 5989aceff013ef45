"""What the selected inputs of a run came to."""

from collections import Counter
from dataclasses import dataclass, field

from medgemma_cli.records import Generation, Record


@dataclass
class Totals:
    """Counts current records, cached ones too."""

    status: Counter[str] = field(default_factory=Counter)
    inferred: int = 0
    reused: int = 0
    duplicates: int = 0
    cached: int = 0
    rebuilt: int = 0
    altered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    left: int = 0

    @property
    def documents(self) -> int:
        """How many of the selected inputs have a current record."""
        return sum(self.status.values())

    def answered(self, generation: Generation) -> None:
        """The model was asked."""
        self.inferred += 1
        self.prompt_tokens += generation.usage.prompt_tokens
        self.completion_tokens += generation.usage.completion_tokens

    def committed(self, record: Record) -> None:
        """A record of this run is durable."""
        self.status[record.status] += 1
        self.rules.update(flag.rule for flag in record.flags)
        self.degraded.update(record.degraded)
