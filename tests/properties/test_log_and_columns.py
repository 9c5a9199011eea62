"""Whatever happens in a study, its trials and columns tell the same story."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.problem import Problem
from bbopt.space import Bool, Codec, Float, Space
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
    Columns,
    Completed,
    Enqueued,
    Event,
    Failed,
    Infeasible,
    Leased,
    Log,
    Measurement,
    NewTrial,
    Outcome,
    Provenance,
    Requeued,
    Stopped,
    StopRequested,
    Told,
    TrialState,
    Value,
)

PROBLEM = Problem.of(Space((Float("x", 0, 1), Bool("f"))), "-loss", constraints=["0 <= c <= 1"])
NUMBERS = st.floats(-2, 3)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    values = {"loss": Value(draw(NUMBERS)), "c": Value(draw(NUMBERS))}
    partial = draw(st.sampled_from((values, {"loss": values["loss"]}, {"c": values["c"]}, {})))
    choices: tuple[Outcome, ...] = (
        Completed(Measurement(values)),
        Stopped(Measurement(partial)),
        Infeasible("no"),
        Failed("oom"),
        Abandoned(),
    )
    return draw(st.sampled_from(choices))


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Events of a study in a legal order."""
    events: list[Event] = []
    log = Log()
    for _ in range(draw(st.integers(0, 25))):
        number = len(log.trials) + 1
        x = draw(st.floats(0, 1))
        trial = NewTrial(number, {"x": x, "f": draw(st.booleans())}, Provenance("sobol"))
        choices: list[Event] = [Asked((trial,), None), Enqueued(trial)]
        if log.trials:
            known = log.trials[draw(st.integers(1, len(log.trials)))]
            outcome = draw(outcomes())
            if known.state.is_final:
                choices = [*choices, Amended(known.number, outcome, "")] * 2
            else:
                choices += [
                    Told(known.number, outcome),
                    Told(known.number, outcome),
                    Leased(known.number, "w", known.attempt),
                    Requeued(known.number, "", known.attempt + 1),
                ]
            if known.state is TrialState.ACTIVE:
                choices.append(StopRequested(known.number, ""))
            if known.state is TrialState.FAILED:
                choices.append(Told(known.number, outcome, late=True))
        event = draw(st.sampled_from(choices))
        log.append(event)
        events.append(event)
    return events


@settings(max_examples=150, deadline=None)
@given(logs())
def test_rows_and_pending_points_are_those_of_the_trials(events: list[Event]) -> None:
    log, codec = Log(events), Codec(PROBLEM.space)
    columns = Columns(PROBLEM, codec, events)
    open_numbers = [t.number for t in log.trials.values() if not t.state.is_final]
    assert list(columns.pending_numbers) == open_numbers
    for x, number in zip(columns.pending, open_numbers, strict=True):
        assert np.array_equal(x, codec.encode(log.trials[number].parameters))
    for trial in log.trials.values():
        row = columns.row_of(trial.number)
        match trial.outcome:
            case Completed(measurement):
                assert row is not None
                assert columns.numbers[row] == trial.number
                assert columns.Y[row, 0] == -measurement.metrics["loss"].value
                feasible = PROBLEM.is_feasible(measurement.metrics)
                assert columns.feasible[row] == feasible
                assert bool((columns.Y[row, 1:] <= 0).all()) == feasible
            case Infeasible():
                assert row is not None
                assert columns.is_infeasible[row]
            case None | Failed() | Abandoned():
                assert row is None or np.isnan(columns.Y[row]).all()
            case Stopped():
                assert row is None or not columns.is_infeasible[row]


@settings(max_examples=60, deadline=None)
@given(logs())
def test_a_log_replayed_is_the_same_log(events: list[Event]) -> None:
    first, second = Log(events), Log()
    for position, event in enumerate(events, 1):
        assert second.append(event) == position
        assert second.data_revision <= position
    assert dict(first.trials) == dict(second.trials)
    assert first.data_revision == second.data_revision
