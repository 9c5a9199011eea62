"""The problems that optimizers are compared on, by name; all are minimised.

Names and definitions are those of the recorded runs of other optimizers, so that records of
both join. Nothing in the library may be tuned to a problem of this module.

Some problems need a package of their own, which is imported when the problem is made:
scikit-learn (``gbm_diabetes``) and coco-experiment (``coco/...``).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bbopt.problem import Goal, Metric, MetricKind, Problem
from bbopt.problems import (
    KnownProblem,
    ackley,
    branin,
    constrained_gramacy,
    hartmann6,
    levy,
    rosenbrock,
)
from bbopt.space import Categorical, Float, Int, Parameter, ParamValue, Scale, Space

Array: TypeAlias = NDArray[np.float64]
Evaluate: TypeAlias = Callable[[Mapping[str, ParamValue]], dict[str, float]]


@dataclass(frozen=True, slots=True)
class SuiteProblem:
    """A problem to compare optimizers on. The objective is its first metric."""

    problem: Problem
    evaluate: Evaluate
    """Measures every metric at a point in user units, without noise."""
    optimum: float | None
    """The objective's best feasible value; ``None`` where nobody knows it."""
    noise_sd: float = 0.0
    """Standard deviation of what is added to the objective before it is told."""


def make(name: str) -> SuiteProblem:
    """Return the problem of a name.

    Args:
        name: One of ``NAMES``, or ``coco/bbob/f<function>/d<dimension>/i<instance>``.

    Raises:
        KeyError: There is no such problem.
        ModuleNotFoundError: It needs a package that is not installed.
    """
    if name.startswith("coco/bbob/"):
        return _coco(name)
    return MAKERS[name]()


# ---------------------------------------------------------------------- on the library's own


def _of_library(
    known: KnownProblem, noise_sd: float = 0.0, optimum: float | None = None
) -> SuiteProblem:
    best = known.optimum if optimum is None else optimum
    return SuiteProblem(known.problem, known.evaluate, best, noise_sd)


def _shift(d: int, half_width: float, number: int) -> Array:
    """Return where the optimum is moved to: off the middle, where some optimizers start."""
    return np.random.default_rng(1000 + number).uniform(-0.6, 0.6, d) * half_width


def _shifted(known: KnownProblem, half_width: float, shift: Array) -> SuiteProblem:
    """Return a problem on ``[-half_width, half_width]`` that has been moved by ``shift``."""
    names = [parameter.name for parameter in known.problem.space.parameters]
    space = Space(tuple(Float(name, -half_width, half_width) for name in names))

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        moved = {
            name: float(parameters[name]) - float(by)
            for name, by in zip(names, shift, strict=True)
        }
        return known.evaluate(moved)

    return SuiteProblem(Problem(space, known.problem.metrics), evaluate, known.optimum)


def _log_rosenbrock() -> SuiteProblem:
    """Rosenbrock in four dimensions, moved, as ``log(1 + value)``."""
    plain = _shifted(rosenbrock(4), 2.0, _shift(4, 1.0, 2))

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        return {"value": math.log1p(plain.evaluate(parameters)["value"])}

    return SuiteProblem(plain.problem, evaluate, 0.0)


def _ball_hartmann() -> SuiteProblem:
    """Hartmann-6 inside the unit ball; a tenth of the cube is feasible."""
    known = hartmann6()
    metrics = (
        *known.problem.metrics,
        Metric("outside", MetricKind.CONSTRAINT, upper=0.0),
    )

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        norm = math.sqrt(math.fsum(float(value) ** 2 for value in parameters.values()))
        return {**known.evaluate(parameters), "outside": norm - 1.0}

    return SuiteProblem(Problem(known.problem.space, metrics), evaluate, known.optimum)


# ---------------------------------------------------------------------- of their own


