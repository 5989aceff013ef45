"""What a number may mean, and where it stands: readings and quantities."""

from typing import NamedTuple

from medgemma_cli.safety.grounding.units import Unit


class Reading(NamedTuple):
    """One way to read a number: its kind and values, in the unit's own measure."""

    kind: str
    values: tuple[float, ...]
    unit: Unit | None = None


class Quantity(NamedTuple):
    """A number as it stands at tokens `first` up to `last`, the likely reading first."""

    readings: tuple[Reading, ...]
    first: int
    last: int
    decimals: int = 0
    vague: bool = False
    weak: bool = False
    label: str = ""

    @property
    def kind(self) -> str:
        """The kind of its likely reading."""
        return self.readings[0].kind

    @property
    def unit(self) -> Unit | None:
        """The unit of its likely reading."""
        return self.readings[0].unit
