"""Functions on which the choices of the engine are checked; none was chosen by them.

Every function is zero at its optimum, which the seed moves to another place (or, where a
function cannot be moved, mirrors), so that no place is better than others from the start. They
share no function with ``benchmarks.suite``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bbopt.problem import Goal, Metric, MetricKind, Noise, Problem
from bbopt.space import Categorical, Float, Int, Parameter, ParamValue, Space
from benchmarks.suite import SuiteProblem

Array: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[Array], float]

SHIFT: Final = 0.6
"""The optimum is anywhere within this part of the half width from the middle."""
MICHALEWICZ_5: Final = -4.687658179
"""Least value in five dimensions."""


# ---------------------------------------------------------------------- functions, least at 0


def styblinski_tang(z: Array) -> float:
    """Return a sum of quartics of two valleys each, one deeper than the other."""
    x = z - 2.9035340277
    return float(0.5 * np.sum(x**4 - 16.0 * x**2 + 5.0 * x) + 39.16616570377 * len(z))


def dixon_price(z: Array) -> float:
    """Return the value of a curved valley; its optimum is at ``2^(2^(1-i) - 1)``."""
    i = np.arange(1, len(z) + 1)
    x = z + 2.0 ** (2.0 ** (1.0 - i) - 1.0)
    return float((x[0] - 1.0) ** 2 + np.sum(i[1:] * (2.0 * x[1:] ** 2 - x[:-1]) ** 2))


def zakharov(z: Array) -> float:
    """Return the value of a smooth bowl, ill-conditioned along one direction."""
    along = float(np.sum(0.5 * np.arange(1, len(z) + 1) * z))
    return float(np.sum(z**2) + along**2 + along**4)


def griewank(z: Array) -> float:
    """Return a bowl with many regular local optima."""
    waves = np.prod(np.cos(z / np.sqrt(np.arange(1, len(z) + 1))))
    return float(1.0 + np.sum(z**2) / 4000.0 - waves)


def salomon(z: Array) -> float:
    """Return the value of rings round the optimum, one hardly better than the next."""
    radius = float(np.linalg.norm(z))
    return 1.0 - math.cos(2.0 * math.pi * radius) + 0.1 * radius


def shekel(z: Array) -> float:
    """Return the value among ten narrow holes in four dimensions.

    Source:
        Dixon & Szegő (1978), "The global optimization problem: an introduction".
    """
    centers = np.array(
        [
            [4.0, 1.0, 8.0, 6.0, 3.0, 2.0, 5.0, 8.0, 6.0, 7.0],
            [4.0, 1.0, 8.0, 6.0, 7.0, 9.0, 3.0, 1.0, 2.0, 3.6],
            [4.0, 1.0, 8.0, 6.0, 3.0, 2.0, 5.0, 8.0, 6.0, 7.0],
            [4.0, 1.0, 8.0, 6.0, 7.0, 9.0, 3.0, 1.0, 2.0, 3.6],
        ]
    ).T
    widths = np.array([1.0, 2.0, 2.0, 4.0, 4.0, 6.0, 3.0, 7.0, 5.0, 5.0]) / 10.0
    x = z + np.array([4.00074687, 3.99950948, 4.00074687, 3.99950948])
    holes = 1.0 / (np.sum((x - centers) ** 2, axis=1) + widths)
    return max(0.0, 10.53644315348 - float(holes.sum()))


def michalewicz(t: Array) -> float:
    """Return the value among steep ridges on ``[0, pi]^5``; not a function of z."""
    i = np.arange(1, len(t) + 1)
    return max(
        0.0, -float(np.sum(np.sin(t) * np.sin(i * t**2 / math.pi) ** 20)) - MICHALEWICZ_5
    )


def six_hump_camel(z: Array) -> float:
    """Return the value among six valleys in two dimensions, the deepest two equally deep."""
    x, y = z + np.array([0.0898420131, -0.7126564033])
    value = (4.0 - 2.1 * x**2 + x**4 / 3.0) * x**2 + x * y + (4.0 * y**2 - 4.0) * y**2
    return float(value) + 1.0316284535


def powell(z: Array) -> float:
    """Return Powell's function of four variables, flat along two directions at its optimum."""
    a, b, c, d = z
    return float(
        (a + 10.0 * b) ** 2 + 5.0 * (c - d) ** 2 + (b - 2.0 * c) ** 4 + 10.0 * (a - d) ** 4
    )


def exponential(z: Array) -> float:
    """Return the depth of one smooth hole, flat far from it."""
    return 1.0 - math.exp(-0.5 * float(np.sum(z**2)))


def trid(z: Array) -> float:
    """Return a quadratic in which each variable works against its neighbour."""
    return float(np.sum(z**2) - np.sum(z[1:] * z[:-1]))


def powers(z: Array) -> float:
    """Return a bowl that is flatter in each further variable."""
    return float(np.sum(np.abs(z) ** np.arange(2, len(z) + 2)))


def _norm(z: Array) -> float:
    return float(np.linalg.norm(z))


# ---------------------------------------------------------------------- problems


def _reals(d: int, half_width: float) -> tuple[Float, ...]:
    return tuple(Float(f"x{i}", -half_width, half_width) for i in range(d))


def _values(parameters: Mapping[str, ParamValue], d: int) -> Array:
    return np.array([float(parameters[f"x{i}"]) for i in range(d)])


