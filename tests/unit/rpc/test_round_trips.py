"""Domain -> message -> bytes -> message -> domain gives the same object."""

from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from bbopt.problem import Metric
from bbopt.rpc import constraints, log, points, problem, space, study, times, trial
from bbopt.rpc.names import StudyName
from bbopt.rpc.v1 import log_pb2, study_pb2, trial_pb2
from bbopt.space import Condition, Parameter, ParamValue, Space
from bbopt.specs import LeasePolicy, StrategySpec, StudySpec
from bbopt.trial import (
    Asked,
    Event,
    Measurement,
    NewTrial,
    Outcome,
    Provenance,
    StrategyState,
    Trial,
    TrialState,
    Value,
)
from tests.properties import spaces
from tests.unit.rpc import domain

M = TypeVar("M", bound=Message)


def sent(message: M) -> M:
    """What arrives at the other end."""
    return type(message).FromString(message.SerializeToString())


@given(domain.param_values)
def test_a_value_keeps_its_type(value: ParamValue) -> None:
    back = points.param_value_from_message(sent(points.param_value_to_message(value)))
    assert (type(back), back) == (type(value), value)


@given(domain.points)
def test_a_point_comes_back(point: dict[str, ParamValue]) -> None:
    message = log_pb2.NewTrial(parameters=points.parameters_to_message(point))
    back = points.parameters_from_message(sent(message).parameters)
    assert back == point
    assert {name: type(value) for name, value in back.items()} == {
        name: type(value) for name, value in point.items()
    }


@given(domain.parameters())
def test_a_parameter_comes_back(parameter: Parameter) -> None:
    message = sent(space.parameter_to_message(parameter))
    assert space.parameter_from_message(message) == parameter


@given(domain.conditions)
def test_a_condition_comes_back(condition: Condition) -> None:
    message = sent(constraints.condition_to_message(condition))
    assert constraints.condition_from_message(message) == condition


@given(spaces.spaces())
def test_a_space_comes_back(given_space: Space) -> None:
    parameters, bounds = space.space_to_message(given_space)
    back = space.space_from_message([sent(p) for p in parameters], [sent(c) for c in bounds])
    assert back == given_space


@given(domain.metrics)
def test_a_metric_comes_back(metric: Metric) -> None:
    assert problem.metric_from_message(sent(problem.metric_to_message(metric))) == metric


@given(domain.strategies)
def test_settings_of_a_strategy_come_back(strategy: StrategySpec) -> None:
    message = sent(study.strategy_to_message(strategy))
    assert study.strategy_from_message(message) == strategy


@given(domain.lease_policies)
def test_a_lease_policy_comes_back(policy: LeasePolicy) -> None:
    message = sent(study.lease_policy_to_message(policy))
    assert study.lease_policy_from_message(message) == policy


@given(domain.study_specs)
def test_the_definition_of_a_study_comes_back_and_has_equal_bytes(spec: StudySpec) -> None:
    data = study.study_spec_to_bytes(spec)
    again = study.study_spec_from_message(study_pb2.StudySpec.FromString(data))
    assert again == spec
    assert study.study_spec_to_bytes(again) == data


@given(domain.values)
def test_a_measured_number_comes_back(value: Value) -> None:
    message = trial_pb2.Value()
    trial.write_value(message, value)
    assert trial.value_from_message(sent(message)) == value


@given(domain.measurements)
def test_a_measurement_comes_back(measurement: Measurement) -> None:
    message = sent(trial.measurement_to_message(measurement))
    assert trial.measurement_from_message(message) == measurement


@given(domain.outcomes)
def test_an_outcome_comes_back(outcome: Outcome) -> None:
    assert trial.outcome_from_message(sent(trial.outcome_to_message(outcome))) == outcome


@given(domain.provenances)
def test_provenance_comes_back(provenance: Provenance) -> None:
    message = sent(trial.provenance_to_message(provenance))
    assert trial.provenance_from_message(message) == provenance


@given(st.sampled_from(TrialState))
def test_a_state_comes_back(state: TrialState) -> None:
    assert trial.trial_state_from_message(trial.trial_state_to_message(state)) is state


@given(domain.trials())
def test_a_snapshot_of_a_trial_comes_back(snapshot: Trial) -> None:
    message = sent(trial.trial_to_message(snapshot, StudyName("default", "s")))
    assert trial.trial_from_message(message) == snapshot


@given(domain.new_trials)
def test_a_new_trial_comes_back(new: NewTrial) -> None:
    assert log.new_trial_from_message(sent(log.new_trial_to_message(new))) == new


@given(domain.states)
def test_the_state_of_a_strategy_comes_back_bit_for_bit(state: StrategyState) -> None:
    back = log.strategy_state_from_message(sent(log.strategy_state_to_message(state)))
    assert back.equals(state)


@given(domain.asked)
def test_an_ask_comes_back_with_its_state(event: Asked) -> None:
    back = log.event_from_message(sent(log.event_to_message(event)))
    assert isinstance(back, Asked)
    assert back.trials == event.trials
    if event.state is None:
        assert back.state is None
    else:
        assert back.state is not None
        assert back.state.equals(event.state)


@given(domain.events_without_state)
def test_an_event_comes_back(event: Event) -> None:
    assert log.event_from_message(sent(log.event_to_message(event))) == event


@given(domain.seconds)
def test_a_duration_comes_back_to_the_nanosecond(seconds: float) -> None:
    assert times.duration_from_message(sent(times.duration_to_message(seconds))) == seconds


@given(st.floats(0, 1e11))
def test_a_duration_that_was_rounded_once_is_rounded_no_more(seconds: float) -> None:
    once = times.duration_from_message(times.duration_to_message(seconds))
    assert abs(once - seconds) <= max(1e-9, 1e-15 * seconds)
    assert times.duration_from_message(times.duration_to_message(once)) == once


@given(st.integers(-(10**16), 10**16).map(lambda micros: micros / 10**6))
def test_a_time_comes_back_to_the_microsecond(unix_s: float) -> None:
    message = Timestamp()
    times.write_timestamp(message, unix_s)
    assert times.timestamp_from_message(sent(message)) == unix_s


@settings(max_examples=20)  # The rest of the definition, which is large, hardly matters.
@given(domain.study_specs)
def test_a_spec_with_another_seed_has_other_bytes(spec: StudySpec) -> None:
    other = replace(spec, seed=spec.drawn_seed ^ 1)
    assert study.study_spec_to_bytes(other) != study.study_spec_to_bytes(spec)
