"""Smooth test functions on boxes, all minimised.

Source:
    Surjanovic & Bingham, Virtual Library of Simulation Experiments,
    https://www.sfu.ca/~ssurjano, for formulas and optima.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.problem import Goal, Metric, Noise, Problem
from bbopt.problems.known import KnownProblem
from bbopt.space import Float, ParamValue, Space

Array = NDArray[np.float64]

HARTMANN_ALPHA: Final = np.array([1.0, 1.2, 3.0, 3.2])
HARTMANN_A: Final = np.array(
    [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ]
)
HARTMANN_P: Final = 1e-4 * np.array(
    [
        [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
        [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
        [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
        [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
    ]
)


def branin(noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return Branin: two parameters, three equal optima."""
    space = Space((Float("x1", -5.0, 10.0), Float("x2", 0.0, 15.0)))

    def value(x: Array) -> float:
        b, c, t = 5.1 / (4.0 * math.pi**2), 5.0 / math.pi, 1.0 / (8.0 * math.pi)
        curve = x[1] - b * x[0] ** 2 + c * x[0] - 6.0
        return float(curve**2 + 10.0 * (1.0 - t) * math.cos(x[0]) + 10.0)

    return _minimised("branin", space, value, 0.39788735772973816, (math.pi, 2.275), noise)


def hartmann6(noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return Hartmann-6: six parameters, six local optima."""

    def value(x: Array) -> float:
        inner = (HARTMANN_A * (x - HARTMANN_P) ** 2).sum(axis=1)
        return float(-(HARTMANN_ALPHA * np.exp(-inner)).sum())

    best = (0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)
    return _minimised("hartmann6", _box(6, 0.0, 1.0), value, -3.322368011415515, best, noise)


def levy(d: int = 8, noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return Levy in ``d`` dimensions: a bowl under a regular pattern of waves."""

    def value(x: Array) -> float:
        w = 1.0 + (x - 1.0) / 4.0
        first = np.sin(math.pi * w[0]) ** 2
        waves = 1.0 + 10.0 * np.sin(math.pi * w[:-1] + 1.0) ** 2
        middle = ((w[:-1] - 1.0) ** 2 * waves).sum()
        last = (w[-1] - 1.0) ** 2 * (1.0 + np.sin(2.0 * math.pi * w[-1]) ** 2)
        return float(first + middle + last)

    return _minimised(f"levy{d}", _box(d, -10.0, 10.0), value, 0.0, (1.0,) * d, noise)


def ackley(d: int = 4, noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return Ackley in ``d`` dimensions: almost flat, with one deep hole."""

    def value(x: Array) -> float:
        radius = math.sqrt(float(np.mean(x**2)))
        waves = float(np.mean(np.cos(2.0 * math.pi * x)))
        return -20.0 * math.exp(-0.2 * radius) - math.exp(waves) + 20.0 + math.e

    return _minimised(f"ackley{d}", _box(d, -32.768, 32.768), value, 0.0, (0.0,) * d, noise)


def rosenbrock(d: int = 4, noise: Noise = Noise.LEARNED) -> KnownProblem:
    """Return Rosenbrock in ``d`` dimensions: a curved valley with steep walls."""

    def value(x: Array) -> float:
        steps = x[1:] - x[:-1] ** 2
        return float((100.0 * steps**2 + (x[:-1] - 1.0) ** 2).sum())

    return _minimised(f"rosenbrock{d}", _box(d, -5.0, 10.0), value, 0.0, (1.0,) * d, noise)


def _box(d: int, low: float, high: float) -> Space:
    return Space(tuple(Float(f"x{i + 1}", low, high) for i in range(d)))


def _minimised(
    name: str,
    space: Space,
    value: Callable[[Array], float],
    optimum: float,
    best: tuple[float, ...],
    noise: Noise,
) -> KnownProblem:
    names = tuple(parameter.name for parameter in space.parameters)

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        x = np.array([float(parameters[each]) for each in names])
        return {"value": value(x)}

    metric = Metric("value", goal=Goal.MINIMIZE, noise=noise)
    return KnownProblem(
        name,
        Problem(space, (metric,)),
        evaluate,
        optimum,
        dict(zip(names, best, strict=True)),
    )
