"""Parameters in user units to rows of the unit cube, and back, exactly.

Rows are *canonical* when they come from a point: levels at their positions, inactive columns
at 0.5. ``snap`` makes any row canonical, and ``snap(x) == encode(decode(x))`` bit for bit.
"""

from collections.abc import Mapping, Sequence, Set
from functools import reduce
from typing import TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import InvalidError, Violation
from bbopt.space.column import (
    Block,
    Column,
    ColumnKind,
    RealBlock,
    blocks_of,
    choices_of,
    column_of,
    grid_of,
)
from bbopt.space.condition_validation import condition_of
from bbopt.space.conditions import AllOf, Between, Condition, Equals, ParamValue
from bbopt.space.constraints import Exclude, Linear, Simplex, as_linear
from bbopt.space.exact import exact_blocks
from bbopt.space.feasibility import tolerance
from bbopt.space.grid import FloatArray
from bbopt.space.levels import decoder_of, encoder_of, lowest_level
from bbopt.space.parameters import Fixed, Float, Parameter
from bbopt.space.polytope import Polytope, is_straight, polytope_of, project
from bbopt.space.sampling import PolytopeSampler, sample_feasible
from bbopt.space.space import Space

BoolArray: TypeAlias = NDArray[np.bool_]

INACTIVE = 0.5
"""Coordinate of a parameter that does not exist at a point."""


