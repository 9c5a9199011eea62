"""Test problems with structure: measured constraints, conditions, linear constraints."""

import math
from collections.abc import Mapping

from bbopt.problem import Goal, Metric, MetricKind, Noise, Problem
from bbopt.problems.known import KnownProblem
from bbopt.space import Categorical, Equals, Float, Int, Linear, ParamValue, Scale, Space


def constrained_gramacy(noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return Gramacy's problem: a plane under two constraints, one of them wavy.

    Minimise ``x1 + x2`` on the unit square subject to
    ``1.5 - x1 - 2 x2 - 0.5 sin(2 pi (x1^2 - 2 x2)) <= 0`` and ``x1^2 + x2^2 - 1.5 <= 0``.

    Source:
        Gramacy et al. (2016), doi:10.1080/00401706.2015.1014065.
    """

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        a, b = float(parameters["x1"]), float(parameters["x2"])
        wave = math.sin(2.0 * math.pi * (a**2 - 2.0 * b))
        return {
            "total": a + b,
            "wavy": 1.5 - a - 2.0 * b - 0.5 * wave,
            "round": a**2 + b**2 - 1.5,
        }

    problem = Problem(
        Space((Float("x1", 0.0, 1.0), Float("x2", 0.0, 1.0))),
        (
            Metric("total", goal=Goal.MINIMIZE, noise=noise),
            Metric("wavy", MetricKind.CONSTRAINT, upper=0.0, noise=noise),
            Metric("round", MetricKind.CONSTRAINT, upper=0.0, noise=noise),
        ),
    )
    return KnownProblem(
        "constrained_gramacy", problem, evaluate, 0.5998, {"x1": 0.1954, "x2": 0.4044}
    )


def mixed_conditional(noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return a problem with categories, integers, conditions and a linear constraint.

    Choosing a "model" opens its own parameters: ``linear`` has a penalty (best at 1e-2),
    ``tree`` has a depth (best at 7) and a rate on a log scale (best at 0.1). The tree's best
    is better than the linear model's. Shares ``a + b <= 1`` are best at ``(0.3, 0.7)``, on the
    edge of what is allowed. Maximised; the optimum is 1.
    """
    is_tree, is_linear = Equals("model", ("tree",)), Equals("model", ("linear",))
    space = Space(
        (
            Categorical("model", ("linear", "tree", "constant")),
            Float("penalty", 1e-5, 1.0, scale=Scale.LOG, active_if=is_linear),
            Int("depth", 1, 12, active_if=is_tree),
            Float("rate", 1e-3, 1.0, scale=Scale.LOG, active_if=is_tree),
            Float("a", 0.0, 1.0),
            Float("b", 0.0, 1.0),
        ),
        (Linear({"a": 1.0, "b": 1.0}, upper=1.0),),
    )

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        a, b = float(parameters["a"]), float(parameters["b"])
        shares = (a - 0.3) ** 2 + (b - 0.7) ** 2
        match parameters["model"]:
            case "linear":
                miss = (math.log10(float(parameters["penalty"])) + 2.0) / 5.0
                score = 0.7 - 0.3 * miss**2
            case "tree":
                depth = (float(parameters["depth"]) - 7.0) / 11.0
                rate = (math.log10(float(parameters["rate"])) + 1.0) / 3.0
                score = 1.0 - depth**2 - rate**2
            case _:
                score = 0.2
        return {"score": score - shares}

    best: dict[str, ParamValue] = {"model": "tree", "depth": 7, "rate": 0.1, "a": 0.3, "b": 0.7}
    metric = Metric("score", goal=Goal.MAXIMIZE, noise=noise)
    return KnownProblem("mixed_conditional", Problem(space, (metric,)), evaluate, 1.0, best)
