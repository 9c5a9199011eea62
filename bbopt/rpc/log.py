"""Events of the log and states of strategies <-> what is stored of them.

Whoever reads these messages wrote them before, so anything wrong with one is a
``DataLossError``: a damaged file, or a version that knows more than this one.
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import DataLossError, InvalidError
from bbopt.rpc.points import parameters_from_message, write_parameters
from bbopt.rpc.trial import (
    measurement_from_message,
    measurement_to_message,
    outcome_from_message,
    outcome_to_message,
    printable,
    provenance_from_message,
    provenance_to_message,
    stage_from_message,
    stage_to_message,
)
from bbopt.rpc.v1 import log_pb2
from bbopt.rpc.violations import within
from bbopt.trial import (
    Amended,
    Asked,
    Enqueued,
    Event,
    Leased,
    NewTrial,
    Reported,
    Requeued,
    StopRequested,
    StrategyState,
    Suggestion,
    Told,
)

_DTYPES = ("<f8", "<i8")
_ITEM_SIZE = 8


# Events ------------------------------------------------------------------------------------


def event_to_message(event: Event) -> log_pb2.LogEvent:
    """Write an event."""
    log = log_pb2.LogEvent
    match event:
        case Asked(trials, state):
            message = log()
            message.asked.SetInParent()
            for each in trials:
                _write_new_trial(message.asked.trials.add(), each)
            if state is not None:
                message.asked.state.CopyFrom(strategy_state_to_message(state))
            return message
        case Enqueued(trial):
            return log(enqueued=log.Enqueued(trial=new_trial_to_message(trial)))
        case Leased(number, worker, attempt):
            return log(leased=log.Leased(number=number, worker=worker, attempt=attempt))
        case Requeued(number, text, attempt):
            text = printable(text)
            return log(requeued=log.Requeued(number=number, message=text, attempt=attempt))
        case Reported(number, measurement):
            report = measurement_to_message(measurement)
            return log(reported=log.Reported(number=number, measurement=report))
        case StopRequested(number, text):
            text = printable(text)
            return log(stop_requested=log.StopRequested(number=number, message=text))
        case Told(number, outcome, late):
            result = outcome_to_message(outcome)
            return log(told=log.Told(number=number, outcome=result, late=late))
        case Amended(number, outcome, text):
            result, text = outcome_to_message(outcome), printable(text)
            return log(amended=log.Amended(number=number, outcome=result, message=text))
        case _:
            assert_never(event)


def event_from_message(message: log_pb2.LogEvent) -> Event | None:
    """Read an event; ``None`` for a change of the study, which no strategy needs to know.

    Raises:
        DataLossError: The event is empty, of a kind unknown to this version, or damaged.
    """
    with _stored("event"):
        match message.WhichOneof("kind"):
            case "asked":
                return _asked_from_message(message.asked)
            case "enqueued":
                return Enqueued(new_trial_from_message(message.enqueued.trial))
            case "leased":
                leased = message.leased
                return Leased(leased.number, leased.worker, leased.attempt)
            case "requeued":
                requeued = message.requeued
                return Requeued(requeued.number, requeued.message, requeued.attempt)
            case "reported":
                reported = message.reported
                measurement = measurement_from_message(reported.measurement)
                return Reported(reported.number, measurement)
            case "stop_requested":
                return StopRequested(
                    message.stop_requested.number, message.stop_requested.message
                )
            case "told":
                told = message.told
                return Told(told.number, outcome_from_message(told.outcome), told.late)
            case "amended":
                amended = message.amended
                outcome = outcome_from_message(amended.outcome)
                return Amended(amended.number, outcome, amended.message)
            case "study_changed":
                return None
            case None:
                raise DataLossError("event: empty, or of a kind unknown to this version")


def _asked_from_message(message: log_pb2.LogEvent.Asked) -> Asked:
    state: StrategyState | None = None
    if message.HasField("state"):
        state = strategy_state_from_message(message.state)
    return Asked(tuple(map(new_trial_from_message, message.trials)), state)


def new_trial_to_message(trial: NewTrial) -> log_pb2.NewTrial:
    """Write a trial as it was created."""
    message = log_pb2.NewTrial()
    _write_new_trial(message, trial)
    return message


def suggestion_to_bytes(suggestion: Suggestion) -> bytes:
    """Serialise a suggestion as the ``NewTrial`` that it becomes, but for the number."""
    message = log_pb2.NewTrial()
    _write_suggestion(message, suggestion)
    return message.SerializeToString(deterministic=True)


def suggestion_from_bytes(data: bytes) -> Suggestion:
    """Read what ``suggestion_to_bytes`` wrote.

    Raises:
        DataLossError: A value is empty.
    """
    message = log_pb2.NewTrial.FromString(data)
    with _stored("suggestion"), within("parameters"):
        parameters = parameters_from_message(message.parameters)
    provenance = provenance_from_message(message.provenance)
    stage = stage_from_message(message.stage) if message.HasField("stage") else None
    return Suggestion(parameters, provenance, stage)


def _write_new_trial(message: log_pb2.NewTrial, trial: NewTrial) -> None:
    message.number = trial.number
    _write_suggestion(message, trial)


def _write_suggestion(message: log_pb2.NewTrial, trial: NewTrial | Suggestion) -> None:
    write_parameters(message.parameters, trial.parameters)
    message.provenance.CopyFrom(provenance_to_message(trial.provenance))
    if trial.stage is not None:
        message.stage.CopyFrom(stage_to_message(trial.stage))


def new_trial_from_message(message: log_pb2.NewTrial) -> NewTrial:
    """Read a trial as it was created.

    Raises:
        DataLossError: It has no number, or a value is empty.
    """
    with _stored("trial"):
        if message.number < 1:
            raise InvalidError.of("number", f"must be at least 1, not {message.number}")
        with within("parameters"):
            parameters = parameters_from_message(message.parameters)
    provenance = provenance_from_message(message.provenance)
    stage = stage_from_message(message.stage) if message.HasField("stage") else None
    return NewTrial(message.number, parameters, provenance, stage)


# States of strategies ----------------------------------------------------------------------


def strategy_state_to_message(state: StrategyState) -> log_pb2.StrategyState:
    """Write the state of a strategy, arrays byte for byte.

    Raises:
        TypeError: A scalar is no number or text, or an array is not float64 or int64.
    """
    message = log_pb2.StrategyState(kind=state.kind, schema=state.schema)
    for name, scalar in state.scalars.items():
        match scalar:
            case int():
                message.scalars[name].int_value = scalar
            case float():
                message.scalars[name].double_value = scalar
            case str():
                message.scalars[name].string_value = scalar
            case _:
                kind = type(scalar).__name__
                raise TypeError(f"scalar {name!r} must be an int, float or str, not {kind}")
    for name, array in state.arrays.items():
        message.arrays[name].CopyFrom(_array_to_message(name, array))
    return message


def strategy_state_to_bytes(state: StrategyState) -> bytes:
    """Serialise the state of a strategy.

    Raises:
        TypeError: As for ``strategy_state_to_message``.
    """
    return strategy_state_to_message(state).SerializeToString(deterministic=True)


def strategy_state_from_bytes(data: bytes) -> StrategyState:
    """Read the state of a strategy.

    Raises:
        DataLossError: As for ``strategy_state_from_message``.
    """
    return strategy_state_from_message(log_pb2.StrategyState.FromString(data))


def strategy_state_from_message(message: log_pb2.StrategyState) -> StrategyState:
    """Read the state of a strategy.

    Raises:
        DataLossError: It has no kind, a scalar is empty, or the type, the shape and the
            bytes of an array do not belong together.
    """
    if not message.kind:
        raise DataLossError("strategy state: it does not say which strategy wrote it")
    return StrategyState(
        message.kind,
        message.schema,
        {name: _scalar(name, message.scalars[name]) for name in sorted(message.scalars)},
        {name: _array(name, message.arrays[name]) for name in sorted(message.arrays)},
    )


def _scalar(name: str, message: log_pb2.StrategyState.Scalar) -> int | float | str:
    match message.WhichOneof("kind"):
        case "int_value":
            return message.int_value
        case "double_value":
            return message.double_value
        case "string_value":
            return message.string_value
        case None:
            raise DataLossError(f"strategy state: scalar {name!r} is empty")


def _array_to_message(name: str, array: NDArray[Any]) -> log_pb2.StrategyState.Array:
    little = array.dtype.newbyteorder("<")
    if little.str not in _DTYPES:
        raise TypeError(f"array {name!r} must be float64 or int64, not {array.dtype}")
    return log_pb2.StrategyState.Array(
        dtype=little.str, shape=array.shape, data=array.astype(little).tobytes()
    )


def _array(name: str, message: log_pb2.StrategyState.Array) -> NDArray[Any]:
    if message.dtype not in _DTYPES:
        raise DataLossError(f"strategy state: array {name!r} has type {message.dtype!r}")
    shape = tuple(message.shape)
    n_bytes = _ITEM_SIZE * math.prod(shape)
    if any(size < 0 for size in shape) or n_bytes != len(message.data):
        found = f"{len(message.data)} bytes for shape {shape}"
        raise DataLossError(f"strategy state: array {name!r} has {found}")
    try:
        flat = np.frombuffer(message.data, dtype=message.dtype)
        # A copy, so that the array may be written to; native, so that it is fast.
        return flat.reshape(shape).astype(flat.dtype.newbyteorder(sys.byteorder))
    except ValueError as error:  # More dimensions, or longer ones, than an array can have.
        raise DataLossError(f"strategy state: array {name!r} has shape {shape}") from error


@contextmanager
def _stored(what: str) -> Iterator[None]:
    """Report a message that cannot be read as damage to what is stored."""
    try:
        yield
    except InvalidError as error:
        raise DataLossError(f"{what}: {error}") from error
