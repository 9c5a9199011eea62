"""The contract of every strategy, as checks that any test runner can call.

Each check takes settings and raises ``AssertionError`` when the strategy breaks the rule in its
name. A plug-in author runs them all::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_strategy(check):
        check(MySpec())
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np

from bbopt.errors import PreconditionError, TrialFinishedError, UnsupportedError
from bbopt.optimizer import Optimizer, Suggested
from bbopt.problem import Fidelity, Goal, Metric, Noise, Problem
from bbopt.replay import replay
from bbopt.space import Bool, Categorical, Float, Int, Ordinal, Simplex, Space
from bbopt.specs import find_unsupported
from bbopt.strategies import capabilities_of
from bbopt.testing.example_problems import (
    box_problem,
    constrained_problem,
    measure,
    mixed_problem,
    ordered_problem,
)
from bbopt.trial import (
    Abandoned,
    Asked,
    Event,
    Failed,
    Infeasible,
    NewTrial,
    Outcome,
    Told,
    Trial,
)
from bbopt.trial.told import outcome_of

Check: TypeAlias = Callable[[Any], None]
_FIDELITY: Final = Fidelity("epochs", 1, 9)
N_STEPS: Final = 12
"""Enough to leave the initial design of every strategy."""
N_COSTLY: Final = 8
"""Steps of the checks that compute everything several times; give settings with a short initial
design, so that these see the model as well."""


# ---------------------------------------------------------------------- determinism


def same_seed_gives_the_same_suggestions(spec: object) -> None:
    """Equal settings, seed and history give equal suggestions."""
    first, second = (_run(_optimizer(_varied_problem(spec), spec, seed=3)) for _ in range(2))
    _equal(_points(first), _points(second))


def another_seed_gives_other_suggestions(spec: object) -> None:
    """The seed matters."""
    first, second = (_run(_optimizer(_varied_problem(spec), spec, seed=s), 4) for s in (1, 2))
    if _points(first) == _points(second):
        raise AssertionError("two seeds gave the same points")


def a_recorded_log_replays_bit_for_bit(spec: object) -> None:
    """Every suggestion can be computed again from what it had seen."""
    optimizer = _optimizer(_varied_problem(spec), spec, seed=5)
    _run(optimizer, 8)
    optimizer.enqueue(_any_point(optimizer))
    open_trials = optimizer.ask(4)
    for trial in reversed(open_trials):
        optimizer.tell(trial, measure(trial))
    _run(optimizer, 3)
    events = optimizer.log.events()
    mismatches = replay(_fitting(_varied_problem(spec), spec), spec, 5, list(events))
    _require(not mismatches, f"the replay differs: {mismatches}")


def suggestions_that_saw_less_than_the_log_replay(spec: object) -> None:
    """A result that arrives while an ask computes does not spoil the record."""
    optimizer = _optimizer(box_problem(), spec, seed=6)
    trials = _run(optimizer, 8)
    open_trial = optimizer.ask()[0]
    suggested = optimizer.suggest(2)
    optimizer.fold([Told(open_trial.number, _completed(optimizer, open_trial))])
    optimizer.fold([_asked(suggested, len(trials) + 2)])
    optimizer.ask()
    mismatches = replay(_fitting(box_problem(), spec), spec, 6, list(optimizer.log.events()))
    _require(not mismatches, f"the replay differs: {mismatches}")


def rebuilding_after_every_call_changes_nothing(spec: object) -> None:
    """A strategy rebuilt from the log continues exactly as the live one."""
    live = _optimizer(_varied_problem(spec), spec, seed=7)
    events: list[Event | None] = []
    for step in range(N_COSTLY):
        rebuilt = _optimizer(_varied_problem(spec), spec, seed=7)
        rebuilt.fold(events)
        n = 1 + step % 2
        one, other = live.suggest(n), rebuilt.suggest(n)
        _equal(one.suggestions, other.suggestions)
        _require(one.state.equals(other.state), "the states differ after a rebuild")
        first = len(live.trials) + 1
        new: list[Event] = [_asked(one, first)]
        live.fold(new)
        told: list[Event] = [
            Told(number, _completed(live, live.trials[number]))
            for number in range(first, first + len(one.suggestions))
        ]
        live.fold(told)
        events += [*new, *told]


def an_uncommitted_suggestion_leaves_no_trace(spec: object) -> None:
    """``suggest`` without a stored answer, ``predict`` and ``recommend`` change nothing."""
    optimizer, twin = (_optimizer(_varied_problem(spec), spec, seed=8) for _ in range(2))
    for step in range(N_COSTLY):
        dropped = optimizer.suggest(2)
        _equal(dropped.suggestions, optimizer.suggest(2).suggestions)
        optimizer.recommend()
        _try_to_predict(optimizer)
        trials = [o.ask()[0] for o in (optimizer, twin)]
        _equal(trials[0], trials[1])
        for each, trial in zip((optimizer, twin), trials, strict=True):
            each.tell(trial, measure(trial) if step % 5 else Failed("power cut"))


def the_points_of_a_batch_do_not_depend_on_its_size(spec: object) -> None:
    """The first point of a batch is the one that would have been asked for alone."""
    optimizer = _optimizer(box_problem(), spec, seed=9)
    for _ in range(4):
        one, many = optimizer.suggest(1), optimizer.suggest(4)
        _equal(one.suggestions[0].parameters, many.suggestions[0].parameters)
        n = len(many.suggestions)
        _require_number(spec, n, 4)
        _require(len({_key(s.parameters) for s in many.suggestions}) == n, "a batch repeats")
        _run(optimizer, 4)


def points_of_a_series_may_be_stored_a_few_at_a_time(spec: object) -> None:
    """Where results are ignored, the rest of an answer is what comes next, whatever is told."""
    if not capabilities_of(spec).ignores_results:
        return
    for problem in (box_problem(), _varied_problem(spec)):
        ahead, live = (_optimizer(problem, spec, seed=21) for _ in range(2))
        answer = ahead.suggest(9)
        _require(answer.states[-1].equals(answer.state), "the last state is not the answer's")
        stored = 0
        for n in (1, 3, 5):
            few = answer.suggestions[stored : stored + n]
            state = answer.states[stored + n - 1]
            _equal(
                [each.parameters for each in live.suggest(n).suggestions],
                [each.parameters for each in few],
            )
            live.fold([_asked(Suggested(few, state, False), stored + 1)])
            live.fold([Told(stored + 1, _completed(live, live.trials[stored + 1]))])
            stored += n
        ahead.fold(live.log.events())
        _equal(
            [each.parameters for each in ahead.suggest(2).suggestions],
            [each.parameters for each in live.suggest(2).suggestions],
        )


# ---------------------------------------------------------------------- tells


def results_may_come_in_any_order(spec: object) -> None:
    """Tells of one round in two orders both lead to a strategy that goes on."""
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        optimizer = _optimizer(_varied_problem(spec), spec, seed=10)
        for _ in range(3):
            trials = optimizer.ask(4)
            for index in order:
                if index < len(trials):
                    optimizer.tell(trials[index], measure(trials[index]))
        _check_points(optimizer, optimizer.ask(2))


def the_order_of_results_inside_a_generation_does_not_matter(spec: object) -> None:
    """Who ranks whole generations learns the same from their results in any order."""
    if not capabilities_of(spec).waits_for_results:
        return
    asked = []
    for is_reversed in (False, True):
        optimizer = _optimizer(box_problem(), spec, seed=10)
        for _ in range(3):
            trials = optimizer.ask(1000)
            for trial in reversed(trials) if is_reversed else trials:
                optimizer.tell(trial, measure(trial))
        asked.append(_points(optimizer.ask(1000)))
    _equal(asked[0], asked[1])


def a_repeated_result_counts_once_and_another_is_refused(spec: object) -> None:
    """The same outcome twice is no event; a different one is a conflict."""
    optimizer = _optimizer(box_problem(), spec, seed=11)
    trial = optimizer.ask()[0]
    optimizer.tell(trial, 1.0)
    revision = optimizer.revision
    optimizer.tell(trial, 1.0)
    _require(optimizer.revision == revision, "a repeated result was recorded")
    try:
        optimizer.tell(trial, 2.0)
    except TrialFinishedError:
        return
    raise AssertionError("a second, different result was accepted")


def missing_results_do_not_stop_it(spec: object) -> None:
    """Trials that do not come back are pending; asks go on with other points.

    Who waits for them goes on once they are given up, as a server does by itself.
    """
    optimizer = _optimizer(box_problem(), spec, seed=12)
    lost = optimizer.ask(3)
    trials: list[Trial] = []
    while len(trials) < N_STEPS and (asked := optimizer.ask()):
        trials += asked
        optimizer.tell(asked[0], measure(asked[0]))
    _require_number(spec, len(trials), N_STEPS)
    if len(trials) < N_STEPS:
        _require(not optimizer.suggest(1).space_exhausted, "waiting is not exhaustion")
        for trial in lost[::2]:
            optimizer.tell(trial, Abandoned("its worker is gone"))
    optimizer.tell(lost[1], measure(lost[1]))
    trials += _run(optimizer, N_STEPS)
    _require(
        not {_key(t.parameters) for t in lost} & {_key(t.parameters) for t in trials},
        "a pending point was suggested again",
    )
    _check_points(optimizer, optimizer.ask(2))


def failed_trials_teach_nothing_and_stop_nothing(spec: object) -> None:
    """With every trial failed there is no incumbent, and asks go on."""
    optimizer = _optimizer(_varied_problem(spec), spec, seed=13)
    for step in range(N_STEPS):
        trial = optimizer.ask()[0]
        broken = [math.nan, math.inf, -math.inf][step % 3]
        optimizer.tell(trial, Failed("power cut") if step % 2 else {"score": broken})
    _require(optimizer.best() is None, "a failed trial became the best one")
    _require(optimizer.recommend() is None, "a failed trial was recommended")
    _check_points(optimizer, optimizer.ask(3))


def the_incumbent_is_never_a_broken_value(spec: object) -> None:
    """NaN and infinite values among good ones never win."""
    optimizer = _optimizer(box_problem(), spec, seed=14)
    for step in range(N_STEPS):
        trial = optimizer.ask()[0]
        optimizer.tell(
            trial, (math.nan, math.inf, -math.inf)[step // 2 % 3] if step % 2 else 1.0
        )
    for found in (optimizer.best(), optimizer.recommend()):
        _require(found is not None and found.number % 2 == 1, f"{found} is the incumbent")


def points_to_blame_are_survived(spec: object) -> None:
    """INFEASIBLE trials, all of them or many, leave valid suggestions."""
    for every in (1, 2):
        optimizer = _optimizer(box_problem(), spec, seed=15)
        for step in range(N_STEPS):
            trial = optimizer.ask()[0]
            bad = step % every == 0
            optimizer.tell(trial, Infeasible("diverged") if bad else measure(trial))
        _check_points(optimizer, optimizer.ask(2))
        _require((optimizer.best() is None) == (every == 1), "an infeasible trial is best")


def an_amended_result_is_the_one_that_counts(spec: object) -> None:
    """After a correction, live and rebuilt strategies agree."""
    live = _optimizer(box_problem(), spec, seed=16)
    trials = _run(live, N_STEPS)
    live.amend(trials[2], 1e3)
    live.amend(trials[5], Failed("it was the machine"))
    rebuilt = _optimizer(box_problem(), spec, seed=16)
    rebuilt.fold(live.log.events())
    best = live.best()
    _require(best is not None and best.number == trials[2].number, "the amendment is lost")
    _equal(live.suggest(2).suggestions, rebuilt.suggest(2).suggestions)


# ---------------------------------------------------------------------- spaces


def suggestions_are_always_in_the_space(spec: object) -> None:
    """Mixed, conditional, constrained, integer and mixture spaces; singly and in batches.

    Those of them that the strategy can handle.
    """
    simplex = Space((Float("a", 0.0, 1.0), Float("b", 0.0, 1.0), Float("c", 0.0, 1.0)))
    mixture = Problem(
        Space(simplex.parameters, (Simplex(("a", "b", "c")),)),
        (Metric("score", goal=Goal.MAXIMIZE),),
    )
    for problem in (mixed_problem(has_polytope=True), mixture, ordered_problem()):
        if not _can_handle(spec, problem):
            continue
        optimizer = _optimizer(problem, spec, seed=17)
        for n in (1, 5, 1, 1, 3):
            trials = optimizer.ask(n)
            _require_number(spec, len(trials), n)
            _check_points(optimizer, trials)
            for trial in trials:
                optimizer.tell(trial, measure(trial))


def a_small_discrete_space_is_used_up_without_repeats(spec: object) -> None:
    """Without noise each of 12 points comes once, then the space is exhausted."""
    optimizer = _optimizer(_discrete_problem(spec, Noise.NONE), spec, seed=18)
    seen: list[tuple[Any, ...]] = []
    while trials := optimizer.ask(2 if len(seen) < 4 else 1):
        _check_points(optimizer, trials)
        for trial in trials:
            if not _is_resumed(trial):
                seen.append(_key(trial.parameters))
            optimizer.tell(trial, measure(trial))
        _require(len(seen) <= 12, "a point was repeated")
    _require(len(set(seen)) == 12, f"{len(set(seen))} of 12 points were tried")
    _require(optimizer.suggest(1).space_exhausted, "exhaustion is not reported")


def a_small_noisy_space_can_be_measured_for_ever(spec: object) -> None:
    """With noise points are repeated once all have been seen."""
    optimizer = _optimizer(_discrete_problem(spec, Noise.LEARNED), spec, seed=19)
    rng = np.random.default_rng(0)
    for _ in range(20):
        trials = optimizer.ask()
        _require(len(trials) == 1, "a noisy space ran out")
        optimizer.tell(trials[0], float(rng.normal()))


def one_point_and_one_parameter_spaces_work(spec: object) -> None:
    """The smallest spaces there are."""
    for space in (Space((Bool("b"),)), Space((Float("x", 0.0, 1.0),))):
        optimizer = _optimizer(Problem(space, (Metric("y", goal=Goal.MINIMIZE),)), spec)
        for _ in range(N_STEPS):
            for trial in optimizer.ask(2):
                optimizer.tell(trial, float(bool(trial.parameters.get("b"))))


# ---------------------------------------------------------------------- values


def constant_values_are_survived(spec: object) -> None:
    """A flat objective leaves valid, different suggestions."""
    optimizer = _optimizer(box_problem(), spec, seed=20)
    trials = _run(optimizer, N_STEPS, lambda _: 1.0)
    begun = [trial for trial in trials if not _is_resumed(trial)]
    _require(len({_key(t.parameters) for t in begun}) == len(begun), "points repeat")


def huge_and_tiny_values_are_survived(spec: object) -> None:
    """Values near both ends of the double range, and all sorts together."""
    for scale in (1e300, 1e-300, 1e-8):
        optimizer = _optimizer(box_problem(), spec, seed=21)
        _run(optimizer, N_STEPS, functools.partial(_scaled, scale))
        best, found = optimizer.best(), optimizer.recommend()
        _require(best is not None and found is not None, f"no incumbent at scale {scale}")
    optimizer = _optimizer(box_problem(), spec, seed=22)
    _run(optimizer, N_STEPS, lambda t: (1.0, -1e300, 1e-300)[t.number % 3] * measure(t))


def identical_points_are_survived(spec: object) -> None:
    """The same point enqueued and measured again and again, with and without scatter."""
    for scatter in (0.0, 1.0):
        optimizer = _optimizer(box_problem(), spec, seed=23)
        point = _any_point(optimizer)
        for step in range(N_STEPS):
            optimizer.enqueue(point)
            optimizer.tell(optimizer.ask()[0], scatter * step)
        _check_points(optimizer, optimizer.ask(2))


# ---------------------------------------------------------------------- promises


def a_short_deadline_still_gets_an_answer(spec: object) -> None:
    """With no time left there are points, and a log that used them replays."""
    optimizer = _optimizer(box_problem(), spec, seed=24)
    _run(optimizer, N_STEPS)
    for time_left_s in (0.0, 1e-4, 10.0):
        suggested = optimizer.suggest(2, time_left_s=time_left_s)
        _require_number(spec, len(suggested.suggestions), 2)
        optimizer.fold([_asked(suggested, len(optimizer.trials) + 1)])
    for trial in list(optimizer.trials.values())[N_STEPS:]:
        optimizer.tell(trial, measure(trial))
    _run(optimizer, 2)
    mismatches = replay(_fitting(box_problem(), spec), spec, 24, list(optimizer.log.events()))
    _require(not mismatches, f"the replay differs: {mismatches}")


def predictions_are_what_the_capabilities_promise(spec: object) -> None:
    """A model predicts finite moments and probabilities; without one, predicting is refused."""
    optimizer = _optimizer(constrained_problem(), spec, seed=25)
    trials = _run(optimizer, N_STEPS, _measure_constrained)
    if not capabilities_of(spec).is_model_based:
        try:
            optimizer.predict([trials[0].parameters])
        except UnsupportedError:
            return
        raise AssertionError("a strategy without a model predicted something")
    for prediction in optimizer.predict([trial.parameters for trial in trials]):
        _require(set(prediction.metrics) == {"score", "load"}, "a metric is missing")
        for moments in prediction.metrics.values():
            _require(math.isfinite(moments.mean) and moments.sd >= 0.0, f"{moments}")
        _require(0.0 <= prediction.probability_feasible <= 1.0, f"{prediction}")


def learned_constraints_are_learned(spec: object) -> None:
    """Who promises to learn measured constraints finds a good point inside a small region.

    A twentieth of the space is feasible, and the best value there is 1.2536, on its edge. A
    method without a model may take five times as many trials.
    """
    capabilities = capabilities_of(spec)
    if not capabilities.supports_metric_constraints:
        return
    optimizer = _optimizer(constrained_problem(), spec, seed=26)
    _run(optimizer, 24 if capabilities.is_model_based else 120, _measure_constrained)
    best = optimizer.best()
    value = -math.inf if best is None else _measure_constrained(best)["score"]
    _require(value > 1.15, f"the best feasible value is {value}")


def problems_beyond_the_capabilities_are_refused(spec: object) -> None:
    """One parameter more than promised is refused at once, the promised number is not."""
    limit = capabilities_of(spec).max_dimensions
    for n in (limit, limit + 1):
        if n > 2000:
            continue
        problem = box_problem(n)
        try:
            trials = _optimizer(problem, spec).ask(1)
        except UnsupportedError:
            _require(n > limit, f"{n} parameters are refused")
            continue
        _require(n <= limit and len(trials) == 1, f"{n} parameters are not refused")


def a_stage_says_what_a_trial_evaluates(spec: object) -> None:
    """Where there is a fidelity every trial has a stage, and one that resumes another continues
    the same point, finished before, to a higher fidelity; without one there is none.
    """
    problem = replace(box_problem(), fidelity=_FIDELITY)
    optimizer = Optimizer(problem, spec, seed=27)
    for trial in _run(optimizer, N_STEPS):
        stage = trial.stage
        if stage is None or not 1 <= stage.fidelity <= _FIDELITY.high:
            raise AssertionError(f"trial {trial.number} has the stage {stage}")
        if stage.resume_from is None:
            continue
        before = optimizer.trials[stage.resume_from]
        _equal(before.parameters, trial.parameters)
        _require(before.number < trial.number, f"{trial.number} resumes {before.number}")
        _require(stage.configuration is not None, "the configuration has no number")
    if not capabilities_of(spec).needs_fidelity:
        (trial,) = _optimizer(box_problem(), spec, seed=27).ask()
        _require(trial.stage is None, "a trial has a stage without a fidelity")


CHECKS: Final[Sequence[Check]] = (
    same_seed_gives_the_same_suggestions,
    another_seed_gives_other_suggestions,
    a_recorded_log_replays_bit_for_bit,
    suggestions_that_saw_less_than_the_log_replay,
    rebuilding_after_every_call_changes_nothing,
    an_uncommitted_suggestion_leaves_no_trace,
    the_points_of_a_batch_do_not_depend_on_its_size,
    points_of_a_series_may_be_stored_a_few_at_a_time,
    results_may_come_in_any_order,
    the_order_of_results_inside_a_generation_does_not_matter,
    a_repeated_result_counts_once_and_another_is_refused,
    missing_results_do_not_stop_it,
    failed_trials_teach_nothing_and_stop_nothing,
    the_incumbent_is_never_a_broken_value,
    points_to_blame_are_survived,
    an_amended_result_is_the_one_that_counts,
    suggestions_are_always_in_the_space,
    a_small_discrete_space_is_used_up_without_repeats,
    a_small_noisy_space_can_be_measured_for_ever,
    one_point_and_one_parameter_spaces_work,
    constant_values_are_survived,
    huge_and_tiny_values_are_survived,
    identical_points_are_survived,
    a_short_deadline_still_gets_an_answer,
    predictions_are_what_the_capabilities_promise,
    learned_constraints_are_learned,
    problems_beyond_the_capabilities_are_refused,
    a_stage_says_what_a_trial_evaluates,
)


# ---------------------------------------------------------------------- parts of checks


def _run(
    optimizer: Optimizer, n: int = N_STEPS, value: Callable[[Trial], Any] = measure
) -> list[Trial]:
    """Ask and tell ``n`` times, one by one."""
    trials = []
    for _ in range(n):
        (trial,) = optimizer.ask()
        _check_points(optimizer, [trial])
        optimizer.tell(trial, value(trial))
        trials.append(trial)
    return trials


def _fitting(problem: Problem, spec: object) -> Problem:
    """Give a problem the fidelity without which the strategy makes no sense."""
    if not capabilities_of(spec).needs_fidelity:
        return problem
    return replace(problem, fidelity=_FIDELITY)


def _optimizer(problem: Problem, spec: object, seed: int = 0) -> Optimizer:
    return Optimizer(_fitting(problem, spec), spec, seed)


def _is_resumed(trial: Trial) -> bool:
    return trial.stage is not None and trial.stage.resume_from is not None


def _scaled(scale: float, trial: Trial) -> float:
    return scale * measure(trial)


def _asked(suggested: Suggested, first: int) -> Asked:
    """Store an answer as a server would."""
    return Asked(
        tuple(
            NewTrial(number, suggestion.parameters, suggestion.provenance, suggestion.stage)
            for number, suggestion in enumerate(suggested.suggestions, first)
        ),
        suggested.state,
    )


def _completed(optimizer: Optimizer, trial: Trial) -> Outcome:
    return outcome_of(optimizer.problem, measure(trial))


def _check_points(optimizer: Optimizer, trials: Iterable[Trial]) -> None:
    for trial in trials:
        violations = optimizer.problem.space.check(trial.parameters)
        _require(not violations, f"trial {trial.number} is not in the space: {violations}")


def _try_to_predict(optimizer: Optimizer) -> None:
    try:
        optimizer.predict([_any_point(optimizer)])
    except (UnsupportedError, PreconditionError):
        return


def _any_point(optimizer: Optimizer) -> Any:  # noqa: ANN401
    return optimizer.suggest(1).suggestions[0].parameters


def _discrete_problem(spec: object, noise: Noise) -> Problem:
    """Return 12 points, some of them without an order if the strategy can handle that."""
    metrics = (Metric("score", goal=Goal.MAXIMIZE, noise=noise),)
    colours = Categorical("c", ("red", "green", "blue"))
    problem = Problem(Space((Int("n", 1, 4), colours)), metrics)
    if _can_handle(spec, problem):
        return problem
    return Problem(Space((Int("n", 1, 4), Ordinal("c", (1.0, 2.0, 4.0)))), metrics)


def _varied_problem(spec: object) -> Problem:
    """Return the problem with the most kinds of parameters that the strategy can handle."""
    for problem in (mixed_problem(), ordered_problem()):
        if _can_handle(spec, problem):
            return problem
    return box_problem()


def _can_handle(spec: object, problem: Problem) -> bool:
    return not find_unsupported(_fitting(problem, spec), capabilities_of(spec), name="it")


def _require_number(spec: object, n: int, wanted: int) -> None:
    """Check how many points an ask gave: all, or some from who waits for results."""
    least = 1 if capabilities_of(spec).waits_for_results else wanted
    _require(least <= n <= wanted, f"{n} points for {wanted}")


def _measure_constrained(trial: Trial) -> dict[str, float]:
    x, y = float(trial.parameters["x1"]), float(trial.parameters["x2"])
    return {"score": x + y, "load": 2.0 * math.hypot(x - 0.3, y - 0.6)}


def _points(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    return [dict(trial.parameters) for trial in trials]


def _key(parameters: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(sorted(parameters.items()))


def _equal(one: object, other: object) -> None:
    _require(one == other, f"{one} is not {other}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
