"""What trials measured, how they ended and where they came from <-> messages.

Numbers of a measurement must be finite: what could not be measured is another outcome.
"""

import sys
from math import isfinite
from typing import assert_never

from bbopt.errors import InvalidError
from bbopt.rpc.enums import known
from bbopt.rpc.names import StudyName, TrialName
from bbopt.rpc.points import parameters_from_message, parameters_to_message
from bbopt.rpc.times import duration_from_message, write_duration
from bbopt.rpc.v1 import trial_pb2
from bbopt.rpc.violations import Violations, prefixed, within
from bbopt.trial import (
    Abandoned,
    Completed,
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Predicted,
    Provenance,
    Stage,
    Stopped,
    Trial,
    TrialState,
    Value,
)

_STATE_TO_MESSAGE = {
    TrialState.QUEUED: trial_pb2.Trial.STATE_QUEUED,
    TrialState.ACTIVE: trial_pb2.Trial.STATE_ACTIVE,
    TrialState.STOPPING: trial_pb2.Trial.STATE_STOPPING,
    TrialState.COMPLETED: trial_pb2.Trial.STATE_COMPLETED,
    TrialState.STOPPED: trial_pb2.Trial.STATE_STOPPED,
    TrialState.INFEASIBLE: trial_pb2.Trial.STATE_INFEASIBLE,
    TrialState.FAILED: trial_pb2.Trial.STATE_FAILED,
    TrialState.ABANDONED: trial_pb2.Trial.STATE_ABANDONED,
}
_STATE_FROM_MESSAGE = {number: state for state, number in _STATE_TO_MESSAGE.items()}

_HALF_WIDTH = 1.959963984540054
"""Of a central 95 % interval, in standard deviations of a normal distribution."""
_MAX_INT64 = 2**63 - 1
_INFINITY = float("inf")


# Measurements ------------------------------------------------------------------------------


def write_value(message: trial_pb2.Value, value: Value) -> None:
    """Write one measured number."""
    message.value = value.value
    if value.sd is not None:
        message.sd = value.sd
    message.replicates = value.replicates


def value_from_message(message: trial_pb2.Value) -> Value:
    """Read one measured number.

    Raises:
        InvalidError: The number is not finite, its standard deviation is negative or not
            finite, or the replicates are negative.
    """
    value, sd, replicates = message.value, message.sd, message.replicates
    if not (isfinite(value) and 0 <= sd < _INFINITY and replicates >= 0):
        violations = Violations()
        if not isfinite(value):
            violations.add("value", f"must be finite, not {value}")
        if not 0 <= sd < _INFINITY:
            violations.add("sd", f"must be finite and not negative, but is {sd}")
        if replicates < 0:
            violations.add("replicates", f"must not be negative, but is {replicates}")
        violations.check()
    return Value(value, sd if message.HasField("sd") else None, replicates or 1)


def measurement_to_message(measurement: Measurement) -> trial_pb2.Measurement:
    """Write a measurement as a message; see ``write_measurement``."""
    message = trial_pb2.Measurement()
    write_measurement(message, measurement)
    return message


def write_measurement(message: trial_pb2.Measurement, measurement: Measurement) -> None:
    """Write the metrics of one step or of the end of a trial.

    Raises:
        InvalidError: The elapsed time is not a valid duration, or the step does not fit.
    """
    message.SetInParent()  # Even if nothing was measured.
    if measurement.step is not None:
        if not 0 <= measurement.step <= _MAX_INT64:
            raise InvalidError.of("step", f"must be in [0, 2**63), not {measurement.step}")
        message.step = measurement.step
    if measurement.elapsed_s is not None:
        with within("elapsed"):
            write_duration(message.elapsed, measurement.elapsed_s)
    for name, value in measurement.metrics.items():
        write_value(message.metrics[name], value)


