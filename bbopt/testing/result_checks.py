"""Checks of what a strategy makes of results: any order, any value, missing or corrected."""

import functools
import math
from typing import Final

from bbopt.errors import TrialFinishedError
from bbopt.strategies import capabilities_of
from bbopt.testing.example_problems import (
    box_problem,
    measure,
    varied_problem,
)
from bbopt.testing.running import (
    N_STEPS,
    any_point,
    check_points,
    is_resumed,
    optimizer_of,
    point_key,
    points_of,
    require,
    require_equal,
    require_number,
    run,
)
from bbopt.trial import Abandoned, Failed, Infeasible, Trial


def results_may_come_in_any_order(spec: object) -> None:
    """Tells of one round in two orders both lead to a strategy that goes on."""
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        optimizer = optimizer_of(varied_problem(spec), spec, seed=10)
        for _ in range(3):
            trials = optimizer.ask(4)
            for index in order:
                if index < len(trials):
                    optimizer.tell(trials[index], measure(trials[index]))
        check_points(optimizer, optimizer.ask(2))


def the_order_of_results_inside_a_generation_does_not_matter(spec: object) -> None:
    """Who ranks whole generations learns the same from their results in any order."""
    if not capabilities_of(spec).waits_for_results:
        return
    asked = []
    for is_reversed in (False, True):
        optimizer = optimizer_of(box_problem(), spec, seed=10)
        for _ in range(3):
            trials = optimizer.ask(1000)
            for trial in reversed(trials) if is_reversed else trials:
                optimizer.tell(trial, measure(trial))
        asked.append(points_of(optimizer.ask(1000)))
    require_equal(asked[0], asked[1])


def a_repeated_result_counts_once_and_another_is_refused(spec: object) -> None:
    """The same outcome twice is no event; a different one is a conflict."""
    optimizer = optimizer_of(box_problem(), spec, seed=11)
    trial = optimizer.ask()[0]
    optimizer.tell(trial, 1.0)
    revision = optimizer.revision
    optimizer.tell(trial, 1.0)
    require(optimizer.revision == revision, "a repeated result was recorded")
    try:
        optimizer.tell(trial, 2.0)
    except TrialFinishedError:
        return
    raise AssertionError("a second, different result was accepted")


def missing_results_do_not_stop_it(spec: object) -> None:
    """Trials that do not come back are pending; asks go on with other points.

    Who waits for them goes on once they are given up, as a server does by itself.
    """
    optimizer = optimizer_of(box_problem(), spec, seed=12)
    lost = optimizer.ask(3)
    trials: list[Trial] = []
    while len(trials) < N_STEPS and (asked := optimizer.ask()):
        trials += asked
        optimizer.tell(asked[0], measure(asked[0]))
    require_number(spec, len(trials), N_STEPS)
    if len(trials) < N_STEPS:
        require(not optimizer.suggest(1).space_exhausted, "waiting is not exhaustion")
        for trial in lost[::2]:
            optimizer.tell(trial, Abandoned("its worker is gone"))
    optimizer.tell(lost[1], measure(lost[1]))
    trials += run(optimizer, N_STEPS)
    require(
        not {point_key(t.parameters) for t in lost} & {point_key(t.parameters) for t in trials},
        "a pending point was suggested again",
    )
    check_points(optimizer, optimizer.ask(2))


def failed_trials_teach_nothing_and_stop_nothing(spec: object) -> None:
    """With every trial failed there is no incumbent, and asks go on."""
    optimizer = optimizer_of(varied_problem(spec), spec, seed=13)
    for step in range(N_STEPS):
        trial = optimizer.ask()[0]
        broken = [math.nan, math.inf, -math.inf][step % 3]
        optimizer.tell(trial, Failed("power cut") if step % 2 else {"score": broken})
    require(optimizer.best() is None, "a failed trial became the best one")
    require(optimizer.recommend() is None, "a failed trial was recommended")
    check_points(optimizer, optimizer.ask(3))


