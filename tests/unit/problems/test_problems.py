"""The test problems have the optima that they claim."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from bbopt.problems import (
    KnownProblem,
    ackley,
    branin,
    constrained_gramacy,
    hartmann6,
    levy,
    mixed_conditional,
    rosenbrock,
)
from bbopt.space import Codec
from bbopt.trial import Value

ALL = [branin, hartmann6, levy, ackley, rosenbrock, constrained_gramacy, mixed_conditional]


def objective(known: KnownProblem, point: object) -> float:
    return known.evaluate(point)[known.problem.objective.name]  # type: ignore[arg-type]


@pytest.mark.parametrize("make", ALL)
def test_the_optimizer_reaches_the_optimum(make: Callable[[], KnownProblem]) -> None:
    known = make()
    assert not known.problem.space.check(known.optimizer)
    assert known.regret(objective(known, known.optimizer)) == pytest.approx(0.0, abs=2e-4)


@pytest.mark.parametrize("make", ALL)
def test_no_random_feasible_point_beats_the_optimum(make: Callable[[], KnownProblem]) -> None:
    known = make()
    codec = Codec(known.problem.space)
    for x in codec.sample(np.random.default_rng(0), 2000):
        metrics = known.evaluate(codec.decode(x))
        assert all(math.isfinite(value) for value in metrics.values())
        values = {name: Value(value) for name, value in metrics.items()}
        if known.problem.is_feasible(values):
            assert known.regret(metrics[known.problem.objective.name]) > -2e-4


@pytest.mark.parametrize("make", [branin, hartmann6, levy, ackley, rosenbrock])
def test_a_small_step_from_the_optimum_is_worse(make: Callable[[], KnownProblem]) -> None:
    known = make()
    codec = Codec(known.problem.space)
    best = codec.encode(known.optimizer)
    rng = np.random.default_rng(1)
    for _ in range(50):
        near = np.clip(best + 1e-3 * rng.standard_normal(codec.dim), 0.0, 1.0)
        assert known.regret(objective(known, codec.decode(near))) > -1e-6


def test_the_optimum_of_gramacy_lies_on_the_wavy_constraint() -> None:
    known = constrained_gramacy()
    metrics = known.evaluate(known.optimizer)
    assert abs(metrics["wavy"]) < 1e-3
    assert metrics["round"] < 0.0