def _welded_beam() -> SuiteProblem:
    """Cost of a welded beam under six constraints; less than 0.1 % of the box is feasible.

    Source:
        Coello Coello & Mezura Montes (2002), doi:10.1016/S1474-0346(02)00011-3, with the
        buckling load as in ``botorch.test_functions``, 36 times the usual one, by which the
        recorded runs were made. Its optimum was found by SLSQP from many starts.
    """
    load, length, youngs, shear = 6000.0, 14.0, 30e6, 12e6
    lows = {"h": 0.125, "l": 0.1, "t": 0.1, "b": 0.1}
    space = Space(tuple(Float(name, low, 10.0) for name, low in lows.items()))

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        h, l, t, b = (float(parameters[name]) for name in lows)  # noqa: E741
        moment = load * (length + l / 2.0)
        radius_2 = (l**2 + (h + t) ** 2) / 4.0
        polar = 2.0 * math.sqrt(2.0) * h * l * (l**2 / 12.0 + (h + t) ** 2 / 4.0)
        primary = load / (math.sqrt(2.0) * h * l)
        secondary = moment * math.sqrt(radius_2) / polar
        cosine = l / (2.0 * math.sqrt(radius_2))
        stress = math.sqrt(primary**2 + 2.0 * primary * secondary * cosine + secondary**2)
        slender = 1.0 - t / (2.0 * length) * math.sqrt(youngs / (4.0 * shear))
        buckling = 6.0 * 4.013 * youngs * t * b**3 / length**2 * slender
        return {
            "cost": 1.10471 * h**2 * l + 0.04811 * t * b * (14.0 + l),
            "shear": stress - 13600.0,
            "bending": 6.0 * load * length / (b * t**2) - 30000.0,
            "weld": h - b,
            "material": 0.10471 * h**2 + 0.04811 * t * b * (14.0 + l) - 5.0,
            "deflection": 4.0 * load * length**3 / (youngs * t**3 * b) - 0.25,
            "buckling": load - buckling,
        }

    names = ("shear", "bending", "weld", "material", "deflection", "buckling")
    metrics = (
        Metric("cost", goal=Goal.MINIMIZE),
        *(Metric(name, MetricKind.CONSTRAINT, upper=0.0) for name in names),
    )
    return SuiteProblem(Problem(space, metrics), evaluate, 1.5870775)


def _mixed_ackley() -> SuiteProblem:
    """Ackley over three reals, four categories that are right or wrong, and an integer."""
    shift = _shift(3, 1.0, 9)
    right = {"k0": "c", "k1": "a", "k2": "b", "k3": "c"}
    parameters: tuple[Parameter, ...] = (
        *(Float(f"x{i}", -1.0, 1.0) for i in range(3)),
        *(Categorical(name, ("a", "b", "c")) for name in right),
        Int("n0", 0, 10),
    )
    inner = ackley(8)
    names = [parameter.name for parameter in inner.problem.space.parameters]

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        z = [float(parameters[f"x{i}"]) - float(shift[i]) for i in range(3)]
        z += [float(parameters[name] != choice) for name, choice in right.items()]
        z.append((float(parameters["n0"]) - 7.0) / 5.0)
        return inner.evaluate(dict(zip(names, z, strict=True)))

    problem = Problem(Space(parameters), (Metric("value", goal=Goal.MINIMIZE),))
    return SuiteProblem(problem, evaluate, 0.0)