def measurement_from_message(message: trial_pb2.Measurement) -> Measurement:
    """Read the metrics of one step or of the end of a trial.

    Raises:
        InvalidError: A number is not finite, or the step or the elapsed time is negative.
    """
    violations = Violations()
    metrics = {}
    for name in sorted(message.metrics):  # A map has no order of its own.
        try:  # As ``within``, at a fifth of the time: this is every tell.
            metrics[sys.intern(name)] = value_from_message(message.metrics[name])
        except InvalidError as error:
            violations.extend(prefixed(error, f"metrics[{name}]"))
    if message.step < 0:
        violations.add("step", f"must not be negative, but is {message.step}")
    elapsed_s: float | None = None
    if message.HasField("elapsed"):
        with violations.within("elapsed"):
            elapsed_s = duration_from_message(message.elapsed)
    violations.check()
    return Measurement(metrics, message.step if message.HasField("step") else None, elapsed_s)


# Outcomes ----------------------------------------------------------------------------------


def outcome_to_message(outcome: Outcome) -> trial_pb2.Outcome:
    """Write a final outcome; lone surrogates in a message become question marks."""
    message = trial_pb2.Outcome()
    match outcome:
        case Completed(measurement):
            write_measurement(message.completed, measurement)
        case Stopped(measurement):
            write_measurement(message.stopped, measurement)
        case Infeasible(text, partial):
            message.infeasible.message = printable(text)
            if partial is not None:
                write_measurement(message.infeasible.partial, partial)
        case Failed(text, retryable, partial):
            message.failed.message = printable(text)
            message.failed.final = not retryable
            if partial is not None:
                write_measurement(message.failed.partial, partial)
        case Abandoned(text):
            message.abandoned.message = printable(text)
        case _:
            assert_never(outcome)
    return message


def outcome_from_message(message: trial_pb2.Outcome) -> Outcome:
    """Read a final outcome.

    Raises:
        InvalidError: The outcome is unset, or its measurement is wrong.
    """
    match message.WhichOneof("kind"):
        case "completed":
            try:  # As ``within``, at a fifth of the time: this is every tell.
                return Completed(measurement_from_message(message.completed))
            except InvalidError as error:
                raise type(error)(prefixed(error, "completed")) from error
        case "stopped":
            with within("stopped"):
                return Stopped(measurement_from_message(message.stopped))
        case "infeasible":
            with within("infeasible"):
                return Infeasible(message.infeasible.message, _partial(message.infeasible))
        case "failed":
            failure = message.failed
            with within("failed"):
                return Failed(failure.message, not failure.final, _partial(failure))
        case "abandoned":
            return Abandoned(message.abandoned.message)
        case None:
            kinds = "completed, stopped, infeasible, failed, abandoned"
            raise InvalidError.of("", f"must be one of {kinds}")


def _partial(message: trial_pb2.Infeasible | trial_pb2.Failure) -> Measurement | None:
    if not message.HasField("partial"):
        return None
    with within("partial"):
        return measurement_from_message(message.partial)


# Provenance --------------------------------------------------------------------------------


def provenance_to_message(provenance: Provenance) -> trial_pb2.Provenance:
    """Write where a suggestion came from."""
    message = trial_pb2.Provenance(
        generator=provenance.generator,
        data_revision=provenance.data_revision,
        degraded_from=provenance.degraded_from,
        reason=printable(provenance.reason),
        acquisition_value=provenance.acquisition_value,
    )
    for name, predicted in provenance.predicted.items():
        message.predicted[name].CopyFrom(interval_to_message(predicted))
    return message


def provenance_from_message(message: trial_pb2.Provenance) -> Provenance:
    """Read where a suggestion came from."""
    has_value = message.HasField("acquisition_value")
    return Provenance(
        sys.intern(message.generator),
        data_revision=message.data_revision,
        degraded_from=message.degraded_from,
        reason=message.reason,
        acquisition_value=message.acquisition_value if has_value else None,
        predicted={
            sys.intern(name): interval_from_message(message.predicted[name])
            for name in sorted(message.predicted)
        },
    )


def interval_to_message(predicted: Predicted) -> trial_pb2.Interval:
    """Write a prediction, with the normal 95 % interval that follows from it."""
    half_width = _HALF_WIDTH * predicted.sd
    return trial_pb2.Interval(
        mean=predicted.mean,
        sd=predicted.sd,
        lower=predicted.mean - half_width,
        upper=predicted.mean + half_width,
    )


def interval_from_message(message: trial_pb2.Interval) -> Predicted:
    """Read a prediction; its interval follows from mean and standard deviation."""
    return Predicted(message.mean, message.sd)


