"""When a conditional parameter is active: a small tree of tests on its parents.

Conditions tidy what they are given (lists, one bare value); whether they make sense is for
the ``Space`` to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

ParamValue: TypeAlias = float | int | str | bool
"""A parameter's value in user units. Integers stay ``int``, booleans stay ``bool``."""


@dataclass(frozen=True, slots=True)
class Equals:
    """True where ``parent`` is active and has one of ``values``."""

    parent: str
    values: tuple[ParamValue, ...]

    def __post_init__(self) -> None:
        if isinstance(self.values, list | set | frozenset | range):
            object.__setattr__(self, "values", tuple(self.values))
        elif isinstance(self.values, str | bool | int | float):
            object.__setattr__(self, "values", (self.values,))


@dataclass(frozen=True, slots=True)
class Between:
    """True where ``parent`` is active and lies in ``[low, high]``."""

    parent: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AllOf:
    """True where every one of ``conditions`` is true."""

    conditions: "tuple[Condition, ...]"

    def __post_init__(self) -> None:
        if isinstance(self.conditions, list):
            object.__setattr__(self, "conditions", tuple(self.conditions))


Condition: TypeAlias = Equals | Between | AllOf


def parents(condition: Condition) -> frozenset[str]:
    """Name every parameter that a condition looks at."""
    match condition:
        case Equals(parent) | Between(parent):
            return frozenset((parent,))
        case AllOf(conditions):
            return frozenset(name for child in conditions for name in parents(child))
        case _:
            assert_never(condition)


def holds(condition: Condition, active_values: Mapping[str, ParamValue]) -> bool:
    """Say whether a condition is true, given the values of the *active* parameters."""
    match condition:
        case Equals(parent, values):
            return parent in active_values and active_values[parent] in values
        case Between(parent, low, high):
            value = active_values.get(parent)
            return value is not None and not isinstance(value, str) and low <= value <= high
        case AllOf(conditions):
            return all(holds(child, active_values) for child in conditions)
        case _:
            assert_never(condition)
