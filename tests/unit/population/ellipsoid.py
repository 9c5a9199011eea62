"""A rotated ellipsoid, and how many evaluations the bare ``cmaes`` package needs for it."""

from collections.abc import Mapping

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from bbopt import Float, Metric, Problem, Space
from bbopt.problem import Goal
from bbopt.space import ParamValue

FloatArray = NDArray[np.float64]
TARGET = 1e-6


class Ellipsoid:
    """Condition 1e6 on ``[-5, 5]`` in every coordinate; its optimum is 0, away from bounds."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.n = n
        self._optimum = rng.uniform(-2.0, 2.0, n)
        self._turned, _ = np.linalg.qr(rng.normal(size=(n, n)))
        self._scales = 10.0 ** (3.0 * np.arange(n) / (n - 1))
        self.problem = Problem(
            Space(tuple(Float(f"x{i}", -5.0, 5.0) for i in range(n))),
            (Metric("loss", goal=Goal.MINIMIZE),),
        )

    def __call__(self, x: FloatArray) -> float:
        return float(np.sum((self._scales * (self._turned @ (x - self._optimum))) ** 2))

    def of(self, parameters: Mapping[str, ParamValue]) -> float:
        return self(np.array([parameters[f"x{i}"] for i in range(self.n)], dtype=np.float64))

    def bare_evaluations(self, seed: int) -> int:
        """Count what the package needs on the unit cube with the same first step."""
        bounds = np.tile([0.0, 1.0], (self.n, 1))
        package = CMA(mean=np.full(self.n, 0.5), sigma=0.2, bounds=bounds, seed=seed)
        n_evaluations = 0
        while True:
            generation = []
            for _ in range(package.population_size):
                x = package.ask()
                value = self(10.0 * x - 5.0)
                n_evaluations += 1
                if value <= TARGET:
                    return n_evaluations
                generation.append((x, value))
            package.tell(generation)