def _gbm_diabetes() -> SuiteProblem:
    """Cross-validated squared error of gradient boosting on the diabetes data."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.model_selection import cross_val_score
    from sklearn.preprocessing import StandardScaler

    X, y = load_diabetes(return_X_y=True)  # noqa: N806
    order = np.random.default_rng(0).permutation(len(X))
    X, y = StandardScaler().fit_transform(X[order]), y[order]  # noqa: N806

    def evaluate(parameters: Mapping[str, ParamValue]) -> dict[str, float]:
        settings: dict[str, Any] = dict(parameters)
        settings["learning_rate"] = settings.pop("lr")
        if settings["max_features"] == "all":
            settings["max_features"] = None
        model = GradientBoostingRegressor(**settings, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = cross_val_score(model, X, y, cv=3, scoring="neg_mean_squared_error")
        return {"error": -float(np.mean(scores))}

    space = Space(
        (
            Float("lr", 1e-3, 1.0, scale=Scale.LOG),
            Int("n_estimators", 5, 120, scale=Scale.LOG),
            Int("max_depth", 1, 8),
            Float("subsample", 0.2, 1.0),
            Int("min_samples_leaf", 1, 40),
            Categorical("max_features", ("sqrt", "log2", "all")),
            Categorical("loss", ("squared_error", "absolute_error", "huber")),
        )
    )
    metric = Metric("error", goal=Goal.MINIMIZE)
    return SuiteProblem(Problem(space, (metric,)), evaluate, None)


# ---------------------------------------------------------------------- COCO

BBOB_OPTIMA: Final = {(3, 1): -462.09, (8, 1): 149.15, (15, 1): 1000.0, (21, 1): 40.78}
"""The least value by function and instance, which is the same in all dimensions."""


def _coco(name: str) -> SuiteProblem:
    """Return a function of the suite bbob of COCO.

    Source:
        Hansen et al. (2021), doi:10.1080/10556788.2020.1808977.
    """
    import cocoex

    try:
        function, d, instance = (
            int(part.removeprefix(letter))
            for part, letter in zip(name.split("/")[2:], "fdi", strict=True)
        )
    except ValueError as error:
        raise KeyError(name) from error
    suite = cocoex.Suite(
        "bbob", f"instances: {instance}", f"function_indices: {function} dimensions: {d}"
    )
    coco = suite.get_problem(0)
    if coco.id != f"bbob_f{function:03d}_i{instance:02d}_d{d:02d}":
        raise KeyError(name)
    names = [f"x{i}" for i in range(d)]
    bounds = zip(names, coco.lower_bounds, coco.upper_bounds, strict=True)
    space = Space(tuple(Float(name, float(low), float(high)) for name, low, high in bounds))

    def evaluate(
        parameters: Mapping[str, ParamValue], _owner: object = suite
    ) -> dict[str, float]:
        return {"value": float(coco([float(parameters[name]) for name in names]))}

    problem = Problem(space, (Metric("value", goal=Goal.MINIMIZE),))
    return SuiteProblem(problem, evaluate, BBOB_OPTIMA.get((function, instance)))


# ---------------------------------------------------------------------- names

MAKERS: Final[Mapping[str, Callable[[], SuiteProblem]]] = {
    "branin2": lambda: _of_library(branin()),
    "hartmann6": lambda: _of_library(hartmann6()),
    "ackley10s": lambda: _shifted(ackley(10), 10.0, _shift(10, 10.0, 1)),
    "levy8": lambda: _of_library(levy(8)),
    "rosenbrock4s": _log_rosenbrock,
    "hartmann6_noisy": lambda: _of_library(hartmann6(), noise_sd=0.3),
    "branin2_noisy": lambda: _of_library(branin(), noise_sd=5.0),
    "gramacy2": lambda: _of_library(constrained_gramacy(), optimum=0.59978805),
    "weldedbeam4": _welded_beam,
    "chartmann6": _ball_hartmann,
    "mixed_ackley": _mixed_ackley,
    "gbm_diabetes": _gbm_diabetes,
}

SLICE16: Final[Sequence[str]] = (
    *MAKERS,
    "coco/bbob/f3/d5/i1",
    "coco/bbob/f8/d5/i1",
    "coco/bbob/f15/d5/i1",
    "coco/bbob/f21/d10/i1",
)

SETS: Final[Mapping[str, Sequence[str]]] = {"slice16": SLICE16, "own": tuple(MAKERS)}
"""Named lists of problems; ``own`` needs no COCO."""


def names_of(selected: Sequence[str]) -> list[str]:
    """Return the problems that names of problems and of sets stand for, in order, each once."""
    return list(dict.fromkeys(name for each in selected for name in SETS.get(each, (each,))))
