"""Where the ``gp`` strategy looks before it has a model: first, and how often."""

from typing import Final

import numpy as np

from bbopt.space import ColumnKind, Fixed
from bbopt.space.conditions import parents
from bbopt.specs import GPSpec
from bbopt.strategies.strategy import Array, StrategyContext

N_INITIAL_SMALL: Final = 5
"""Quasi-random points for up to three searched parameters."""
N_INITIAL: Final = 10
"""For four and more; 5 was better at half the budget and worse at its end."""
N_PER_BRANCH: Final = 4
"""Initial points for each value of a categorical parameter that other parameters hang on. A
branch seen once or twice, at poor values of its own parameters, looks hopeless to the model,
which then polishes the branch that it knows."""


def first_row(context: StrategyContext, *, starts_at_center: bool) -> tuple[Array, str] | None:
    """Return the row of the first ask and its generator's name: the space's defaults, if every
    searched parameter has one, else the middle.
    """
    codec = context.codec
    if codec.dim == 0:
        return None
    point = context.problem.space.default_point()
    if point is not None:
        return codec.encode(point), "default"
    if not starts_at_center:
        return None
    # Of all points the one that is least far from wherever the optimum is.
    rows = codec.snap(np.full((1, codec.dim), 0.5))
    return (rows[0], "center") if bool(codec.is_feasible(rows)[0]) else None


def n_initial(context: StrategyContext, spec: GPSpec) -> int:
    """Return how many points are handed out before models take over."""
    if spec.n_initial is not None:
        return max(1, spec.n_initial)
    n_plain = N_INITIAL if context.codec.dim >= 4 else N_INITIAL_SMALL
    return max(n_plain, N_PER_BRANCH * _n_branches(context))


def _n_branches(context: StrategyContext) -> int:
    """Return the most values of a categorical parameter that others hang on; 0 without one."""
    space = context.problem.space
    hung_on = {
        parent
        for parameter in space.parameters
        if not isinstance(parameter, Fixed) and parameter.active_if is not None
        for parent in parents(parameter.active_if)
    }
    return max(
        (
            column.n_levels
            for column in context.codec.columns
            if column.kind is ColumnKind.CATEGORICAL and column.name in hung_on
        ),
        default=0,
    )
