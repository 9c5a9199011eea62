"""What counts at which rung, and who is promoted or stopped."""

from bbopt.problem import Fidelity, Metric, MetricKind, Problem
from bbopt.space import Float, Space
from bbopt.specs import AshaSpec, Promotion
from bbopt.stopping import Rungs, full_stage, initial_stage, reason_to_stop
from bbopt.stopping.rungs import WORST
from bbopt.trial import (
    Amended,
    Asked,
    Completed,
    Event,
    Failed,
    Infeasible,
    Measurement,
    NewTrial,
    Provenance,
    Reported,
    Requeued,
    Stage,
    Stopped,
    StopRequested,
    Told,
    Value,
)

PROBLEM = Problem(
    Space((Float("x", 0.0, 1.0),)),
    (Metric.parse("accuracy"), Metric("size", MetricKind.CONSTRAINT, upper=2.0)),
    fidelity=Fidelity("epochs", 1, 9),
)


def measured(value: float, step: int | None = None, **metrics: float) -> Measurement:
    named = {"accuracy": value, **metrics}
    return Measurement({name: Value(each) for name, each in named.items()}, step)


def begun(number: int, stage: Stage | None = None) -> Event:
    trial = NewTrial(number, {"x": 0.5}, Provenance("asha"), stage or Stage(1))
    return Asked((trial,), None)


def folded(*events: Event) -> Rungs:
    rungs = Rungs(PROBLEM)
    rungs.fold(events)
    return rungs


def three(*values: float) -> list[Event]:
    """Trials that have completed the lowest rung."""
    events: list[Event] = []
    for number, value in enumerate(values, 1):
        events += [begun(number), Told(number, Completed(measured(value)))]
    return events


def test_the_first_report_that_reaches_a_rung_counts_there() -> None:
    rungs = folded(
        begun(1, Stage(9)),
        Reported(1, measured(0.5, 4)),
        Reported(1, measured(0.6, 5)),
        Reported(1, measured(0.4, 3)),
        Reported(1, measured(0.45, 3)),
        Reported(1, measured(0.1, 0)),
    )
    assert [rungs.scores(k) for k in range(3)] == [{}, {1: (0.0, 0.45)}, {}]


def test_missing_a_constraint_is_worse_than_any_value() -> None:
    events: list[Event] = []
    for number, size in ((1, 1.0), (2, 4.0), (3, 2.0)):
        outcome = Completed(measured(float(number), size=size))
        events += [begun(number), Told(number, outcome)]
    assert folded(*events).best(0, at_least=3) == [3, 1, 2]


def test_the_best_third_is_promoted_once() -> None:
    rungs = folded(*three(0.1, 0.3))
    assert rungs.promotable() is None
    rungs = folded(*three(0.1, 0.3, 0.2))
    run = rungs.promotable()
    assert run is not None
    assert run.number == 2
    assert rungs.promotable([2]) is None
    rungs.fold([begun(4, Stage(3, 2, 2))])
    assert rungs.promotable() is None
    # Failed for good: the rung below has lost it, and does not try again.
    rungs.fold([Told(4, Failed("lost"))])
    assert rungs.promotable() is None


def test_of_equals_the_older_configuration_goes_first() -> None:
    assert folded(*three(0.2, 0.2, 0.2)).best(0) == [1]


def test_a_point_that_cannot_be_evaluated_counts_and_is_never_promoted() -> None:
    rungs = folded(*three(0.1, 0.2), begun(3), Told(3, Infeasible("diverged")))
    assert rungs.scores(0)[3] == WORST
    assert rungs.best(0) == [2]
    assert 3 not in rungs.best(0, at_least=3)
    promoted = begun(4, Stage(3, 2, 2))
    rungs.fold([promoted, Told(4, Infeasible("diverged at last"))])
    assert rungs.scores(1) == {2: WORST}


def test_a_run_that_begins_anew_does_not_repeat_its_rungs() -> None:
    rungs = folded(*three(0.1, 0.3, 0.2), begun(4, Stage(3, 2, 2)))
    rungs.fold([Reported(4, measured(0.0, 1)), Reported(4, measured(0.7, 3))])
    assert rungs.scores(0)[2] == (0.0, 0.3)
    assert rungs.scores(1) == {2: (0.0, 0.7)}


def test_a_corrected_result_is_the_one_that_counts() -> None:
    rungs = folded(*three(0.1, 0.3, 0.2), Amended(2, Completed(measured(0.0)), ""))
    assert rungs.best(0) == [3]
    rungs.fold([Amended(3, Failed("it was the machine"), "")])
    assert set(rungs.scores(0)) == {1, 2}
    stopped = folded(
        begun(1, Stage(9)),
        Reported(1, measured(0.5, 3)),
        Told(1, Stopped(measured(0.5))),
        Amended(1, Stopped(measured(0.9)), "wrong unit"),
    )
    assert stopped.scores(1) == {1: (0.0, 0.9)}


def test_a_trial_that_was_told_to_stop_has_not_reached_its_fidelity() -> None:
    events: list[Event] = [
        begun(1, Stage(9)),
        Reported(1, measured(0.5, 1)),
        StopRequested(1, ""),
    ]
    told = Told(1, Completed(measured(0.5)))
    assert folded(*events, told).highest(1) == 0
    # The next attempt begins without the order.
    assert folded(*events, Requeued(1, "lost", 2), told).highest(1) == 2


def test_a_trial_beyond_its_fidelity_is_to_stop_and_one_at_it_is_not() -> None:
    rungs = folded(*three(0.9), begun(2), Reported(2, measured(0.1, 1)))
    assert reason_to_stop(rungs, Promotion.RESUME, 2, [1]) is None
    assert reason_to_stop(rungs, Promotion.RESUME, 2, [1, 2]) is not None
    assert reason_to_stop(rungs, Promotion.RESUME, 7, [5]) is None


def test_a_trial_that_runs_on_is_judged_once_at_each_rung() -> None:
    events = [begun(number, Stage(9)) for number in (1, 2, 3, 4)]
    rungs = folded(*events, *(Reported(n, measured(n / 10, 1)) for n in (1, 2, 3)))
    assert reason_to_stop(rungs, Promotion.CONTINUE, 3, [1]) is None
    reason = reason_to_stop(rungs, Promotion.CONTINUE, 2, [1])
    assert reason is not None
    assert "at 1, where 3" in reason
    # A better one does not take back what was granted, until the next rung.
    rungs.fold([Reported(4, measured(0.9, 1)), Reported(3, measured(0.5, 2))])
    assert reason_to_stop(rungs, Promotion.CONTINUE, 3, [2]) is None
    rungs.fold([Reported(3, measured(0.5, 3))])
    assert reason_to_stop(rungs, Promotion.CONTINUE, 3, [3]) is not None
    rungs.fold([Reported(4, measured(0.9, 9))])
    assert reason_to_stop(rungs, Promotion.CONTINUE, 4, [9]) is None


def test_new_configurations_begin_low_or_run_on() -> None:
    assert initial_stage(PROBLEM, AshaSpec()) == Stage(1)
    assert initial_stage(PROBLEM, AshaSpec(Promotion.CONTINUE)) == Stage(9)
    assert full_stage(PROBLEM) == Stage(9)
