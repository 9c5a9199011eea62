"""What may vary: one frozen class per kind of parameter, validated when it is built."""

import enum
from dataclasses import dataclass
from typing import TypeAlias

from bbopt.space.conditions import Condition, ParamValue


class Scale(enum.Enum):
    """How a numeric range is stretched onto the unit interval."""

    LINEAR = "linear"
    LOG = "log"
    REVERSE_LOG = "reverse_log"
    """Dense near ``high``: the mirror image of ``LOG``."""
    LOGIT = "logit"
    """Dense near both ends of an interval inside ``(0, 1)``."""


@dataclass(frozen=True, slots=True)
class Float:
    """A real parameter in ``[low, high]``."""

    name: str
    low: float
    high: float
    scale: Scale = Scale.LINEAR
    step: float | None = None
    """Grid ``low, low + step, ...`` up to ``high``; ``None`` for every real value."""
    periodic: bool = False
    """``low`` and ``high`` are the same point (an angle)."""
    active_if: Condition | None = None
    default: float | None = None
    """Suggested first when every default of the space is given."""


@dataclass(frozen=True, slots=True)
class Int:
    """An integer parameter in ``[low, high]``, both ends included."""

    name: str
    low: int
    high: int
    scale: Scale = Scale.LINEAR
    step: int = 1
    active_if: Condition | None = None
    default: int | None = None


@dataclass(frozen=True, slots=True)
class Ordinal:
    """One of an ascending list of numbers."""

    name: str
    values: tuple[float, ...]
    active_if: Condition | None = None
    default: float | None = None


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of a set of unordered names."""

    name: str
    choices: tuple[str, ...]
    active_if: Condition | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Bool:
    """True or false."""

    name: str
    active_if: Condition | None = None
    default: bool | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant that travels with every trial and is not searched."""

    name: str
    value: ParamValue


Parameter: TypeAlias = Float | Int | Ordinal | Categorical | Bool | Fixed
