"""What the server answers, as plain values: asks, tells, predictions, events."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, overload

from google.protobuf.timestamp_pb2 import Timestamp

from bbopt.errors import BboptError
from bbopt.rpc.enums import known
from bbopt.rpc.errors import error_from_item_status
from bbopt.rpc.times import timestamp_from_message
from bbopt.rpc.trial import interval_from_message, trial_state_from_message
from bbopt.rpc.v1 import insight_service_pb2, optimization_service_pb2, study_pb2
from bbopt.trial import Measurement, Predicted, TrialState

if TYPE_CHECKING:
    from bbopt_client.trial import Trial


class StudyState(enum.Enum):
    """Where a study is in its life."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Hands out nothing for now; results are taken."""
    COMPLETED = "completed"
    FAILED = "failed"
    DELETED = "deleted"

    @property
    def is_final(self) -> bool:
        """Whether the study hands out nothing any more."""
        return self not in (StudyState.ACTIVE, StudyState.PAUSED)


_STUDY_STATES = {
    study_pb2.Study.STATE_ACTIVE: StudyState.ACTIVE,
    study_pb2.Study.STATE_PAUSED: StudyState.PAUSED,
    study_pb2.Study.STATE_COMPLETED: StudyState.COMPLETED,
    study_pb2.Study.STATE_FAILED: StudyState.FAILED,
    study_pb2.Study.STATE_DELETED: StudyState.DELETED,
}


def study_state_from_message(number: "study_pb2.Study.State.ValueType") -> StudyState:
    """Read the state of a study."""
    return known(number, _STUDY_STATES)


class AskReason(enum.Enum):
    """Why an ask brought the trials that it brought."""

    COUNT_MET = "count_met"
    WAITING_FOR_RESULTS = "waiting_for_results"
    """The rest of the budget is being evaluated; a trial may come back."""
    SPACE_EXHAUSTED = "space_exhausted"
    BUDGET_EXHAUSTED = "budget_exhausted"
    STUDY_NOT_ACTIVE = "study_not_active"
    TIMED_OUT = "timed_out"


_ASK_REASONS = {
    optimization_service_pb2.AskTrialsResponse.REASON_COUNT_MET: AskReason.COUNT_MET,
    optimization_service_pb2.AskTrialsResponse.REASON_WAITING_FOR_RESULTS: (
        AskReason.WAITING_FOR_RESULTS
    ),
    optimization_service_pb2.AskTrialsResponse.REASON_SPACE_EXHAUSTED: (
        AskReason.SPACE_EXHAUSTED
    ),
    optimization_service_pb2.AskTrialsResponse.REASON_BUDGET_EXHAUSTED: (
        AskReason.BUDGET_EXHAUSTED
    ),
    optimization_service_pb2.AskTrialsResponse.REASON_STUDY_NOT_ACTIVE: (
        AskReason.STUDY_NOT_ACTIVE
    ),
    optimization_service_pb2.AskTrialsResponse.REASON_TIMED_OUT: AskReason.TIMED_OUT,
}


def ask_reason_from_message(
    number: "optimization_service_pb2.AskTrialsResponse.Reason.ValueType",
) -> AskReason:
    """Read why an ask brought what it brought."""
    return known(number, _ASK_REASONS)


@dataclass(frozen=True, slots=True)
class AskResult(Sequence["Trial"]):
    """The trials of one ask, a sequence; an empty one says why."""

    trials: "tuple[Trial, ...]"
    reason: AskReason
    study_state: StudyState
    retry_after_s: float | None = None
    """When asking again makes sense, if the server said so."""

    @property
    def is_finished(self) -> bool:
        """Whether asking again will never bring anything."""
        if self.trials:
            return False
        return self.study_state.is_final or self.reason in (
            AskReason.SPACE_EXHAUSTED,
            AskReason.BUDGET_EXHAUSTED,
        )

    @overload
    def __getitem__(self, index: int) -> "Trial": ...
    @overload
    def __getitem__(self, index: slice) -> "tuple[Trial, ...]": ...
    def __getitem__(self, index: int | slice) -> "Trial | tuple[Trial, ...]":
        return self.trials[index]

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> "Iterator[Trial]":
        return iter(self.trials)


@dataclass(frozen=True, slots=True)
class TellResult:
    """What became of one told outcome."""

    number: int
    state: TrialState | None
    """Of the trial after the tell; ``None`` when it was refused."""
    error: BboptError | None = None
    """Why it was refused."""
    was_duplicate: bool = False
    """The same outcome was already there."""
    was_late: bool = False
    """The lease was gone; the result was taken all the same."""


def tell_result_from_message(message: optimization_service_pb2.TellResult) -> TellResult:
    """Read what became of one item of a batch."""
    error = error_from_item_status(message.status)
    return TellResult(
        number=int(message.trial.rpartition("/")[2] or 0),
        state=None if error is not None else trial_state_from_message(message.state),
        error=error,
        was_duplicate=message.was_duplicate,
        was_late=message.was_late,
    )


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model expects at one point, in user units."""

    metrics: Mapping[str, Predicted]
    probability_feasible: float


def prediction_from_message(message: insight_service_pb2.PredictResponse.Row) -> Prediction:
    """Read the prediction at one point."""
    names = sorted(message.metrics)
    metrics = {name: interval_from_message(message.metrics[name]) for name in names}
    return Prediction(metrics, message.probability_feasible)


@dataclass(frozen=True, slots=True)
class StudyStats:
    """How many trials are in each state, and what they cost."""

    queued: int
    active: int
    completed: int
    stopped: int
    infeasible: int
    failed: int
    abandoned: int
    cost_spent: float

    @property
    def n_finished(self) -> int:
        """Trials that count against a budget of trials."""
        return self.completed + self.stopped + self.infeasible


def stats_from_message(message: study_pb2.StudyStats) -> StudyStats:
    """Read the counts of a study."""
    return StudyStats(
        queued=message.queued,
        active=message.active,
        completed=message.completed,
        stopped=message.stopped,
        infeasible=message.infeasible,
        failed=message.failed,
        abandoned=message.abandoned,
        cost_spent=message.cost_spent,
    )


@dataclass(frozen=True, slots=True)
class StudyEvent:
    """One event of a study's log, with what it changed as it is now."""

    revision: int
    """Position in the log, from 1; an ask of several trials is several of one revision."""
    kind: str
    """asked, enqueued, leased, requeued, reported, stop_requested, told, amended, study."""
    time: datetime | None
    trial: "Trial | None" = None
    study_state: StudyState | None = None
    """For a change of the study itself."""
    measurement: Measurement | None = None
    """For a report."""


def datetime_from_message(message: Timestamp) -> datetime:
    """Read a time."""
    return datetime.fromtimestamp(timestamp_from_message(message), UTC)
