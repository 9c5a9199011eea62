"""Known constraints between parameters, in user units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bbopt.space.conditions import Condition
from bbopt.space.parameters import as_real, as_tuple


@dataclass(frozen=True, slots=True)
class Linear:
    """``lower <= sum(coefficient * parameter) <= upper``; equal bounds make an equality."""

    coefficients: Mapping[str, float]
    lower: float = float("-inf")
    upper: float = float("inf")

    def __post_init__(self) -> None:
        for field in ("lower", "upper"):
            object.__setattr__(self, field, as_real(getattr(self, field)))
        if isinstance(self.coefficients, Mapping):
            own = {name: as_real(value) for name, value in self.coefficients.items()}
            object.__setattr__(self, "coefficients", own)


@dataclass(frozen=True, slots=True)
class Simplex:
    """A mixture: the named parameters are non-negative and sum to ``total``."""

    names: tuple[str, ...]
    total: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", as_tuple(self.names))
        object.__setattr__(self, "total", as_real(self.total))


@dataclass(frozen=True, slots=True)
class Exclude:
    """Points where every one of ``all_of`` holds are forbidden."""

    all_of: tuple[Condition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "all_of", as_tuple(self.all_of))


Constraint: TypeAlias = Linear | Simplex | Exclude


def as_linear(constraint: Linear | Simplex) -> Linear:
    """Write a simplex as the equality that it is; its bounds at zero are the parameters'."""
    if isinstance(constraint, Linear):
        return constraint
    return Linear(dict.fromkeys(constraint.names, 1.0), constraint.total, constraint.total)