# Stages ------------------------------------------------------------------------------------


def stage_to_message(stage: Stage) -> trial_pb2.Stage:
    """Write how far a trial goes."""
    return trial_pb2.Stage(
        fidelity=stage.fidelity,
        resume_from=stage.resume_from or 0,
        configuration=stage.configuration or 0,
    )


def stage_from_message(message: trial_pb2.Stage) -> Stage:
    """Read how far a trial goes."""
    return Stage(message.fidelity, message.resume_from or None, message.configuration or None)


# Trials ------------------------------------------------------------------------------------


def trial_state_to_message(state: TrialState) -> "trial_pb2.Trial.State.ValueType":
    """Write a state."""
    return _STATE_TO_MESSAGE[state]


def trial_state_from_message(number: "trial_pb2.Trial.State.ValueType") -> TrialState:
    """Read a state.

    Raises:
        InvalidError: It is unset or not known to this version.
    """
    return known(number, _STATE_FROM_MESSAGE)


def trial_to_message(trial: Trial, study: StudyName) -> trial_pb2.Trial:
    """Write a snapshot of a trial; leases, times and labels are the server's to add."""
    message = trial_pb2.Trial(
        name=str(TrialName(study.project, study.study, trial.number)),
        number=trial.number,
        state=_STATE_TO_MESSAGE[trial.state],
        parameters=parameters_to_message(trial.parameters),
        attempt=trial.attempt,
        provenance=provenance_to_message(trial.provenance),
    )
    if trial.stage is not None:
        message.stage.CopyFrom(stage_to_message(trial.stage))
    if trial.outcome is not None:
        write_outcome(message, trial.outcome)
    return message


def trial_from_message(message: trial_pb2.Trial) -> Trial:
    """Read a snapshot of a trial.

    A trial that FAILED is not run again, so its outcome reads as not retryable.

    Raises:
        InvalidError: The state is unknown, a value is empty, or a final measurement is
            missing or wrong.
    """
    violations = Violations()
    with violations.within("state"):
        state = trial_state_from_message(message.state)
    with violations.within("parameters"):
        parameters = parameters_from_message(message.parameters)
    with violations.within(""):
        outcome = read_outcome(message)
    violations.check()
    provenance = provenance_from_message(message.provenance)
    stage = stage_from_message(message.stage) if message.HasField("stage") else None
    return Trial(message.number, parameters, state, provenance, outcome, message.attempt, stage)


def write_outcome(message: trial_pb2.Trial, outcome: Outcome) -> None:
    """Set the fields of a trial's message that tell its outcome, all but the state."""
    match outcome:
        case Completed(measurement) | Stopped(measurement):
            write_measurement(message.final_measurement, measurement)
        case Infeasible(text, partial) | Failed(message=text, measurement=partial):
            message.state_message = printable(text)
            if partial is not None:
                write_measurement(message.final_measurement, partial)
        case Abandoned(text):
            message.state_message = printable(text)
        case _:
            assert_never(outcome)


def read_outcome(message: trial_pb2.Trial) -> Outcome | None:
    """Read the outcome of a trial from its message; ``None`` unless its state is final.

    Raises:
        InvalidError: The measurement that the state promises is missing or wrong.
    """
    measurement: Measurement | None = None
    if message.HasField("final_measurement"):
        with within("final_measurement"):
            measurement = measurement_from_message(message.final_measurement)
    match _STATE_FROM_MESSAGE.get(message.state):
        case TrialState.COMPLETED | TrialState.STOPPED as state:
            if measurement is None:
                raise InvalidError.of("final_measurement", f"must be set: {state.value}")
            return (Completed if state is TrialState.COMPLETED else Stopped)(measurement)
        case TrialState.INFEASIBLE:
            return Infeasible(message.state_message, measurement)
        case TrialState.FAILED:
            return Failed(message.state_message, retryable=False, measurement=measurement)
        case TrialState.ABANDONED:
            return Abandoned(message.state_message)
        case _:
            return None


def printable(text: str) -> str:
    """Replace what UTF-8 cannot carry: undecodable output of a command, for instance."""
    return text.encode("utf-8", "replace").decode("utf-8")
