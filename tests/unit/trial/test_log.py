"""The log: what may follow what, and the trials it adds up to."""

from dataclasses import replace

import pytest

from bbopt.errors import DataLossError
from bbopt.trial import (
    Abandoned,
    Amended,
    Asked,
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
    Reported,
    Requeued,
    Stopped,
    StopRequested,
    Told,
    TrialState,
    Value,
    state_of,
)

MEASUREMENT = Measurement({"loss": Value(1.0)})
DONE = Completed(MEASUREMENT)


def new(number: int) -> NewTrial:
    return NewTrial(number, {"x": number / 10}, Provenance("sobol"))


def asked(*numbers: int) -> Asked:
    return Asked(tuple(new(number) for number in numbers), None)


def states(log: Log) -> list[TrialState]:
    return [trial.state for trial in log.trials.values()]


def test_an_empty_log_has_revision_0() -> None:
    log = Log()
    assert (log.revision, log.data_revision, dict(log.trials)) == (0, 0, {})
    assert log.events() == ()


def test_positions_count_from_1_and_events_are_read_back_from_anywhere() -> None:
    events: list[Event] = [asked(1, 2), Told(1, DONE), asked(3)]
    log = Log()
    assert [log.append(event) for event in events] == [1, 2, 3]
    assert log.revision == len(log) == 3
    assert log.events() == tuple(events)
    assert log.events(since=2) == (events[2],)
    assert log.events(since=3) == ()


def test_a_trial_lives_from_queue_to_outcome() -> None:
    log = Log([Enqueued(new(1))])
    assert states(log) == [TrialState.QUEUED]
    log.append(Leased(1, "a", 1))
    assert states(log) == [TrialState.ACTIVE]
    log.append(Reported(1, MEASUREMENT))
    log.append(Requeued(1, "lease expired", 2))
    assert states(log) == [TrialState.QUEUED]
    log.append(Leased(1, "b", 2))
    log.append(StopRequested(1, "enough"))
    assert states(log) == [TrialState.STOPPING]
    log.append(Told(1, Stopped(MEASUREMENT)))
    trial = log.trials[1]
    assert (trial.state, trial.attempt) == (TrialState.STOPPED, 2)
    assert (trial.outcome, trial.parameters) == (Stopped(MEASUREMENT), {"x": 0.1})


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (DONE, TrialState.COMPLETED),
        (Stopped(MEASUREMENT), TrialState.STOPPED),
        (Infeasible("no"), TrialState.INFEASIBLE),
        (Failed("oom"), TrialState.FAILED),
        (Abandoned(), TrialState.ABANDONED),
    ],
)
def test_every_outcome_has_its_state(outcome: Outcome, state: TrialState) -> None:
    assert state_of(outcome) is state
    assert states(Log([asked(1), Told(1, outcome)])) == [state]


def test_an_amended_trial_has_the_new_outcome_and_its_state() -> None:
    log = Log([asked(1), Told(1, DONE), Amended(1, Infeasible("wrong unit"), "typo")])
    assert states(log) == [TrialState.INFEASIBLE]


def test_a_trial_given_up_for_lost_may_be_told_late() -> None:
    log = Log([asked(1), Told(1, Failed("lost")), Told(1, DONE, late=True)])
    assert states(log) == [TrialState.COMPLETED]


def test_a_queued_trial_may_be_told_without_a_worker() -> None:
    assert states(Log([Enqueued(new(1)), Told(1, DONE)])) == [TrialState.COMPLETED]


def test_the_data_revision_moves_only_with_what_a_model_may_learn() -> None:
    log = Log([asked(1, 2, 3)])
    assert log.data_revision == 0
    log.append(Told(1, DONE))
    assert log.data_revision == 2
    log.append(Told(2, Failed()))
    log.append(Told(3, Abandoned()))
    log.append(asked(4))
    assert log.data_revision == 2
    log.append(Amended(2, DONE, ""))
    assert log.data_revision == 6
    log.append(Amended(2, Failed(), ""))
    assert log.data_revision == 7


ILLEGAL: list[tuple[list[Event], Event]] = [
    ([], asked(2)),
    ([], asked(1, 3)),
    ([asked(1)], asked(1)),
    ([asked(1)], Enqueued(new(3))),
    ([], Told(1, DONE)),
    ([asked(1)], Amended(1, DONE, "")),
    ([asked(1), Told(1, DONE)], Told(1, DONE)),
    ([asked(1), Told(1, DONE)], Told(1, DONE, late=True)),
    ([asked(1), Told(1, Failed())], Told(1, DONE)),
    ([asked(1), Told(1, DONE)], Leased(1, "a", 1)),
    ([asked(1), Told(1, DONE)], Requeued(1, "", 2)),
    ([asked(1), Told(1, DONE)], StopRequested(1, "")),
    ([asked(1), Told(1, DONE)], Reported(1, MEASUREMENT)),
    ([Enqueued(new(1))], StopRequested(1, "")),
    ([], Leased(1, "a", 1)),
    ([], Reported(1, MEASUREMENT)),
]


@pytest.mark.parametrize(("before", "event"), ILLEGAL)
def test_an_event_that_cannot_follow_is_refused_without_a_trace(
    before: list[Event], event: Event
) -> None:
    log = Log(before)
    trials = dict(log.trials)
    with pytest.raises(DataLossError, match=f"event {len(before) + 1} of the log"):
        log.append(event)
    assert (log.revision, dict(log.trials)) == (len(before), trials)


def test_a_snapshot_of_a_trial_does_not_change() -> None:
    log = Log([asked(1)])
    before = log.trials[1]
    log.append(Told(1, DONE))
    assert before.state is TrialState.ACTIVE
    assert log.trials[1] == replace(before, state=TrialState.COMPLETED, outcome=DONE)


def test_the_trials_of_a_log_cannot_be_changed_from_outside() -> None:
    log = Log([asked(1)])
    with pytest.raises(TypeError):
        log.trials[2] = log.trials[1]  # type: ignore[index]


def test_counts_and_the_queue_follow_every_trial() -> None:
    log = Log()
    events: list[Event] = [
        asked(1, 2, 3),
        Enqueued(new(4)),
        Requeued(2, "lost", 1),
        Told(1, DONE),
        Told(3, Failed("out of memory", retryable=False), late=False),
        Leased(4, "w", 1),
        Amended(1, Infeasible("crashed"), "misread"),
    ]
    for event in events:
        log.append(event)
        found = states(log)
        assert {state: log.n_in(state) for state in TrialState} == {
            state: found.count(state) for state in TrialState
        }
        assert log.queued == tuple(
            trial for trial in log.trials.values() if trial.state is TrialState.QUEUED
        )
    assert [trial.number for trial in log.queued] == [2]
