"""Checks that the same history gives the same suggestions, live, rebuilt and replayed."""

from typing import Final

from bbopt.errors import PreconditionError, UnsupportedError
from bbopt.optimizer import Optimizer, Suggested
from bbopt.strategies import capabilities_of
from bbopt.testing.example_problems import (
    box_problem,
    measure,
    varied_problem,
)
from bbopt.testing.running import (
    any_point,
    asked_event,
    completed_outcome,
    optimizer_of,
    point_key,
    points_of,
    require,
    require_equal,
    require_number,
    require_replay,
    run,
)
from bbopt.trial import Event, Failed, Told

N_COSTLY: Final = 8
"""Steps of the checks that compute everything several times; give settings with a short initial
design, so that these see the model as well."""


def same_seed_gives_the_same_suggestions(spec: object) -> None:
    """Equal settings, seed and history give equal suggestions."""
    first, second = (run(optimizer_of(varied_problem(spec), spec, seed=3)) for _ in range(2))
    require_equal(points_of(first), points_of(second))


def another_seed_gives_other_suggestions(spec: object) -> None:
    """The seed matters."""
    first, second = (run(optimizer_of(varied_problem(spec), spec, seed=s), 4) for s in (1, 2))
    require(points_of(first) != points_of(second), "two seeds gave the same points")


def a_recorded_log_replays_bit_for_bit(spec: object) -> None:
    """Every suggestion can be computed again from what it had seen."""
    optimizer = optimizer_of(varied_problem(spec), spec, seed=5)
    run(optimizer, 8)
    optimizer.enqueue(any_point(optimizer))
    open_trials = optimizer.ask(4)
    for trial in reversed(open_trials):
        optimizer.tell(trial, measure(trial))
    run(optimizer, 3)
    require_replay(optimizer)


def suggestions_that_saw_less_than_the_log_replay(spec: object) -> None:
    """A result that arrives while an ask computes does not spoil the record."""
    optimizer = optimizer_of(box_problem(), spec, seed=6)
    trials = run(optimizer, 8)
    open_trial = optimizer.ask()[0]
    suggested = optimizer.suggest(2)
    optimizer.fold([Told(open_trial.number, completed_outcome(optimizer, open_trial))])
    optimizer.fold([asked_event(suggested, len(trials) + 2)])
    optimizer.ask()
    require_replay(optimizer)


def rebuilding_after_every_call_changes_nothing(spec: object) -> None:
    """A strategy rebuilt from the log continues exactly as the live one."""
    live = optimizer_of(varied_problem(spec), spec, seed=7)
    events: list[Event | None] = []
    for step in range(N_COSTLY):
        rebuilt = optimizer_of(varied_problem(spec), spec, seed=7)
        rebuilt.fold(events)
        n = 1 + step % 2
        one, other = live.suggest(n), rebuilt.suggest(n)
        require_equal(one.suggestions, other.suggestions)
        require(one.state.equals(other.state), "the states differ after a rebuild")
        first = len(live.trials) + 1
        new: list[Event] = [asked_event(one, first)]
        live.fold(new)
        told: list[Event] = [
            Told(number, completed_outcome(live, live.trials[number]))
            for number in range(first, first + len(one.suggestions))
        ]
        live.fold(told)
        events += [*new, *told]


def an_uncommitted_suggestion_leaves_no_trace(spec: object) -> None:
    """``suggest`` without a stored answer, ``predict`` and ``recommend`` change nothing."""
    optimizer, twin = (optimizer_of(varied_problem(spec), spec, seed=8) for _ in range(2))
    for step in range(N_COSTLY):
        dropped = optimizer.suggest(2)
        require_equal(dropped.suggestions, optimizer.suggest(2).suggestions)
        optimizer.recommend()
        _try_to_predict(optimizer)
        trials = [o.ask()[0] for o in (optimizer, twin)]
        require_equal(trials[0], trials[1])
        for each, trial in zip((optimizer, twin), trials, strict=True):
            each.tell(trial, measure(trial) if step % 5 else Failed("power cut"))


def the_points_of_a_batch_do_not_depend_on_its_size(spec: object) -> None:
    """The first point of a batch is the one that would have been asked for alone."""
    optimizer = optimizer_of(box_problem(), spec, seed=9)
    for _ in range(4):
        one, many = optimizer.suggest(1), optimizer.suggest(4)
        require_equal(one.suggestions[0].parameters, many.suggestions[0].parameters)
        n = len(many.suggestions)
        require_number(spec, n, 4)
        require(
            len({point_key(s.parameters) for s in many.suggestions}) == n, "a batch repeats"
        )
        run(optimizer, 4)


def points_of_a_series_may_be_stored_a_few_at_a_time(spec: object) -> None:
    """Where results are ignored, the rest of an answer is what comes next, whatever is told."""
    if not capabilities_of(spec).ignores_results:
        return
    for problem in (box_problem(), varied_problem(spec)):
        ahead, live = (optimizer_of(problem, spec, seed=21) for _ in range(2))
        answer = ahead.suggest(9)
        require(answer.states[-1].equals(answer.state), "the last state is not the answer's")
        stored = 0
        for n in (1, 3, 5):
            few = answer.suggestions[stored : stored + n]
            state = answer.states[stored + n - 1]
            require_equal(
                [each.parameters for each in live.suggest(n).suggestions],
                [each.parameters for each in few],
            )
            live.fold([asked_event(Suggested(few, state, False), stored + 1)])
            live.fold([Told(stored + 1, completed_outcome(live, live.trials[stored + 1]))])
            stored += n
        ahead.fold(live.log.events())
        require_equal(
            [each.parameters for each in ahead.suggest(2).suggestions],
            [each.parameters for each in live.suggest(2).suggestions],
        )


CHECKS: Final = (
    same_seed_gives_the_same_suggestions,
    another_seed_gives_other_suggestions,
    a_recorded_log_replays_bit_for_bit,
    suggestions_that_saw_less_than_the_log_replay,
    rebuilding_after_every_call_changes_nothing,
    an_uncommitted_suggestion_leaves_no_trace,
    the_points_of_a_batch_do_not_depend_on_its_size,
    points_of_a_series_may_be_stored_a_few_at_a_time,
)


def _try_to_predict(optimizer: Optimizer) -> None:
    try:
        optimizer.predict([any_point(optimizer)])
    except (UnsupportedError, PreconditionError):
        return
