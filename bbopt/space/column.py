"""Columns of the unit cube: what each one stands for, and blocks of columns that are
converted together.

Between parameters and rows there is a third form, *levels*: the value itself for a real
parameter, the position in its list of values for every other.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from bbopt.space.conditions import ParamValue
from bbopt.space.grid import FloatArray, Grid, IntArray
from bbopt.space.parameters import (
    Bool,
    Categorical,
    Fixed,
    Float,
    Int,
    Ordinal,
    Parameter,
    Scale,
)
from bbopt.space.scales import FINEST, Stretch

MAX_DISCRETE_LEVELS = 1024
"""A number with more levels than this is a CONTINUOUS column that snaps to its levels:
nobody can enumerate them, and the gap between two of them is small.
"""
FINEST_UNIT = 8.0 * FINEST
"""What coordinates of real parameters are rounded to, unless doubles are coarser than that."""


class ColumnKind(enum.Enum):
    """How a column may be searched."""

    CONTINUOUS = "continuous"
    DISCRETE = "discrete"
    """Ordered levels: an integer, an ordinal, a stepped real number."""
    CATEGORICAL = "categorical"
    """Unordered levels; a bool is one with two."""


@dataclass(frozen=True, slots=True)
class Column:
    """One coordinate of the unit cube."""

    name: str
    kind: ColumnKind
    n_levels: int
    """0 for CONTINUOUS."""
    levels: FloatArray = field(repr=False, compare=False)
    """Unit-cube positions of the levels, ascending, ``(n_levels,)``."""
    periodic: bool = False


def grid_of(parameter: Parameter) -> Grid | None:
    """Return the evenly spaced values of an integer or stepped parameter."""
    return parameter.grid if isinstance(parameter, Float | Int) else None


def choices_of(parameter: Parameter) -> tuple[ParamValue, ...]:
    """Return the listed values of an ordinal, categorical or bool parameter."""
    match parameter:
        case Ordinal(values=values):
            return values
        case Categorical(choices=choices):
            return choices
        case Bool():
            return (False, True)
        case Float() | Int() | Fixed():
            return ()
        case _:
            assert_never(parameter)


@dataclass(frozen=True, slots=True)
class RealBlock:
    """Real parameters of one scale."""

    index: IntArray
    """Their columns, ``(c,)``."""
    stretch: Stretch
    is_fine: bool
    """Whether doubles are much finer than the rounding of coordinates, everywhere."""

    @classmethod
    def of(
        cls, index: IntArray, low: FloatArray, high: FloatArray, scale: Scale
    ) -> "RealBlock":
        """Build one from the ends of the ranges."""
        stretch = Stretch.of(low, high, scale)
        unit = _power_above(stretch.worst_resolution())
        return cls(index, stretch, bool((unit == FINEST_UNIT).all()))

    def levels(self, x: FloatArray) -> FloatArray:
        """Turn unit-cube coordinates ``(n, c)`` into values."""
        return self.stretch.from_unit(x)

    def positions(self, levels: FloatArray) -> FloatArray:
        """Turn values ``(n, c)`` into canonical coordinates.

        A coordinate is rounded to a power of two that is coarser than what rounding in the
        transforms and in the value itself can amount to. So ``positions(levels(.))`` leaves
        a canonical coordinate alone, bit for bit. The second pass is for values next to
        where the power of two changes.
        """
        if self.is_fine:
            x = np.rint(self.stretch.to_unit(levels) / FINEST_UNIT) * FINEST_UNIT
            return np.asarray(x)
        return self._rounded(self.stretch.from_unit(self._rounded(levels)))

    def unit(self, levels: FloatArray) -> FloatArray:
        """Return what the coordinates of values ``(n, c)`` are rounded to."""
        if self.is_fine:
            return np.full(levels.shape, FINEST_UNIT)
        return _power_above(self.stretch.resolution(levels))

    def _rounded(self, levels: FloatArray) -> FloatArray:
        unit = self.unit(levels)
        x = np.rint(self.stretch.to_unit(levels) / unit) * unit
        return np.asarray(np.minimum(x, 1.0))


@dataclass(frozen=True, slots=True)
class EvenBlock:
    """Parameters whose levels share the unit interval equally."""

    index: IntArray
    n_levels: FloatArray

    def levels(self, x: FloatArray) -> FloatArray:
        """Turn unit-cube coordinates ``(n, c)`` into level numbers."""
        return np.asarray(np.minimum(np.floor(x * self.n_levels), self.n_levels - 1))

    def positions(self, levels: FloatArray) -> FloatArray:
        """Turn level numbers into the centres of their cells."""
        return np.asarray((levels + 0.5) / self.n_levels)


@dataclass(frozen=True, slots=True)
class GridBlock:
    """Integers and stepped numbers on one scale that is not linear.

    Level ``k`` sits where the scale puts its value; half a step is added at both ends, so
    that the first and last level have a whole cell.
    """

    index: IntArray
    step: FloatArray
    stretch: Stretch
    start: FloatArray
    """Where the stretched interval, with the added half steps, begins and how long it is."""
    length: FloatArray

    @classmethod
    def of(cls, index: IntArray, grids: Sequence[Grid], scale: Scale) -> "GridBlock":
        """Build one from grids."""
        low = np.asarray([grid.low for grid in grids])
        high = np.asarray([grid.value(grid.n_levels - 1) for grid in grids])
        step = np.asarray([grid.step for grid in grids])
        stretch = Stretch.of(low, high, scale)
        below = stretch.to_unit(low + 0.5 * step)
        above = 1.0 - stretch.to_unit(high - 0.5 * step)
        return cls(index, step, stretch, -below, 1.0 + below + above)

    def levels(self, x: FloatArray) -> FloatArray:
        """Turn unit-cube coordinates ``(n, c)`` into level numbers."""
        inside = np.minimum(np.maximum(self.start + x * self.length, 0.0), 1.0)
        values = self.stretch.from_unit(inside)
        return np.asarray(np.rint((values - self.stretch.low) / self.step))

    def positions(self, levels: FloatArray) -> FloatArray:
        """Turn level numbers into positions in the unit interval."""
        values = np.minimum(self.stretch.low + levels * self.step, self.stretch.high)
        return np.asarray((self.stretch.to_unit(values) - self.start) / self.length)


Block = RealBlock | EvenBlock | GridBlock


def blocks_of(parameters: Sequence[Parameter]) -> tuple[Block, ...]:
    """Group parameters (none of them ``Fixed``) into blocks that convert together."""
    real: dict[Scale, list[int]] = {}
    even: list[int] = []
    gridded: dict[Scale, list[int]] = {}
    for j, parameter in enumerate(parameters):
        grid = grid_of(parameter)
        if isinstance(parameter, Float) and grid is None:
            real.setdefault(parameter.scale, []).append(j)
        elif isinstance(parameter, Float | Int) and parameter.scale is not Scale.LINEAR:
            gridded.setdefault(parameter.scale, []).append(j)
        else:
            even.append(j)
    blocks: list[Block] = [
        RealBlock.of(_index(js), *_bounds([parameters[j] for j in js]), scale)
        for scale, js in real.items()
    ]
    if even:
        counts = [float(n_levels_of(parameters[j])) for j in even]
        blocks.append(EvenBlock(_index(even), np.asarray(counts)))
    for scale, js in gridded.items():
        grids = [grid for grid in map(grid_of, (parameters[j] for j in js)) if grid is not None]
        blocks.append(GridBlock.of(_index(js), grids, scale))
    return tuple(blocks)


def n_levels_of(parameter: Parameter) -> int:
    """Return how many values a parameter has; 0 for a real one."""
    grid = grid_of(parameter)
    return len(choices_of(parameter)) if grid is None else grid.n_levels


def column_of(parameter: Parameter) -> Column:
    """Describe the column of a parameter that is not ``Fixed``."""
    n_levels = n_levels_of(parameter)
    periodic = isinstance(parameter, Float) and parameter.periodic
    if n_levels == 0 or n_levels > MAX_DISCRETE_LEVELS:
        nothing = np.empty(0)
        return Column(parameter.name, ColumnKind.CONTINUOUS, 0, nothing, periodic)
    is_unordered = isinstance(parameter, Categorical | Bool)
    kind = ColumnKind.CATEGORICAL if is_unordered else ColumnKind.DISCRETE
    (block,) = blocks_of([parameter])
    levels = block.positions(np.arange(n_levels, dtype=np.float64)[:, None])[:, 0]
    levels.setflags(write=False)
    return Column(parameter.name, kind, n_levels, levels, periodic)


def has_permanent_real(parameters: Iterable[Parameter]) -> bool:
    """Whether a real parameter with a continuous column is active at every point of a space, so
    that no point is met twice.
    """
    return any(
        isinstance(parameter, Float)
        and parameter.active_if is None
        and column_of(parameter).kind is ColumnKind.CONTINUOUS
        for parameter in parameters
    )


def _power_above(gap: FloatArray) -> FloatArray:
    """Return the power of two that is 4 to 8 times a gap."""
    return np.asarray(np.exp2(np.frexp(4.0 * gap)[1]))


def _index(columns: list[int]) -> IntArray:
    return np.asarray(columns, dtype=np.int64)


def _bounds(parameters: Sequence[Parameter]) -> tuple[FloatArray, FloatArray]:
    reals = [parameter for parameter in parameters if isinstance(parameter, Float)]
    low = np.asarray([parameter.low for parameter in reals])
    return low, np.asarray([parameter.high for parameter in reals])
