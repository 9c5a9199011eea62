"""Running a strategy in a check, and saying which rule it broke."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final

from bbopt.optimizer import Optimizer, Suggested
from bbopt.problem import Problem
from bbopt.replay import replay
from bbopt.space import ParamValue
from bbopt.strategies import capabilities_of
from bbopt.testing.example_problems import measure, with_needed_fidelity
from bbopt.trial import Asked, NewTrial, Outcome, Trial
from bbopt.trial.told import outcome_of

N_STEPS: Final = 12
"""Enough to leave the initial design of every strategy."""


def run(
    optimizer: Optimizer, n: int = N_STEPS, value: Callable[[Trial], Any] = measure
) -> list[Trial]:
    """Ask and tell ``n`` times, one by one."""
    trials = []
    for _ in range(n):
        (trial,) = optimizer.ask()
        check_points(optimizer, [trial])
        optimizer.tell(trial, value(trial))
        trials.append(trial)
    return trials


def optimizer_of(problem: Problem, spec: object, seed: int = 0) -> Optimizer:
    """Begin a study, with a fidelity if the strategy makes no sense without one."""
    return Optimizer(with_needed_fidelity(problem, spec), spec, seed)


def is_resumed(trial: Trial) -> bool:
    """Whether a trial continues another one."""
    return trial.stage is not None and trial.stage.resume_from is not None


def asked_event(suggested: Suggested, first: int) -> Asked:
    """Store an answer as a server would."""
    return Asked(
        tuple(
            NewTrial(number, suggestion.parameters, suggestion.provenance, suggestion.stage)
            for number, suggestion in enumerate(suggested.suggestions, first)
        ),
        suggested.state,
    )


def completed_outcome(optimizer: Optimizer, trial: Trial) -> Outcome:
    """Measure a trial."""
    return outcome_of(optimizer.problem, measure(trial))


def check_points(optimizer: Optimizer, trials: Iterable[Trial]) -> None:
    """Check that trials are in the space."""
    for trial in trials:
        violations = optimizer.problem.space.check(trial.parameters)
        require(not violations, f"trial {trial.number} is not in the space: {violations}")


def any_point(optimizer: Optimizer) -> Mapping[str, ParamValue]:
    """Return a point of the space."""
    return optimizer.suggest(1).suggestions[0].parameters


def require_number(spec: object, n: int, wanted: int) -> None:
    """Check how many points an ask gave: all, or some from who waits for results."""
    least = 1 if capabilities_of(spec).waits_for_results else wanted
    require(least <= n <= wanted, f"{n} points for {wanted}")


def points_of(trials: Iterable[Trial]) -> list[dict[str, ParamValue]]:
    """List the points of trials."""
    return [dict(trial.parameters) for trial in trials]


def point_key(parameters: Mapping[str, ParamValue]) -> Hashable:
    """Return what tells points apart in a set."""
    return tuple(sorted(parameters.items()))


def require_replay(optimizer: Optimizer) -> None:
    """Check that every suggestion of a study can be computed again from what it had seen."""
    mismatches = replay(
        optimizer.problem, optimizer.spec, optimizer.seed, optimizer.log.events()
    )
    require(not mismatches, f"the replay differs: {mismatches}")


def require_equal(one: object, other: object) -> None:
    """Raise ``AssertionError`` unless both are equal."""
    require(one == other, f"{one} is not {other}")


def require(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` unless a condition holds."""
    if not condition:
        raise AssertionError(message)
