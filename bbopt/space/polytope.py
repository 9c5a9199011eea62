"""The linear constraints as a polytope in the unit cube, and projection onto it.

Only constraints whose parameters are all real, of linear scale, without a step and always
active are linear in unit-cube coordinates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bbopt.space.column import ColumnKind, column_of
from bbopt.space.constraints import Linear
from bbopt.space.grid import FloatArray, IntArray
from bbopt.space.parameters import Float, Parameter, Scale

MAX_SWEEPS = 1000
"""Of the dual ascent of a projection; a handful is usual."""
MAX_NEWTON_STEPS = 60
ACCURACY = 1e-11
"""Largest violation left by a projection, in unit-cube lengths."""


@dataclass(frozen=True, slots=True)
class Polytope:
    """``A x <= b`` and ``E x == e`` over all ``D`` columns; every row has Euclidean norm 1."""

    A: FloatArray
    b: FloatArray
    E: FloatArray
    e: FloatArray

    @property
    def columns(self) -> IntArray:
        """The columns that take part, ascending."""
        involved = (self.A != 0).any(axis=0) | (self.E != 0).any(axis=0)
        return np.asarray(np.flatnonzero(involved), dtype=np.int64)

    def violation(self, X: FloatArray) -> FloatArray:
        """Return the largest violation of each row of ``X``, 0 where there is none."""
        above = np.maximum(X @ self.A.T - self.b, 0.0).max(axis=1, initial=0.0)
        off = np.abs(X @ self.E.T - self.e).max(axis=1, initial=0.0)
        return np.asarray(np.maximum(above, off))

    def restricted(self, columns: IntArray) -> "Polytope":
        """Keep some columns, and the rows that involve any of them."""
        A, E = self.A[:, columns], self.E[:, columns]
        above, equal = (A != 0).any(axis=1), (E != 0).any(axis=1)
        return Polytope(A[above], self.b[above], E[equal], self.e[equal])

    def components(self) -> list[IntArray]:
        """Group the columns that take part so that no constraint spans two groups."""
        groups: list[set[int]] = []
        for row in np.concatenate([self.A, self.E]):
            touched = set(np.flatnonzero(row).tolist())
            apart = [group for group in groups if not group & touched]
            together = touched.union(*(group for group in groups if group & touched))
            groups = [*apart, together]
        return [np.asarray(sorted(group), dtype=np.int64) for group in groups]


def is_straight(parameter: Parameter) -> bool:
    """Whether a parameter is a linear function of its unit-cube coordinate wherever it is."""
    return (
        isinstance(parameter, Float)
        and parameter.scale is Scale.LINEAR
        and parameter.step is None
        and parameter.active_if is None
        and column_of(parameter).kind is ColumnKind.CONTINUOUS
    )


def polytope_of(linear: Sequence[Linear], parameters: Sequence[Parameter]) -> Polytope | None:
    """Collect the constraints that are linear in the unit cube; ``None`` if none is."""
    position = {parameter.name: j for j, parameter in enumerate(parameters)}
    above: list[tuple[FloatArray, float]] = []
    equal: list[tuple[FloatArray, float]] = []
    for constraint in linear:
        row = np.zeros(len(parameters))
        offset = []
        for name, coefficient in constraint.coefficients.items():
            parameter = parameters[position[name]]
            if not isinstance(parameter, Float) or not is_straight(parameter):
                break
            row[position[name]] = coefficient * (parameter.high - parameter.low)
            offset.append(coefficient * parameter.low)
        else:
            norm = float(np.linalg.norm(row))
            shift = math.fsum(offset)
            low, high = (constraint.lower - shift) / norm, (constraint.upper - shift) / norm
            if constraint.lower == constraint.upper:
                equal.append((row / norm, low))
                continue
            above += [(row / norm, high)] if math.isfinite(high) else []
            above += [(-row / norm, -low)] if math.isfinite(low) else []
    if not above and not equal:
        return None
    return Polytope(*_stacked(above, len(parameters)), *_stacked(equal, len(parameters)))


def project(polytope: Polytope, X: FloatArray) -> FloatArray:
    """Find the nearest point of polytope and cube to each row.

    The projection is ``clip(y - E' nu - A' mu, 0, 1)`` with multipliers ``nu`` and
    ``mu >= 0``; they are found one at a time, each exactly (a monotone piecewise linear
    equation), until no constraint is violated.

    Args:
        polytope: What must hold; not empty within the cube.
        X: Rows ``(n, D)``.

    Returns:
        Rows ``(n, D)``. Columns that take part in no constraint are only clipped.
    """
    Y = np.clip(np.asarray(X, dtype=np.float64), 0.0, 1.0)
    todo = np.flatnonzero(polytope.violation(Y) > 0.0)
    if len(todo) == 0:
        return Y
    normals = np.concatenate([polytope.A, polytope.E])
    bounds = np.concatenate([polytope.b, polytope.e])
    n_above = len(polytope.A)
    # From here on unclipped: the nearest point of the intersection is sought, and clipping
    # first would find the nearest one to the clipped row.
    start = np.asarray(X, dtype=np.float64)[todo]
    multipliers = np.zeros((len(todo), len(normals)))
    for _ in range(MAX_SWEEPS):
        for j, (normal, bound) in enumerate(zip(normals, bounds, strict=True)):
            multipliers[:, j] = 0.0
            rest = start - multipliers @ normals
            multipliers[:, j] = _multiplier(rest, normal, bound, is_above=j < n_above)
        Y[todo] = np.clip(start - multipliers @ normals, 0.0, 1.0)
        if len(normals) == 1 or (polytope.violation(Y[todo]) <= ACCURACY).all():
            break
    return Y


def _multiplier(
    rest: FloatArray, normal: FloatArray, bound: float, *, is_above: bool
) -> FloatArray:
    """Solve ``normal . clip(rest - t normal, 0, 1) = bound`` for ``t``, row by row.

    For an inequality ``t`` is 0 where it already holds. Newton steps on a decreasing
    piecewise linear function, kept inside a bracket.
    """
    inside = normal != 0
    a = normal[inside]
    R = rest[:, inside]
    farthest = np.maximum(np.abs(R), np.abs(R - 1.0)) / np.abs(a)  # all clipped beyond
    high = farthest.max(axis=1)
    low = np.zeros(len(R)) if is_above else -high
    t = np.zeros(len(R))
    for _ in range(MAX_NEWTON_STEPS):
        moved = R - t[:, None] * a
        excess = np.clip(moved, 0.0, 1.0) @ a - bound
        free = (moved > 0.0) & (moved < 1.0)
        slope = free @ (a * a)
        low, high = np.where(excess > 0, t, low), np.where(excess < 0, t, high)
        done = np.abs(excess) <= 0.1 * ACCURACY
        if is_above:
            done |= (t == 0.0) & (excess <= 0)
        if done.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = t + excess / slope
        middle = 0.5 * (low + high)
        is_inside = (newton > low) & (newton < high) & (slope > 0)
        t = np.where(done, t, np.where(is_inside, newton, middle))
    return t


def _stacked(rows: list[tuple[FloatArray, float]], dim: int) -> tuple[FloatArray, FloatArray]:
    normals = np.stack([row for row, _ in rows]) if rows else np.empty((0, dim))
    return normals, np.asarray([bound for _, bound in rows], dtype=np.float64)