def _moved(
    function: Function, d: int, half_width: float, *, noise_sd: float = 0.0
) -> Callable[[int], SuiteProblem]:
    """Return the maker of a continuous problem whose optimum the seed puts somewhere."""

    def make(seed: int) -> SuiteProblem:
        at = np.random.default_rng([seed, d]).uniform(-SHIFT, SHIFT, d) * half_width

        def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
            return {"value": function(_values(parameters, d) - at)}

        problem = Problem(Space(_reals(d, half_width)), (Metric("value", goal=Goal.MINIMIZE),))
        return SuiteProblem(problem, evaluate, 0.0, noise_sd)

    return make


def _michalewicz(seed: int) -> SuiteProblem:
    """Return Michalewicz's function, some axes of which the seed turns round."""
    is_turned = np.random.default_rng([seed, 5]).random(5) < 0.5

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        x = _values(parameters, 5)
        return {"value": michalewicz((np.where(is_turned, -x, x) + 1.0) * (math.pi / 2.0))}

    problem = Problem(Space(_reals(5, 1.0)), (Metric("value", goal=Goal.MINIMIZE),))
    return SuiteProblem(problem, evaluate, 0.0)


def _constrained(seed: int) -> SuiteProblem:
    """Return a rotated ellipsoid whose optimum lies on the edge of a half space."""
    rng = np.random.default_rng([seed, 4])
    at = rng.uniform(-SHIFT, SHIFT, 4)
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    normal = rng.standard_normal(4)
    normal /= np.linalg.norm(normal)
    weights = np.array([1.0, 3.0, 10.0, 30.0])

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        z = _values(parameters, 4) - at
        # Linear along the normal, so that the optimum is at ``at``, where the edge passes.
        rounded = float(np.sum(weights * (rotation @ z) ** 2))
        return {"value": rounded + 5.0 * float(normal @ z), "edge": -float(normal @ z)}

    metrics = (
        Metric("value", goal=Goal.MINIMIZE),
        Metric("edge", MetricKind.CONSTRAINT, upper=0.0),
    )
    return SuiteProblem(Problem(Space(_reals(4, 1.0)), metrics), evaluate, 0.0)


def _mixed(
    function: Function, n_reals: int, n_choices: int, n_levels: int, half_width: float
) -> Callable[[int], SuiteProblem]:
    """Return the maker of a problem with reals, an integer, and choices of which one is right.

    A wrong choice counts as a distance from the optimum, which depends on the choice.
    """

    def make(seed: int) -> SuiteProblem:
        rng = np.random.default_rng([seed, n_reals, n_choices])
        at = rng.uniform(-SHIFT, SHIFT, n_reals) * half_width
        wrong = rng.uniform(0.3, 1.0, (n_choices, n_levels)) * half_width
        wrong[np.arange(n_choices), rng.integers(n_levels, size=n_choices)] = 0.0
        right_number = int(rng.integers(2, 9))
        parameters: tuple[Parameter, ...] = (
            *_reals(n_reals, half_width),
            Int("n", 0, 10),
            *(
                Categorical(f"c{j}", tuple(f"level{k}" for k in range(n_levels)))
                for j in range(n_choices)
            ),
        )

        def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
            chosen = [
                wrong[j, int(str(parameters[f"c{j}"]).removeprefix("level"))]
                for j in range(n_choices)
            ]
            number = (float(parameters["n"]) - right_number) / 10.0 * half_width
            z = np.concatenate([_values(parameters, n_reals) - at, [number], chosen])
            return {"value": function(z)}

        problem = Problem(Space(parameters), (Metric("value", goal=Goal.MINIMIZE),))
        return SuiteProblem(problem, evaluate, 0.0)

    return make


MAKERS: Final[Mapping[str, Callable[[int], SuiteProblem]]] = {
    "styblinski-tang 5": _moved(styblinski_tang, 5, 5.0),
    "dixon-price 6": _moved(dixon_price, 6, 3.0),
    "zakharov 5": _moved(zakharov, 5, 5.0),
    "griewank 6": _moved(griewank, 6, 20.0),
    "salomon 5": _moved(salomon, 5, 5.0),
    "shekel 4": _moved(shekel, 4, 5.0),
    "michalewicz 5": _michalewicz,
    "styblinski-tang 3, noisy": _moved(styblinski_tang, 3, 5.0, noise_sd=5.0),
    "griewank 4, noisy": _moved(griewank, 4, 6.0, noise_sd=0.1),
    "six-hump camel 2, noisy": _moved(six_hump_camel, 2, 2.0, noise_sd=5.0),
    "powell 4, noisy": _moved(powell, 4, 3.0, noise_sd=250.0),
    "exponential 6, noisy": _moved(exponential, 6, 1.0, noise_sd=0.03),
    "trid 5, noisy": _moved(trid, 5, 5.0, noise_sd=5.0),
    "powers 4, noisy": _moved(powers, 4, 1.0, noise_sd=0.3),
    "ellipsoid 4, constrained": _constrained,
    "mixed norm 3 + 4": _mixed(_norm, 3, 4, 3, 1.0),
    "mixed griewank 3 + 3": _mixed(griewank, 3, 3, 4, 4.0),
}
"""By name."""


def _reported(make: Callable[[int], SuiteProblem]) -> Callable[[int], SuiteProblem]:
    """Return the maker of the same problem, each value told with its standard deviation."""

    def make_reported(seed: int) -> SuiteProblem:
        made = make(seed)
        objective = replace(made.problem.objective, noise=Noise.REPORTED)
        return replace(made, problem=replace(made.problem, metrics=(objective,)))

    return make_reported


REPORTED_MAKERS: Final[Mapping[str, Callable[[int], SuiteProblem]]] = {
    f"{name}, reported": _reported(make)
    for name, make in MAKERS.items()
    if name.endswith("noisy")
}
"""The noisy ones with their noise reported."""
