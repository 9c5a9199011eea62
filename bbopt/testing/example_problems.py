"""Small problems on which the contract of strategies is checked, and something to measure."""

import zlib

from bbopt.problem import Goal, Metric, MetricKind, Problem
from bbopt.space import (
    Bool,
    Categorical,
    Equals,
    Exclude,
    Float,
    Int,
    Linear,
    Ordinal,
    ParamValue,
    Scale,
    Space,
)
from bbopt.trial import Trial


def box_problem(n: int = 2) -> Problem:
    """Return ``n`` real parameters and one maximised metric."""
    space = Space(tuple(Float(f"x{i + 1}", -1.0, 1.0) for i in range(n)))
    return Problem(space, (Metric("score", goal=Goal.MAXIMIZE),))


def constrained_problem() -> Problem:
    """Return two real parameters, a maximised metric and a bound on a second one."""
    return Problem(
        box_problem().space,
        (
            Metric("score", goal=Goal.MAXIMIZE),
            Metric("load", MetricKind.CONSTRAINT, upper=0.5),
        ),
    )


def mixed_problem(*, has_polytope: bool = False) -> Problem:
    """Return every kind of parameter, conditions, an exclusion and a linear constraint.

    Args:
        has_polytope: Whether the linear constraint is on real parameters only.
    """
    other = "b" if has_polytope else "size"
    limit = 1.5 if has_polytope else 100.0
    is_tree = Equals("model", ("tree",))
    space = Space(
        (
            Categorical("model", ("tree", "linear", "constant")),
            Int("depth", 1, 8, active_if=is_tree),
            Float("rate", 1e-4, 1.0, scale=Scale.LOG, active_if=is_tree),
            Ordinal("size", (8.0, 16.0, 64.0)),
            Bool("shuffle"),
            Float("a", 0.0, 1.0),
            Float("b", 0.0, 1.0),
            Float("angle", 0.0, 360.0, periodic=True),
        ),
        (
            Linear({"a": 1.0, other: 2.0}, upper=limit),
            Exclude((Equals("model", ("linear",)), Equals("shuffle", (True,)))),
        ),
    )
    return Problem(space, (Metric("score", goal=Goal.MAXIMIZE),))


def ordered_problem() -> Problem:
    """Return every kind of parameter that has an order or two values, always active."""
    space = Space(
        (
            Int("depth", 1, 8),
            Float("rate", 1e-4, 1.0, scale=Scale.LOG),
            Int("width", 1, 512, scale=Scale.LOG),
            Ordinal("size", (8.0, 16.0, 64.0)),
            Bool("shuffle"),
            Float("a", 0.0, 1.0),
            Float("angle", 0.0, 360.0, periodic=True),
        ),
    )
    return Problem(space, (Metric("score", goal=Goal.MAXIMIZE),))


def measure(trial: Trial) -> float:
    """Return a smooth function of a trial's numbers plus something for each of its names."""
    return sum(_part(name, value) for name, value in sorted(trial.parameters.items()))


def _part(name: str, value: ParamValue) -> float:
    if isinstance(value, str | bool):
        return (zlib.crc32(f"{name}{value}".encode()) % 100) / 100.0
    return -((float(value) - 0.3) ** 2) / (1.0 + abs(float(value)))
