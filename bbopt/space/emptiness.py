"""Proof that no point satisfies the constraints, with the constraints that are in conflict.

Needs SciPy: this is for servers and the engine, not for clients.
"""

import math

import numpy as np

from bbopt.errors import EmptyFeasibleSetError
from bbopt.space.codec import Codec
from bbopt.space.constraints import Exclude, as_linear
from bbopt.space.feasibility import numeric_range
from bbopt.space.grid import FloatArray
from bbopt.space.space import Space


def find_conflict(space: Space) -> tuple[int, ...]:
    """Prove by linear programming that a space is empty.

    Integers, ordinals and grids are relaxed to their ranges, and exclusions are ignored: a
    space that is empty only because of these is not recognised.

    Returns:
        Positions of constraints that cannot hold together within the parameters' ranges; none
        can be left out of the conflict. Empty when nothing is proved.
    """
    rows = _rows_of(space)
    suspects = list(rows)
    if not suspects or _has_solution([rows[index] for index in suspects]):
        return ()
    for index in list(suspects):  # Leave out whatever the conflict can do without.
        rest = [other for other in suspects if other != index]
        if not _has_solution([rows[other] for other in rest]):
            suspects = rest
    return tuple(suspects)


def require_nonempty(space: Space) -> None:
    """Refuse a space without a feasible point.

    Raises:
        EmptyFeasibleSetError: It is proved that there is none (the message names the
            constraints in conflict), or none was found in many draws.
    """
    conflict = find_conflict(space)
    if len(conflict) == 1:
        raise EmptyFeasibleSetError(
            f"constraints[{conflict[0]}] cannot hold within the ranges of its parameters"
        )
    if conflict:
        names = ", ".join(f"constraints[{index}]" for index in conflict)
        raise EmptyFeasibleSetError(f"{names} cannot hold together")
    if space.constraints:
        Codec(space).sample(np.random.Generator(np.random.Philox(key=2)), 1)


def _rows_of(space: Space) -> dict[int, tuple[FloatArray, float, float]]:
    """Write each linear constraint as ``lower <= row . u <= upper`` over unit ranges ``u``."""
    position = {name: j for j, name in enumerate(space.names)}
    rows = {}
    for index, constraint in enumerate(space.constraints):
        if isinstance(constraint, Exclude):
            continue
        linear = as_linear(constraint)
        row, offsets = np.zeros(len(position)), []
        for name, coefficient in linear.coefficients.items():
            low, high = numeric_range(space.parameter(name))
            row[position[name]] = coefficient * (high - low)
            offsets.append(coefficient * low)
        norm, offset = float(np.linalg.norm(row)), math.fsum(offsets)
        rows[index] = (
            row / norm,
            (linear.lower - offset) / norm,
            (linear.upper - offset) / norm,
        )
    return rows


def _has_solution(rows: list[tuple[FloatArray, float, float]]) -> bool:
    from scipy.optimize import linprog

    above = [(row, upper) for row, _, upper in rows if math.isfinite(upper)]
    above += [(-row, -lower) for row, lower, _ in rows if math.isfinite(lower)]
    if not above:
        return True
    normals, bounds = [row for row, _ in above], [bound for _, bound in above]
    dim = len(normals[0])
    answer = linprog(np.zeros(dim), A_ub=normals, b_ub=bounds, bounds=[(0.0, 1.0)] * dim)
    return int(answer.status) != 2  # 2: proved infeasible