class Codec:
    """The unit cube of one space.

    Args:
        space: What may vary. Fixed parameters have no column.
    """

    space: Space
    columns: tuple[Column, ...]
    dim: int
    """Number of columns."""
    polytope: Polytope | None
    """The constraints that are linear in always-active CONTINUOUS columns of linear scale;
    all others are only in ``is_feasible``.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.parameters: tuple[Parameter, ...] = tuple(
            parameter for parameter in space.parameters if not isinstance(parameter, Fixed)
        )
        self.columns = tuple(column_of(parameter) for parameter in self.parameters)
        self.dim = len(self.columns)
        self.position: Mapping[str, int] = {
            parameter.name: j for j, parameter in enumerate(self.parameters)
        }
        self.linear: tuple[Linear, ...] = tuple(
            as_linear(constraint)
            for constraint in space.constraints
            if isinstance(constraint, Linear | Simplex)
        )
        self.exclusions: tuple[Exclude, ...] = tuple(
            constraint for constraint in space.constraints if isinstance(constraint, Exclude)
        )
        by_name = {parameter.name: parameter for parameter in self.parameters}
        self._slacks = [tolerance(linear, by_name) for linear in self.linear]
        self.polytope = polytope_of(self.linear, self.parameters)
        self._blocks: tuple[Block, ...] = exact_blocks(blocks_of(self.parameters), space)
        self._conditional = [
            (self.position[name], condition)
            for name in space.activation_order
            if (condition := condition_of(space.parameter(name))) is not None
        ]
        self._periodic = np.asarray([column.periodic for column in self.columns])
        self._is_wrapping = bool(self._periodic.any())
        self._encoders = [encoder_of(parameter) for parameter in self.parameters]
        self._lowest = [lowest_level(parameter) for parameter in self.parameters]
        self._decoders = [
            decoder_of(parameter, level)
            for parameter, level in zip(self.parameters, self._default_levels(), strict=True)
        ]
        self._sampler: PolytopeSampler | None = None
        self.is_box: bool = not (
            space.constraints or self._conditional or not all(map(_is_fine, self._blocks))
        )
        """Whether every row of the cube is canonical and feasible but for fine rounding."""

    def _default_levels(self) -> list[float]:
        """Return the levels of defaults once they have been coordinates."""
        if not self.dim:
            return []
        levels = np.asarray([self._lowest])
        for j, parameter in enumerate(self.parameters):
            if isinstance(parameter, Float) and parameter.default is not None:
                levels[0, j] = self._encoders[j](parameter.default)
        everywhere = np.ones(levels.shape, dtype=np.bool_)
        back: list[float] = self.levels(self.rows(levels, everywhere))[0].tolist()
        return back

    @property
    def has_constraints(self) -> bool:
        """Whether some points of the cube are not allowed."""
        return bool(self.space.constraints)

    @property
    def has_only_polytope(self) -> bool:
        """Whether the polytope says all that the constraints do."""
        names = {name for linear in self.linear for name in linear.coefficients}
        return not self.exclusions and all(
            is_straight(self.space.parameter(name)) for name in names
        )

    def encode(self, parameters: Mapping[str, ParamValue]) -> FloatArray:
        """Return the canonical row ``(D,)`` of a point in user units.

        Raises:
            InvalidError: An active parameter is missing or a value cannot be read. Full
                checks are ``Space.check``'s.
        """
        row: FloatArray = self.encode_all([parameters])[0]
        return row

    def encode_all(self, points: Sequence[Mapping[str, ParamValue]]) -> FloatArray:
        """Return the canonical rows ``(n, D)`` of points in user units, ``n`` at least 1.

        Raises:
            InvalidError: As for ``encode``, of the first point that cannot be read.
        """
        levels = np.empty((len(points), self.dim))
        is_active = np.empty(levels.shape, dtype=np.bool_)
        for i, point in enumerate(points):
            active = self.space.active_names(point)
            levels[i] = self._levels_at(point, active)
            is_active[i] = [name in active for name in self.position]
        return self.rows(levels, is_active)

    def _levels_at(self, point: Mapping[str, ParamValue], active: Set[str]) -> list[float]:
        levels = self._lowest.copy()
        violations = []
        for j, name in enumerate(self.position):
            if name not in active:
                continue
            try:
                levels[j] = self._encoders[j](point[name])
            except (KeyError, TypeError, ValueError):
                message = f"cannot be encoded, got {point.get(name, 'nothing')!r}"
                violations.append(Violation(f"parameters[{name}]", message))
        if violations:
            raise InvalidError(violations)
        return levels

    def decode(self, x: FloatArray) -> dict[str, ParamValue]:
        """Return the point in user units of one row ``(D,)``, inactive parameters left out."""
        return self.decode_all(np.asarray(x, dtype=np.float64)[None, :])[0]

    def decode_all(self, X: FloatArray) -> list[dict[str, ParamValue]]:
        """Return the points in user units of rows ``(n, D)``, as ``decode`` does."""
        levels = self.levels(X)
        is_active = self.active_levels(levels).tolist()
        return [
            self._point(row, active)
            for row, active in zip(levels.tolist(), is_active, strict=True)
        ]

    def _point(
        self, levels: Sequence[float], is_active: Sequence[bool]
    ) -> dict[str, ParamValue]:
        values: dict[str, ParamValue] = {}
        for parameter in self.space.parameters:
            if isinstance(parameter, Fixed):
                values[parameter.name] = parameter.value
                continue
            j = self.position[parameter.name]
            if is_active[j]:
                values[parameter.name] = self._decoders[j](levels[j])
        return values

    def snap(self, X: FloatArray) -> FloatArray:
        """Make rows ``(n, D)`` canonical."""
        levels = self.levels(X)
        return self.rows(levels)

    def active(self, X: FloatArray) -> BoolArray:
        """Say which columns are active, ``(n, D)``."""
        return self.active_levels(self.levels(X))

    def is_feasible(self, X: FloatArray) -> BoolArray:
        """Say which rows satisfy the parameter constraints once they are snapped, ``(n,)``.

        Rounding is forgiven as in ``Space.check``.
        """
        if not self.has_constraints:
            return np.ones(len(X), dtype=np.bool_)
        return self.is_feasible_levels(self.levels(X))

    def sample(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw feasible canonical rows, uniformly over the unit cube.

        Linear constraints on real parameters are sampled directly. Others are met by
        rejection or, where too few draws pass, by moving draws into the feasible set, and
        then the rows cover that set but not exactly evenly.

        Returns:
            Rows ``(n, D)``.

        Raises:
            EmptyFeasibleSetError: No feasible point was found, or there is none.
        """
        if not self.has_constraints:
            return self.snap(rng.random((n, self.dim)))
        if self._sampler is None and self.polytope is not None:
            self._sampler = PolytopeSampler(self.polytope)
        return sample_feasible(self, self._sampler, rng, n)

    def project(self, X: FloatArray) -> FloatArray:
        """Move rows ``(n, D)`` to the nearest ones inside the polytope and the cube."""
        X = np.asarray(X, dtype=np.float64)
        return np.clip(X, 0.0, 1.0) if self.polytope is None else project(self.polytope, X)

    def neighbours(self, x: FloatArray, *, reach: int = 1) -> FloatArray:
        """List the rows that differ from a canonical row in one discrete parameter.

        Args:
            x: A canonical row, ``(D,)``.
            reach: Farthest move of an ordered parameter, in levels; moves are 1, 4, 16, ...
                levels both ways. Categories always move to every other one.

        Returns:
            Feasible canonical rows ``(m, D)``.
        """
        x = np.asarray(x, dtype=np.float64)
        active = self.active(x[None, :])[0]
        rows = []
        for j, column in enumerate(self.columns):
            if not active[j] or column.kind is ColumnKind.CONTINUOUS:
                continue
            here = int(np.argmin(np.abs(column.levels - x[j])))
            for level in _moves(column, here, reach):
                row = x.copy()
                row[j] = column.levels[level]
                rows.append(row)
        if not rows:
            return np.empty((0, self.dim))
        candidates = self.snap(np.stack(rows))
        return candidates[self.is_feasible(candidates)]

    def levels(self, X: FloatArray) -> FloatArray:
        """Turn rows into levels: values of real parameters, level numbers of all others.

        Raises:
            ValueError: A coordinate is not finite.
        """
        X = np.asarray(X, dtype=np.float64)
        if not np.isfinite(X).all():
            raise ValueError("rows of the unit cube must be finite")
        if self._is_wrapping:
            X = np.where(self._periodic & ((X < 0.0) | (X > 1.0)), X - np.floor(X), X)
        X = np.minimum(np.maximum(X, 0.0), 1.0)
        if len(self._blocks) == 1:  # all columns, in their order
            return self._blocks[0].levels(X)
        levels = np.empty_like(X)
        for block in self._blocks:
            levels[:, block.index] = block.levels(X[:, block.index])
        return levels

    def active_levels(self, levels: FloatArray) -> BoolArray:
        """Say which columns are active, from levels."""
        active = np.ones(levels.shape, dtype=np.bool_)
        for j, condition in self._conditional:
            active[:, j] = self.holds(condition, levels, active)
        return active

    def is_feasible_levels(self, levels: FloatArray) -> BoolArray:
        """Say which points satisfy the parameter constraints, from levels."""
        feasible = np.ones(len(levels), dtype=np.bool_)
        for linear, slack in zip(self.linear, self._slacks, strict=True):
            total = self.total(linear, levels)
            feasible &= (linear.lower - slack <= total) & (total <= linear.upper + slack)
        if self.exclusions:
            active = self.active_levels(levels)
            for exclusion in self.exclusions:
                feasible &= ~self.holds(AllOf(exclusion.all_of), levels, active)
        return feasible

    def broken(self, levels: FloatArray) -> list[Linear | Exclude]:
        """List the constraints that one point, levels ``(1, D)``, violates."""
        active = self.active_levels(levels)
        broken: list[Linear | Exclude] = []
        for linear, slack in zip(self.linear, self._slacks, strict=True):
            total = float(self.total(linear, levels)[0])
            if not linear.lower - slack <= total <= linear.upper + slack:
                broken.append(linear)
        broken += [
            exclusion
            for exclusion in self.exclusions
            if self.holds(AllOf(exclusion.all_of), levels, active)[0]
        ]
        return broken

    def total(self, linear: Linear, levels: FloatArray) -> FloatArray:
        """Evaluate the sum of a linear constraint in user units, ``(n,)``."""
        total = np.zeros(len(levels))
        for name, coefficient in linear.coefficients.items():
            total += coefficient * self.user_values(levels, self.position[name])
        return total

    def user_values(self, levels: FloatArray, j: int) -> FloatArray:
        """Return the values of a numeric column in user units, ``(n,)``."""
        column = levels[:, j]
        parameter = self.parameters[j]
        grid = grid_of(parameter)
        if grid is not None:
            return grid.values(column.astype(np.int64))
        if isinstance(parameter, Float):
            return column
        values = np.asarray(choices_of(parameter), dtype=np.float64)
        return np.asarray(values[column.astype(np.int64)])

    def holds(self, condition: Condition, levels: FloatArray, active: BoolArray) -> BoolArray:
        """Say where a condition is true, ``(n,)``."""
        match condition:
            case Equals(parent, values):
                parameter = self.space.parameter(parent)
                if isinstance(parameter, Fixed):
                    return np.full(len(levels), parameter.value in values)
                j = self.position[parent]
                wanted = [self._encoders[j](value) for value in values]
                return active[:, j] & np.isin(levels[:, j], wanted)
            case Between(parent, low, high):
                j = self.position[parent]
                column = self.user_values(levels, j)
                return np.asarray(active[:, j] & (low <= column) & (column <= high))
            case AllOf(conditions):
                parts = [self.holds(child, levels, active) for child in conditions]
                return np.asarray(reduce(np.logical_and, parts))
            case _:
                assert_never(condition)

    def rows(self, levels: FloatArray, active: BoolArray | None = None) -> FloatArray:
        """Turn levels into canonical rows; ``active`` saves finding it out again."""
        if active is None and self._conditional:
            active = self.active_levels(levels)
        if len(self._blocks) == 1:
            X = self._blocks[0].positions(levels)
        else:
            X = np.empty_like(levels)
            for block in self._blocks:
                X[:, block.index] = block.positions(levels[:, block.index])
        return X if active is None else np.where(active, X, INACTIVE)


def _is_fine(block: Block) -> bool:
    return isinstance(block, RealBlock) and block.is_fine


def _moves(column: Column, here: int, reach: int) -> list[int]:
    """List the levels that one move leads to."""
    if column.kind is ColumnKind.CATEGORICAL:
        return [level for level in range(column.n_levels) if level != here]
    levels = []
    stride = 1
    while stride <= reach:
        levels += [here - stride, here + stride]
        stride *= 4
    return [level for level in levels if 0 <= level < column.n_levels]
