import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bbopt.errors import InvalidError
from bbopt.rpc import times, trial
from bbopt.rpc.names import StudyName
from bbopt.rpc.v1 import trial_pb2
from bbopt.trial import Completed, Failed, Measurement, Predicted, Provenance, Trial, TrialState

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (trial_pb2.Value(value=NAN), "value"),
        (trial_pb2.Value(value=INF), "value"),
        (trial_pb2.Value(value=-INF), "value"),
        (trial_pb2.Value(value=1.0, sd=-0.1), "sd"),
        (trial_pb2.Value(value=1.0, sd=NAN), "sd"),
        (trial_pb2.Value(value=1.0, sd=INF), "sd"),
        (trial_pb2.Value(value=1.0, replicates=-1), "replicates"),
    ],
)
def test_a_number_that_is_none_is_refused(message: trial_pb2.Value, field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        trial.value_from_message(message)
    assert [each.field for each in caught.value.violations] == [field]


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324, -0.0])
def test_extreme_numbers_are_numbers(value: float) -> None:
    assert trial.value_from_message(trial_pb2.Value(value=value)).value == value


def test_a_standard_deviation_of_zero_is_not_an_unknown_one() -> None:
    assert trial.value_from_message(trial_pb2.Value(value=1.0, sd=0.0)).sd == 0.0
    assert trial.value_from_message(trial_pb2.Value(value=1.0)).sd is None


def test_every_fault_of_an_outcome_is_listed_with_its_path() -> None:
    message = trial_pb2.Outcome()
    message.failed.partial.metrics["b"].value = NAN
    message.failed.partial.metrics["a"].sd = -1.0
    message.failed.partial.step = -1
    message.failed.partial.elapsed.seconds = -1
    with pytest.raises(InvalidError) as caught:
        trial.outcome_from_message(message)
    assert [each.field for each in caught.value.violations] == [
        "failed.partial.metrics[a].sd",
        "failed.partial.metrics[b].value",
        "failed.partial.step",
        "failed.partial.elapsed",
    ]


def test_an_outcome_must_be_one_of_the_kinds() -> None:
    with pytest.raises(InvalidError, match="completed, stopped, infeasible, failed"):
        trial.outcome_from_message(trial_pb2.Outcome())


def test_a_step_beyond_64_bits_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidError, match="step"):
        trial.measurement_to_message(Measurement({}, step=2**63))


def test_a_finished_trial_needs_its_measurement() -> None:
    message = trial_pb2.Trial(state=trial_pb2.Trial.STATE_COMPLETED)
    with pytest.raises(InvalidError, match="final_measurement"):
        trial.trial_from_message(message)


@pytest.mark.parametrize("state", [0, 99])
def test_an_unknown_state_is_refused(state: int) -> None:
    message = trial_pb2.Trial(state=state)  # type: ignore[arg-type]
    with pytest.raises(InvalidError) as caught:
        trial.trial_from_message(message)
    assert [each.field for each in caught.value.violations] == ["state"]


def test_the_message_of_a_trial_has_its_full_name() -> None:
    snapshot = Trial(7, {}, TrialState.COMPLETED, Provenance("gp"), Completed(Measurement({})))
    message = trial.trial_to_message(snapshot, StudyName("p", "s"))
    assert message.name == "projects/p/studies/s/trials/7"


def test_undecodable_output_of_a_command_can_be_told() -> None:
    output = b"caf\xe9".decode("utf-8", "surrogateescape")
    message = trial.outcome_to_message(Failed(output))
    assert message.failed.message == "caf?"


def test_a_predicted_interval_is_the_central_95_percent() -> None:
    interval = trial.interval_to_message(Predicted(mean=1.0, sd=2.0))
    assert interval.lower == pytest.approx(1.0 - 3.919928, abs=1e-6)
    assert interval.upper == pytest.approx(1.0 + 3.919928, abs=1e-6)


@pytest.mark.parametrize("seconds", [-1e-9, NAN, INF, 1e12])
def test_a_duration_that_is_none_is_not_sent(seconds: float) -> None:
    with pytest.raises(InvalidError):
        times.duration_to_message(seconds)


@pytest.mark.parametrize(
    "message",
    [
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(nanos=10**9),
        Duration(seconds=10**12),
    ],
)
def test_a_duration_that_is_none_is_refused(message: Duration) -> None:
    with pytest.raises(InvalidError):
        times.duration_from_message(message)


@pytest.mark.parametrize(
    "message",
    [Timestamp(seconds=253_402_300_800), Timestamp(nanos=-1), Timestamp(nanos=10**9)],
)
def test_a_time_out_of_range_is_refused(message: Timestamp) -> None:
    with pytest.raises(InvalidError):
        times.timestamp_from_message(message)
