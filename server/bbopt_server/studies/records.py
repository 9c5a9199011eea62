"""The bytes of rows <-> the domain: the one place of the rules that knows serialisation."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from bbopt.errors import DataLossError, InvalidError
from bbopt.rpc.log import event_to_message, new_trial_to_message
from bbopt.rpc.splice import bytes_field, int_field
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.trial import (
    measurement_to_message,
    outcome_from_message,
    outcome_to_message,
    stage_to_message,
)
from bbopt.rpc.v1 import log_pb2, study_pb2, trial_pb2
from bbopt.specs import StudySpec
from bbopt.trial import Event, Measurement, NewTrial, Outcome, Stage
from bbopt_server.storage.store import StudyRow

_ASKED, _TOLD = log_pb2.LogEvent.Asked, log_pb2.LogEvent.Told


@dataclass(frozen=True, slots=True)
class StudyChanged:
    """The study itself changed; strategies need not know."""

    state: str
    """Name of a ``Study.State`` without its prefix."""
    reason: bytes
    """``StateReason``."""


def event_to_bytes(event: Event | StudyChanged) -> tuple[str, bytes]:
    """Serialise an event; return the name of its kind with it."""
    if isinstance(event, StudyChanged):
        changed = log_pb2.LogEvent.StudyChanged(
            state=study_pb2.Study.State.Value(f"STATE_{event.state}"),
            reason=study_pb2.StateReason.FromString(event.reason),
        )
        message = log_pb2.LogEvent(study_changed=changed)
    else:
        message = event_to_message(event)
    kind = message.WhichOneof("kind")
    if kind is None:
        raise AssertionError("every event has a kind")
    return kind, message.SerializeToString(deterministic=True)


def told_to_bytes(number: int, outcome: bytes, *, is_late: bool) -> bytes:
    """Serialise a ``Told`` event.

    Args:
        number: Of the trial.
        outcome: Serialised.
        is_late: Whether it came after the lease was gone.
    """
    told = int_field(_TOLD.NUMBER_FIELD_NUMBER, number)
    told += bytes_field(_TOLD.OUTCOME_FIELD_NUMBER, outcome)
    if is_late:
        told += int_field(_TOLD.LATE_FIELD_NUMBER, 1)
    return bytes_field(log_pb2.LogEvent.TOLD_FIELD_NUMBER, told)


@dataclass(frozen=True, slots=True)
class AskedBytes:
    """An ``Asked`` event, and each of its trials by itself."""

    first_number: int
    payload: bytes
    trials: tuple[bytes, ...]


def asked_to_bytes(
    first_number: int, points: Sequence[bytes], state: bytes | None
) -> AskedBytes:
    """Serialise an ``Asked`` event of at least one trial.

    Args:
        first_number: Of the first trial; the others follow.
        points: As ``suggestion_to_bytes`` writes them.
        state: Serialised.
    """
    trials = tuple(
        int_field(log_pb2.NewTrial.NUMBER_FIELD_NUMBER, number) + point
        for number, point in enumerate(points, start=first_number)
    )
    asked = b"".join(bytes_field(_ASKED.TRIALS_FIELD_NUMBER, trial) for trial in trials)
    if state is not None:
        asked += bytes_field(_ASKED.STATE_FIELD_NUMBER, state)
    payload = bytes_field(log_pb2.LogEvent.ASKED_FIELD_NUMBER, asked)
    return AskedBytes(first_number, payload, trials)


def begun_at(point: bytes, stage: Stage) -> bytes:
    """Say how far the trial of a point goes, unless the strategy has said so."""
    message = log_pb2.NewTrial.FromString(point)
    if message.HasField("stage"):
        return point
    message.stage.CopyFrom(stage_to_message(stage))
    return message.SerializeToString(deterministic=True)


def has_state(asked: bytes) -> bool:
    """Say whether an ``asked`` event moved the strategy."""
    return log_pb2.LogEvent.FromString(asked).asked.HasField("state")


def new_trial_to_bytes(trial: NewTrial) -> bytes:
    """Serialise a trial as it was created."""
    return new_trial_to_message(trial).SerializeToString(deterministic=True)


def outcome_to_bytes(outcome: Outcome) -> bytes:
    """Serialise a final outcome; equal outcomes have equal bytes."""
    return outcome_to_message(outcome).SerializeToString(deterministic=True)


def outcome_from_bytes(data: bytes) -> Outcome:
    """Read a final outcome.

    Raises:
        DataLossError: The stored outcome cannot be read.
    """
    try:
        return outcome_from_message(trial_pb2.Outcome.FromString(data))
    except InvalidError as error:
        raise DataLossError(f"stored outcome: {error}") from error


def measurement_to_bytes(measurement: Measurement) -> bytes:
    """Serialise an intermediate measurement."""
    return measurement_to_message(measurement).SerializeToString(deterministic=True)


def state_reason_to_bytes(code: str, message: str) -> bytes:
    """Serialise why a study is in its state.

    Args:
        code: Name of a ``StateReason.Code`` without its prefix.
        message: For people.
    """
    number = study_pb2.StateReason.Code.Value(f"CODE_{code}")
    return study_pb2.StateReason(code=number, message=message).SerializeToString()


def state_reason_code(data: bytes) -> str:
    """Read the code of a state's reason, without its prefix."""
    code = study_pb2.StateReason.FromString(data).code
    return study_pb2.StateReason.Code.Name(code).removeprefix("CODE_")


def study_labels_to_bytes(labels: Mapping[str, str]) -> bytes:
    """Serialise the labels of a study."""
    return study_pb2.Study(labels=labels).SerializeToString(deterministic=True)


def trial_labels_to_bytes(labels: Mapping[str, str]) -> bytes:
    """Serialise the labels of a trial."""
    return trial_pb2.Trial(labels=labels).SerializeToString(deterministic=True)


class SpecCache:
    """Definitions of studies as domain objects, decoded once.

    A study's definition never changes, so its key identifies it. Used from the thread that
    runs transactions and from the event loop. Those used longest ago leave.
    """

    def __init__(self, max_bytes: int = 4 << 20) -> None:
        """Start empty.

        Args:
            max_bytes: How much to keep, as it is stored; decoded, a definition takes about
                twenty times as much.
        """
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._specs: OrderedDict[str, tuple[StudySpec, int]] = OrderedDict()
        self._changing = Lock()

    def spec_of(self, row: StudyRow) -> StudySpec:
        """Return the definition of a study.

        Raises:
            DataLossError: What is stored cannot be read.
        """
        with self._changing:
            if row.uid in self._specs:
                self._specs.move_to_end(row.uid)
                return self._specs[row.uid][0]
            spec = spec_from_bytes(row.spec)
            self._specs[row.uid] = (spec, len(row.spec))
            self._n_bytes += len(row.spec)
            while self._n_bytes > self._max_bytes and len(self._specs) > 1:
                _, (_, n) = self._specs.popitem(last=False)
                self._n_bytes -= n
            return spec


def spec_from_bytes(data: bytes) -> StudySpec:
    """Read a definition.

    Raises:
        DataLossError: What is stored cannot be read.
    """
    try:
        return study_spec_from_message(study_pb2.StudySpec.FromString(data))
    except InvalidError as error:
        raise DataLossError(f"stored definition of a study: {error}") from error
