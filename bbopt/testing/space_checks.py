"""Checks that suggestions are points of the space, however small or odd it is."""

from collections.abc import Hashable
from typing import Final

import numpy as np

from bbopt.problem import Goal, Metric, Noise, Problem
from bbopt.space import Bool, Float, Simplex, Space
from bbopt.testing.example_problems import (
    can_handle,
    discrete_problem,
    measure,
    mixed_problem,
    ordered_problem,
)
from bbopt.testing.running import (
    N_STEPS,
    check_points,
    is_resumed,
    optimizer_of,
    point_key,
    require,
    require_number,
)


def suggestions_are_always_in_the_space(spec: object) -> None:
    """Mixed, conditional, constrained, integer and mixture spaces; singly and in batches.

    Those of them that the strategy can handle.
    """
    shares = tuple(Float(name, 0.0, 1.0) for name in "abc")
    mixture = Problem(
        Space(shares, (Simplex(("a", "b", "c")),)), (Metric("score", goal=Goal.MAXIMIZE),)
    )
    for problem in (mixed_problem(has_polytope=True), mixture, ordered_problem()):
        if not can_handle(spec, problem):
            continue
        optimizer = optimizer_of(problem, spec, seed=17)
        for n in (1, 5, 1, 1, 3):
            trials = optimizer.ask(n)
            require_number(spec, len(trials), n)
            check_points(optimizer, trials)
            for trial in trials:
                optimizer.tell(trial, measure(trial))


def a_small_discrete_space_is_used_up_without_repeats(spec: object) -> None:
    """Without noise each of 12 points comes once, then the space is exhausted."""
    optimizer = optimizer_of(discrete_problem(spec, Noise.NONE), spec, seed=18)
    seen: list[Hashable] = []
    while trials := optimizer.ask(2 if len(seen) < 4 else 1):
        check_points(optimizer, trials)
        for trial in trials:
            if not is_resumed(trial):
                seen.append(point_key(trial.parameters))
            optimizer.tell(trial, measure(trial))
        require(len(seen) <= 12, "a point was repeated")
    require(len(set(seen)) == 12, f"{len(set(seen))} of 12 points were tried")
    require(optimizer.suggest(1).space_exhausted, "exhaustion is not reported")


def a_small_noisy_space_can_be_measured_for_ever(spec: object) -> None:
    """With noise points are repeated once all have been seen."""
    optimizer = optimizer_of(discrete_problem(spec, Noise.LEARNED), spec, seed=19)
    rng = np.random.default_rng(0)
    for _ in range(20):
        trials = optimizer.ask()
        require(len(trials) == 1, "a noisy space ran out")
        optimizer.tell(trials[0], float(rng.normal()))


def one_point_and_one_parameter_spaces_work(spec: object) -> None:
    """The smallest spaces there are."""
    for space in (Space((Bool("b"),)), Space((Float("x", 0.0, 1.0),))):
        optimizer = optimizer_of(Problem(space, (Metric("y", goal=Goal.MINIMIZE),)), spec)
        for _ in range(N_STEPS):
            for trial in optimizer.ask(2):
                optimizer.tell(trial, float(bool(trial.parameters.get("b"))))


CHECKS: Final = (
    suggestions_are_always_in_the_space,
    a_small_discrete_space_is_used_up_without_repeats,
    a_small_noisy_space_can_be_measured_for_ever,
    one_point_and_one_parameter_spaces_work,
)
