"""Small problems on which the contract of strategies is checked, and something to measure."""

import math
import zlib
from dataclasses import replace
from typing import Final

from bbopt.problem import Fidelity, Goal, Metric, MetricKind, Noise, Problem
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
from bbopt.specs import find_unsupported
from bbopt.strategies import capabilities_of
from bbopt.trial import Trial

FIDELITY: Final = Fidelity("epochs", 1, 9)


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


def with_needed_fidelity(problem: Problem, spec: object) -> Problem:
    """Give a problem the fidelity without which the strategy makes no sense."""
    if not capabilities_of(spec).needs_fidelity:
        return problem
    return replace(problem, fidelity=FIDELITY)


def can_handle(spec: object, problem: Problem) -> bool:
    """Whether the strategy promises to work on a problem."""
    wanted = with_needed_fidelity(problem, spec)
    return not find_unsupported(wanted, capabilities_of(spec), name="it")


def discrete_problem(spec: object, noise: Noise) -> Problem:
    """Return 12 points, some of them without an order if the strategy can handle that."""
    metrics = (Metric("score", goal=Goal.MAXIMIZE, noise=noise),)
    colours = Categorical("c", ("red", "green", "blue"))
    problem = Problem(Space((Int("n", 1, 4), colours)), metrics)
    if can_handle(spec, problem):
        return problem
    return Problem(Space((Int("n", 1, 4), Ordinal("c", (1.0, 2.0, 4.0)))), metrics)


def varied_problem(spec: object) -> Problem:
    """Return the problem with the most kinds of parameters that the strategy can handle."""
    for problem in (mixed_problem(), ordered_problem()):
        if can_handle(spec, problem):
            return problem
    return box_problem()


def measure(trial: Trial) -> float:
    """Return a smooth function of a trial's numbers plus something for each of its names."""
    return sum(_part(name, value) for name, value in sorted(trial.parameters.items()))


def _part(name: str, value: ParamValue) -> float:
    if isinstance(value, str | bool):
        return (zlib.crc32(f"{name}{value}".encode()) % 100) / 100.0
    return -((float(value) - 0.3) ** 2) / (1.0 + abs(float(value)))


def measure_constrained(trial: Trial) -> dict[str, float]:
    """Return both metrics of ``constrained_problem``: a twentieth of its space is feasible, and
    the best value there is 1.2536.
    """
    x, y = float(trial.parameters["x1"]), float(trial.parameters["x2"])
    return {"score": x + y, "load": 2.0 * math.hypot(x - 0.3, y - 0.6)}
