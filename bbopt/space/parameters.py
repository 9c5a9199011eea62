"""What may vary: one frozen class per kind of parameter.

A parameter on its own only tidies what it was given (``scale="log"``, lists, NumPy scalars,
an ``int`` where a ``float`` is meant). Whether it makes sense is for the ``Space`` to say, so
that every fault of a space is reported at once.
"""

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from bbopt.space.conditions import Condition, ParamValue
from bbopt.space.grid import Grid

T = TypeVar("T")


class Scale(enum.Enum):
    """How a numeric range is stretched onto the unit interval."""

    LINEAR = "linear"
    LOG = "log"
    REVERSE_LOG = "reverse_log"
    """Dense near ``high``: the mirror image of ``LOG``."""
    LOGIT = "logit"
    """Dense near both ends of an interval inside ``(0, 1)``."""


def plain(value: T) -> T:
    """Turn a NumPy scalar into the Python object it stands for; leave the rest alone."""
    return value.item() if isinstance(value, np.generic) else value


def as_real(value: T) -> "T | float":
    """Turn an integer (never a bool) into a float; leave everything else alone."""
    value = plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)
    return value


def as_tuple(values: T) -> "T | tuple[Any, ...]":
    """Turn a list (or other sequence but text) into a tuple; leave everything else alone."""
    return tuple(values) if isinstance(values, list | range | np.ndarray) else values


def _as_scale(scale: Scale) -> Scale:
    """Turn a scale's name into the scale; leave everything else alone."""
    names = {member.value: member for member in Scale}
    return names.get(scale.lower(), scale) if isinstance(scale, str) else scale


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

    def __post_init__(self) -> None:
        for field in ("low", "high", "step", "default"):
            object.__setattr__(self, field, as_real(getattr(self, field)))
        object.__setattr__(self, "scale", _as_scale(self.scale))

    @property
    def grid(self) -> Grid | None:
        """The values it may take if it has a step."""
        return None if self.step is None else Grid(self.low, self.high, self.step)


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

    def __post_init__(self) -> None:
        for field in ("low", "high", "step", "default"):
            object.__setattr__(self, field, plain(getattr(self, field)))
        object.__setattr__(self, "scale", _as_scale(self.scale))

    @property
    def grid(self) -> Grid:
        """The values it may take."""
        return Grid(float(self.low), float(self.high), float(self.step))


@dataclass(frozen=True, slots=True)
class Ordinal:
    """One of an ascending list of numbers."""

    name: str
    values: tuple[float, ...]
    active_if: Condition | None = None
    default: float | None = None

    def __post_init__(self) -> None:
        values = as_tuple(self.values)
        if isinstance(values, tuple):
            values = tuple(as_real(value) for value in values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "default", as_real(self.default))


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of a set of unordered names."""

    name: str
    choices: tuple[str, ...]
    active_if: Condition | None = None
    default: str | None = None

    def __post_init__(self) -> None:
        choices = as_tuple(self.choices)
        if isinstance(choices, tuple):
            choices = tuple(plain(choice) for choice in choices)
        object.__setattr__(self, "choices", choices)


@dataclass(frozen=True, slots=True)
class Bool:
    """True or false."""

    name: str
    active_if: Condition | None = None
    default: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "default", plain(self.default))


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant that travels with every trial and is not searched."""

    name: str
    value: ParamValue

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", plain(self.value))


Parameter: TypeAlias = Float | Int | Ordinal | Categorical | Bool | Fixed