def the_incumbent_is_never_a_broken_value(spec: object) -> None:
    """NaN and infinite values among good ones never win."""
    optimizer = optimizer_of(box_problem(), spec, seed=14)
    for step in range(N_STEPS):
        trial = optimizer.ask()[0]
        optimizer.tell(
            trial, (math.nan, math.inf, -math.inf)[step // 2 % 3] if step % 2 else 1.0
        )
    for found in (optimizer.best(), optimizer.recommend()):
        require(found is not None and found.number % 2 == 1, f"{found} is the incumbent")


def points_to_blame_are_survived(spec: object) -> None:
    """INFEASIBLE trials, all of them or many, leave valid suggestions."""
    for every in (1, 2):
        optimizer = optimizer_of(box_problem(), spec, seed=15)
        for step in range(N_STEPS):
            trial = optimizer.ask()[0]
            bad = step % every == 0
            optimizer.tell(trial, Infeasible("diverged") if bad else measure(trial))
        check_points(optimizer, optimizer.ask(2))
        require((optimizer.best() is None) == (every == 1), "an infeasible trial is best")


def an_amended_result_is_the_one_that_counts(spec: object) -> None:
    """After a correction, live and rebuilt strategies agree."""
    live = optimizer_of(box_problem(), spec, seed=16)
    trials = run(live, N_STEPS)
    live.amend(trials[2], 1e3)
    live.amend(trials[5], Failed("it was the machine"))
    rebuilt = optimizer_of(box_problem(), spec, seed=16)
    rebuilt.fold(live.log.events())
    best = live.best()
    require(best is not None and best.number == trials[2].number, "the amendment is lost")
    require_equal(live.suggest(2).suggestions, rebuilt.suggest(2).suggestions)


def constant_values_are_survived(spec: object) -> None:
    """A flat objective leaves valid, different suggestions."""
    optimizer = optimizer_of(box_problem(), spec, seed=20)
    trials = run(optimizer, N_STEPS, lambda _: 1.0)
    begun = [trial for trial in trials if not is_resumed(trial)]
    require(len({point_key(t.parameters) for t in begun}) == len(begun), "points repeat")


def huge_and_tiny_values_are_survived(spec: object) -> None:
    """Values near both ends of the double range, and all sorts together."""
    for scale in (1e300, 1e-300, 1e-8):
        optimizer = optimizer_of(box_problem(), spec, seed=21)
        run(optimizer, N_STEPS, functools.partial(_scaled, scale))
        best, found = optimizer.best(), optimizer.recommend()
        require(best is not None and found is not None, f"no incumbent at scale {scale}")
    optimizer = optimizer_of(box_problem(), spec, seed=22)
    run(optimizer, N_STEPS, lambda t: (1.0, -1e300, 1e-300)[t.number % 3] * measure(t))


def identical_points_are_survived(spec: object) -> None:
    """The same point enqueued and measured again and again, with and without scatter."""
    for scatter in (0.0, 1.0):
        optimizer = optimizer_of(box_problem(), spec, seed=23)
        point = any_point(optimizer)
        for step in range(N_STEPS):
            optimizer.enqueue(point)
            optimizer.tell(optimizer.ask()[0], scatter * step)
        check_points(optimizer, optimizer.ask(2))


CHECKS: Final = (
    results_may_come_in_any_order,
    the_order_of_results_inside_a_generation_does_not_matter,
    a_repeated_result_counts_once_and_another_is_refused,
    missing_results_do_not_stop_it,
    failed_trials_teach_nothing_and_stop_nothing,
    the_incumbent_is_never_a_broken_value,
    points_to_blame_are_survived,
    an_amended_result_is_the_one_that_counts,
    constant_values_are_survived,
    huge_and_tiny_values_are_survived,
    identical_points_are_survived,
)


def _scaled(scale: float, trial: Trial) -> float:
    return scale * measure(trial)
