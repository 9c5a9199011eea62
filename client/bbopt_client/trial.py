"""One trial: a point to evaluate, and the verbs that say what became of it."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from bbopt.errors import (
    BboptError,
    DeadlineError,
    LeaseLostError,
    LimitError,
    RetryableError,
)
from bbopt.rpc.names import TrialName
from bbopt.rpc.times import duration_from_message
from bbopt.rpc.trial import measurement_from_message, measurement_to_message, trial_from_message
from bbopt.rpc.v1 import trial_pb2
from bbopt.rpc.v1.optimization_service_pb2 import (
    HeartbeatTrialsRequest,
    ReleaseTrialsRequest,
    ReportMeasurementsRequest,
)
from bbopt.space import ParamValue
from bbopt.trial import (
    Failed,
    Infeasible,
    Measurement,
    Outcome,
    Provenance,
    Stage,
    Stopped,
    TrialState,
)
from bbopt.trial.told import whole_number
from bbopt_client.arguments import seconds, text
from bbopt_client.heartbeat import Directive
from bbopt_client.outcomes import Metrics, Result, check_measurement, measurement_of
from bbopt_client.results import TellResult, datetime_from_message
from bbopt_client.session import new_request_id

if TYPE_CHECKING:
    from bbopt_client.study import Study

logger = logging.getLogger("bbopt.client")

__all__ = ["Directive", "Trial"]

_REPORT_DEADLINE_S = 10.0
"""A report is worth less than the time of the training that waits for it."""


class Trial:
    """A trial as the server last described it, with orders as they arrive.

    ``trial["lr"]`` is short for ``trial.parameters["lr"]``. In a ``with`` block an exception
    tells the trial as failed, an interrupt gives it back, and leaving the block without having
    told anything gives it back too.
    """

    def __init__(
        self, study: "Study", message: trial_pb2.Trial, *, is_held: bool = False
    ) -> None:
        snapshot = trial_from_message(message)
        self.study = study
        self.number: int = snapshot.number
        self.name: str = message.name
        # A map on the wire has no order; the space has one.
        values = snapshot.parameters
        names = [name for name in study.problem.space.names if name in values]
        self.parameters: Mapping[str, ParamValue] = MappingProxyType(
            {name: values[name] for name in names}
        )
        """In user units, in the order of the space; what is not active here is absent."""
        self.provenance: Provenance = snapshot.provenance
        self.attempt: int = snapshot.attempt
        self.stage: Stage | None = snapshot.stage
        """How far to evaluate, and what to continue; ``None`` if the study has no fidelity."""
        self._message = message
        self._state = snapshot.state
        self._outcome = snapshot.outcome
        self._directive = Directive.NONE
        self._directive_reason = ""
        self._is_held = is_held
        self._asked_at = time.monotonic() if is_held else None
        self._ended_at: float | None = None

    def __repr__(self) -> str:
        return f"<Trial {self.number} {self._state.name} {dict(self.parameters)}>"

    def __getitem__(self, parameter: str) -> ParamValue:
        return self.parameters[parameter]

    # What is known without a call ----------------------------------------------------------

    @property
    def state(self) -> TrialState:
        """Where the trial is in its life, as far as this process knows."""
        return self._state

    @property
    def fidelity(self) -> int | None:
        """How far to evaluate: steps counted from the beginning of the configuration; ``None``
        if the study has no fidelity.
        """
        return None if self.stage is None else self.stage.fidelity

    @property
    def resume_from(self) -> int | None:
        """Number of the trial whose run this one continues, if it does."""
        return None if self.stage is None else self.stage.resume_from

    @property
    def configuration(self) -> int:
        """Number of the first trial of this configuration: its own unless it resumes another;
        checkpoints that are named after it are found again.
        """
        first = None if self.stage is None else self.stage.configuration
        return first or self.number

    @property
    def outcome(self) -> Outcome | None:
        """How the trial ended; ``None`` before."""
        return self._outcome

    @property
    def metrics(self) -> Mapping[str, float]:
        """The final values; empty before the end and where nothing was measured."""
        measurement = self._measurement
        if measurement is None:
            return {}
        return {name: value.value for name, value in measurement.metrics.items()}

    @property
    def sd(self) -> Mapping[str, float]:
        """The standard deviations of those final values that were told with one."""
        measurement = self._measurement
        if measurement is None:
            return {}
        known = measurement.metrics.items()
        return {name: value.sd for name, value in known if value.sd is not None}

    @property
    def feasible(self) -> bool | None:
        """Whether every constraint holds; ``None`` before the end."""
        return self._message.feasible if self._message.HasField("feasible") else None

    @property
    def late(self) -> bool:
        """Whether the result came after the lease was gone."""
        return self._message.late

    @property
    def message(self) -> str:
        """Why the trial is in its state, where somebody said so."""
        return self._message.state_message

    @property
    def worker(self) -> str:
        """Who holds the trial, or held it last; empty while nobody has."""
        return self._message.worker_id

    @property
    def labels(self) -> Mapping[str, str]:
        """Free text that came with the trial."""
        return dict(self._message.labels)

    @property
    def revision(self) -> int:
        """Position in the log of the last event that changed the trial."""
        return self._message.revision

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Intermediate reports; filled by ``study.trial(number)`` only."""
        return tuple(measurement_from_message(each) for each in self._message.measurements)

    @property
    def create_time(self) -> datetime | None:
        """When the trial was asked for or enqueued."""
        return self._time("create_time")

    @property
    def start_time(self) -> datetime | None:
        """When its last attempt began."""
        return self._time("start_time")

    @property
    def end_time(self) -> datetime | None:
        """When it got its final result."""
        return self._time("end_time")

    @property
    def study_name(self) -> str:
        """Full resource name of the study."""
        return str(TrialName.parse(self.name).parent)

    @property
    def lease_token(self) -> str:
        """Proves the hold; empty if this process does not hold the trial."""
        return self._message.lease.token

    @property
    def lease_s(self) -> float:
        """Seconds between signs of life; 0 when the lease never expires."""
        return duration_from_message(self._message.lease.duration)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the trial, as far as it knows."""
        return self._is_held

    @property
    def directive(self) -> Directive:
        """What the server wants done with the trial; brought by heartbeats and reports."""
        return self._directive

    @property
    def directive_reason(self) -> str:
        """Why, in the server's words."""
        return self._directive_reason

    def should_stop(self) -> bool:
        """Say whether to stop evaluating; no call is made."""
        return self._directive is not Directive.NONE

    # What became of it ---------------------------------------------------------------------

    def tell(self, result: Result) -> TellResult:
        """Tell the final result: metrics, or any outcome.

        Args:
            result: ``{"accuracy": 0.97}``, ``{"accuracy": (0.97, 0.01)}`` with a standard
                deviation, a lone number where the problem has a single metric, or an outcome.

        Raises:
            InvalidError: A metric is unknown, missing or not finite; nothing was sent.
            TrialFinishedError: The trial has another final result.
            UnavailableError: No answer in time; the result is on disk and is sent again.
        """
        return self.study.tell(self, result)

    def tell_stopped(self, metrics: Metrics) -> TellResult:
        """Tell that the trial was ended early; what it measured is used."""
        return self.tell(Stopped(measurement_of(metrics, self.study.problem)))

    def tell_infeasible(
        self, message: str | BaseException = "", metrics: Metrics | None = None
    ) -> TellResult:
        """Tell that the point itself cannot be evaluated; the strategy learns it."""
        return self.tell(Infeasible(_described(message), self._partial(metrics)))

    def fail(
        self,
        message: str | BaseException = "",
        *,
        retry: bool = True,
        metrics: Metrics | None = None,
    ) -> TellResult:
        """Tell that the machine failed, not the point.

        Args:
            message: What happened: text, or the exception.
            retry: Run the same point again while attempts are left.
            metrics: What had been measured by then.
        """
        return self.tell(Failed(_described(message), retry, self._partial(metrics)))

    def report(self, step: int, metrics: Metrics, *, elapsed_s: float | None = None) -> bool:
        """Report an intermediate measurement.

        A report that cannot be delivered within seconds is dropped: it must not cost the
        evaluation.

        Args:
            step: Epoch or other counter, at least 0; the last report of a step counts. Where
                the study has a fidelity: its steps, counted from the beginning of the
                configuration even if this trial resumes another.
            metrics: Any of the problem's metrics.
            elapsed_s: Seconds since the trial began; measured if left out.

        Returns:
            Whether to stop evaluating.

        Raises:
            InvalidError: A metric is unknown or not finite.
        """
        problem = self.study.problem
        measurement = check_measurement(
            measurement_of(metrics, problem, step=whole_number("step", step, 0, 2**63 - 1)),
            problem,
            partial=True,
            elapsed_s=self.elapsed_s if elapsed_s is None else seconds("elapsed_s", elapsed_s),
        )
        request = ReportMeasurementsRequest(
            trial=self.name,
            lease_token=self.lease_token,
            measurements=[measurement_to_message(measurement)],
            request_id=new_request_id(),
        )
        try:
            answer = self.study.session.connection.call(
                lambda stubs: stubs.optimization.ReportMeasurements,
                request,
                deadline_s=_REPORT_DEADLINE_S,
            )
        except LeaseLostError as error:
            self.receive(Directive.LOST, str(error))
            self._let_go()
        except (RetryableError, LimitError, DeadlineError) as error:
            logger.warning("trial %d: a report (step %d) is lost: %s", self.number, step, error)
        else:
            if answer.should_stop:
                self.receive(Directive.STOP, answer.reason)
        return self.should_stop()

    def release(self, reason: str = "") -> None:
        """Give the trial back, so that the same point runs elsewhere; no attempt is used up."""
        request = ReleaseTrialsRequest(
            parent=self.study_name,
            held=[HeartbeatTrialsRequest.Held(trial=self.name, lease_token=self.lease_token)],
            reason=text("reason", reason),
            request_id=new_request_id(),
        )
        self._let_go()
        self.study.session.connection.call(
            lambda stubs: stubs.optimization.ReleaseTrials, request
        )

    def __enter__(self) -> "Trial":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_held:
            return
        if isinstance(error, Exception) and not isinstance(error, BboptError):
            self.fail(describe(error))
        else:
            self.release("left without a result" if error is None else type(error).__name__)

    # For the study and the heartbeats ------------------------------------------------------

    @property
    def elapsed_s(self) -> float | None:
        """Seconds from the moment this process was handed the trial to its end, or to now."""
        if self._asked_at is None:
            return None
        return (self._ended_at or time.monotonic()) - self._asked_at

    def end(self) -> float | None:
        """Stop the clock and return ``elapsed_s``; a result that is told twice is the same."""
        self._ended_at = self._ended_at or time.monotonic()
        return self.elapsed_s

    def receive(self, directive: Directive, reason: str) -> None:
        """Take an order; one that ends the hold is not taken back."""
        if self._state.is_final:
            return  # A heartbeat that crossed our own tell.
        if not self._directive.is_final:
            self._directive, self._directive_reason = directive, reason
        if directive.is_final:
            self._is_held = False

    def settle(self, outcome: Outcome, state: TrialState) -> None:
        """Take note of a result that the server has taken."""
        self._state = state
        self._outcome = outcome if state.is_final else None
        self._let_go()

    def _let_go(self) -> None:
        self._is_held = False
        self.study.session.heartbeats.drop(self)

    def _partial(self, metrics: Metrics | None) -> Measurement | None:
        return None if metrics is None else measurement_of(metrics, self.study.problem)

    @property
    def _measurement(self) -> Measurement | None:
        return getattr(self._outcome, "measurement", None)

    def _time(self, field: str) -> datetime | None:
        if not self._message.HasField(field):  # type: ignore[arg-type]
            return None
        return datetime_from_message(getattr(self._message, field))


def describe(error: BaseException) -> str:
    """Name an exception in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _described(message: str | BaseException) -> str:
    return describe(message) if isinstance(message, BaseException) else message
