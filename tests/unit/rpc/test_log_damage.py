from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bbopt.errors import DataLossError
from bbopt.rpc import log
from bbopt.rpc.v1 import log_pb2
from bbopt.trial import StrategyState

Array = log_pb2.StrategyState.Array


@pytest.mark.parametrize(
    "array",
    [
        Array(dtype="<f4", shape=[2], data=bytes(8)),
        Array(dtype="O", shape=[1], data=bytes(8)),
        Array(dtype="", shape=[1], data=bytes(8)),
        Array(dtype=">f8", shape=[1], data=bytes(8)),
        Array(dtype="<f8", shape=[2], data=bytes(8)),
        Array(dtype="<f8", shape=[1], data=bytes(9)),
        Array(dtype="<f8", shape=[], data=b""),
        Array(dtype="<f8", shape=[-1, -1], data=bytes(8)),
        Array(dtype="<f8", shape=[-1], data=bytes(8)),
        Array(dtype="<f8", shape=[2**62, 4, 0], data=b""),
        Array(dtype="<i8", shape=[1] * 100, data=bytes(8)),
    ],
)
def test_an_array_that_does_not_add_up_is_data_loss(array: Array) -> None:
    message = log_pb2.StrategyState(kind="gp")
    message.arrays["a"].CopyFrom(array)
    with pytest.raises(DataLossError, match="array 'a'"):
        log.strategy_state_from_message(message)


def test_an_empty_scalar_is_data_loss() -> None:
    message = log_pb2.StrategyState(kind="gp")
    message.scalars["s"].Clear()
    with pytest.raises(DataLossError, match="scalar 's'"):
        log.strategy_state_from_message(message)


def test_a_state_of_nobody_is_data_loss() -> None:
    with pytest.raises(DataLossError):
        log.strategy_state_from_message(log_pb2.StrategyState())


@pytest.mark.parametrize(
    "event",
    [
        log_pb2.LogEvent(),
        log_pb2.LogEvent(told=log_pb2.LogEvent.Told(number=1)),
        log_pb2.LogEvent(enqueued=log_pb2.LogEvent.Enqueued()),
        log_pb2.LogEvent(asked=log_pb2.LogEvent.Asked(trials=[log_pb2.NewTrial()])),
    ],
)
def test_an_event_that_cannot_be_read_is_data_loss(event: log_pb2.LogEvent) -> None:
    with pytest.raises(DataLossError):
        log.event_from_message(event)


def test_a_change_of_the_study_concerns_no_strategy() -> None:
    event = log_pb2.LogEvent(study_changed=log_pb2.LogEvent.StudyChanged())
    assert log.event_from_message(event) is None


def test_an_array_that_was_read_may_be_written_to() -> None:
    state = StrategyState("gp", arrays={"a": np.arange(3.0)})
    back = log.strategy_state_from_message(log.strategy_state_to_message(state))
    back.arrays["a"][0] = 9.0
    assert state.arrays["a"][0] == 0.0


def test_a_view_and_a_foreign_byte_order_are_stored_as_what_they_show() -> None:
    table = np.arange(6.0).reshape(2, 3)
    state = StrategyState("gp", arrays={"t": table.T, "b": table.astype(">f8")})
    back = log.strategy_state_from_message(log.strategy_state_to_message(state))
    np.testing.assert_array_equal(back.arrays["t"], table.T)
    np.testing.assert_array_equal(back.arrays["b"], table)
    assert back.arrays["b"].dtype == np.dtype("=f8")


@pytest.mark.parametrize("array", [np.zeros(2, np.float32), np.array(["x"]), np.array([None])])
def test_other_types_of_arrays_are_no_state(array: NDArray[Any]) -> None:
    with pytest.raises(TypeError, match="array 'a'"):
        log.strategy_state_to_message(StrategyState("gp", arrays={"a": array}))


def test_other_types_of_scalars_are_no_state() -> None:
    state = StrategyState("gp", scalars={"s": None})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="scalar 's'"):
        log.strategy_state_to_message(state)
