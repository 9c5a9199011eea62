"""A strategy's state between two calls, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StrategyState:
    """Arrays and scalars from which a strategy continues exactly where it was.

    Small by rule: hyperparameters, counters, warm starts; never the data, never a factor.
    """

    kind: str
    """Name of the strategy that wrote it."""
    schema: int = 1
    """Version of the layout, checked on the way back."""
    scalars: Mapping[str, int | float | str] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """float64 or int64, any shape."""

    def equals(self, other: "StrategyState") -> bool:
        """Compare bit for bit (NaN equals NaN)."""
        return (
            (self.kind, self.schema, dict(self.scalars))
            == (other.kind, other.schema, dict(other.scalars))
            and self.arrays.keys() == other.arrays.keys()
            and all(
                array.dtype == other.arrays[name].dtype
                and array.shape == other.arrays[name].shape
                and array.tobytes() == other.arrays[name].tobytes()
                for name, array in self.arrays.items()
            )
        )
