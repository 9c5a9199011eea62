"""Checks that a strategy does what its capabilities promise, in the time that it has."""

import math
from dataclasses import replace
from typing import Final

from bbopt.errors import UnsupportedError
from bbopt.optimizer import Optimizer
from bbopt.strategies import capabilities_of
from bbopt.testing.example_problems import (
    FIDELITY,
    box_problem,
    constrained_problem,
    measure,
    measure_constrained,
)
from bbopt.testing.running import (
    N_STEPS,
    asked_event,
    optimizer_of,
    require,
    require_equal,
    require_number,
    require_replay,
    run,
)


def a_short_deadline_still_gets_an_answer(spec: object) -> None:
    """With no time left there are points, and a log that used them replays."""
    optimizer = optimizer_of(box_problem(), spec, seed=24)
    run(optimizer, N_STEPS)
    for time_left_s in (0.0, 1e-4, 10.0):
        suggested = optimizer.suggest(2, time_left_s=time_left_s)
        require_number(spec, len(suggested.suggestions), 2)
        optimizer.fold([asked_event(suggested, len(optimizer.trials) + 1)])
    for trial in list(optimizer.trials.values())[N_STEPS:]:
        optimizer.tell(trial, measure(trial))
    run(optimizer, 2)
    require_replay(optimizer)


def predictions_are_what_the_capabilities_promise(spec: object) -> None:
    """A model predicts finite moments and probabilities; without one, predicting is refused."""
    optimizer = optimizer_of(constrained_problem(), spec, seed=25)
    trials = run(optimizer, N_STEPS, measure_constrained)
    if not capabilities_of(spec).is_model_based:
        try:
            optimizer.predict([trials[0].parameters])
        except UnsupportedError:
            return
        raise AssertionError("a strategy without a model predicted something")
    for prediction in optimizer.predict([trial.parameters for trial in trials]):
        require(set(prediction.metrics) == {"score", "load"}, "a metric is missing")
        for moments in prediction.metrics.values():
            require(math.isfinite(moments.mean) and moments.sd >= 0.0, f"{moments}")
        require(0.0 <= prediction.probability_feasible <= 1.0, f"{prediction}")


def learned_constraints_are_learned(spec: object) -> None:
    """Who promises to learn measured constraints finds a good point inside a small region.

    A twentieth of the space is feasible, and the best value there is 1.2536, on its edge. A
    method without a model may take five times as many trials.
    """
    capabilities = capabilities_of(spec)
    if not capabilities.supports_metric_constraints:
        return
    optimizer = optimizer_of(constrained_problem(), spec, seed=26)
    run(optimizer, 24 if capabilities.is_model_based else 120, measure_constrained)
    best = optimizer.best()
    value = -math.inf if best is None else measure_constrained(best)["score"]
    require(value > 1.15, f"the best feasible value is {value}")


def problems_beyond_the_capabilities_are_refused(spec: object) -> None:
    """One parameter more than promised is refused at once, the promised number is not."""
    limit = capabilities_of(spec).max_dimensions
    for n in (limit, limit + 1):
        if n > 2000:
            continue
        problem = box_problem(n)
        try:
            trials = optimizer_of(problem, spec).ask(1)
        except UnsupportedError:
            require(n > limit, f"{n} parameters are refused")
            continue
        require(n <= limit and len(trials) == 1, f"{n} parameters are not refused")


def a_stage_says_what_a_trial_evaluates(spec: object) -> None:
    """Where there is a fidelity every trial has a stage, and one that resumes another continues
    the same point, finished before, to a higher fidelity; without one there is none.
    """
    problem = replace(box_problem(), fidelity=FIDELITY)
    optimizer = Optimizer(problem, spec, seed=27)
    for trial in run(optimizer, N_STEPS):
        stage = trial.stage
        if stage is None or not 1 <= stage.fidelity <= FIDELITY.high:
            raise AssertionError(f"trial {trial.number} has the stage {stage}")
        if stage.resume_from is None:
            continue
        before = optimizer.trials[stage.resume_from]
        require_equal(before.parameters, trial.parameters)
        require(before.number < trial.number, f"{trial.number} resumes {before.number}")
        require(stage.configuration is not None, "the configuration has no number")
    if not capabilities_of(spec).needs_fidelity:
        (trial,) = optimizer_of(box_problem(), spec, seed=27).ask()
        require(trial.stage is None, "a trial has a stage without a fidelity")


CHECKS: Final = (
    a_short_deadline_still_gets_an_answer,
    predictions_are_what_the_capabilities_promise,
    learned_constraints_are_learned,
    problems_beyond_the_capabilities_are_refused,
    a_stage_says_what_a_trial_evaluates,
)
