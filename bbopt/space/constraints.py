"""Known constraints between parameters, in user units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bbopt.space.conditions import Condition


@dataclass(frozen=True, slots=True)
class Linear:
    """``lower <= sum(coefficient * parameter) <= upper``; equal bounds make an equality."""

    coefficients: Mapping[str, float]
    lower: float = float("-inf")
    upper: float = float("inf")


@dataclass(frozen=True, slots=True)
class Simplex:
    """A mixture: the named parameters are non-negative and sum to ``total``."""

    names: tuple[str, ...]
    total: float = 1.0


@dataclass(frozen=True, slots=True)
class Exclude:
    """Points where every one of ``all_of`` holds are forbidden."""

    all_of: tuple[Condition, ...]


Constraint: TypeAlias = Linear | Simplex | Exclude
