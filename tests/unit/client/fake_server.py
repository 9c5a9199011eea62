"""A server in this process that does as little as the client needs, and fails on demand.

Every call passes through ``FakeService._handle``: it is noted, may be made to fail before or
after its work is done (a lost answer), and an answer is kept under its request id.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from bbopt.errors import BboptError, NotFoundError, TrialFinishedError, UnavailableError
from bbopt.rpc.errors import error_to_item_status, error_to_status, status_to_metadata
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb2
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.rpc.v1.insight_service_pb2_grpc import (
    InsightServiceServicer,
    add_InsightServiceServicer_to_server,
)
from bbopt.rpc.v1.optimization_service_pb2_grpc import (
    OptimizationServiceServicer,
    add_OptimizationServiceServicer_to_server,
)

Context = grpc.ServicerContext
M = TypeVar("M", bound=Message)
State = trial_pb2.Trial
_STATES = {
    "completed": State.STATE_COMPLETED,
    "stopped": State.STATE_STOPPED,
    "infeasible": State.STATE_INFEASIBLE,
    "failed": State.STATE_FAILED,
    "abandoned": State.STATE_ABANDONED,
}


@dataclass
class Fault:
    """What is to go wrong with a call."""

    error: BboptError | None = None
    code: grpc.StatusCode | None = None
    """A bare status, as gRPC itself or a proxy would send it."""
    is_after_work: bool = False
    before: Callable[[], None] = field(default=lambda: None)

    def abort(self, context: Context) -> None:
        if self.error is not None:
            status = error_to_status(self.error)
            context.set_trailing_metadata(status_to_metadata(status))
            context.abort(grpc.StatusCode(_code(status.code)), status.message)
        if self.code is not None:
            context.abort(self.code, "made to fail")


def _code(number: int) -> Any:  # noqa: ANN401 - the value of a grpc.StatusCode is a pair
    return next(code.value for code in grpc.StatusCode if code.value[0] == number)


class FakeService(OptimizationServiceServicer, InsightServiceServicer):
    """Studies in dictionaries; trials are numbered points of a fixed walk."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calls: list[tuple[str, Message]] = []
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.answers: dict[str, Message] = {}
        self.studies: dict[str, study_pb2.Study] = {}
        self.trials: dict[str, dict[int, trial_pb2.Trial]] = {}
        self.directives: dict[int, int] = {}
        self.events: list[pb2.StudyEvent] = []
        self.break_watch_after: list[int] = []
        self.lease_s = 60
        self.n_told: dict[int, int] = defaultdict(int)

    def fail(self, method: str, *faults: Fault) -> None:
        """Make the next calls of a method go wrong, one after the other."""
        self.faults[method].extend(faults)

    def requests(self, method: str) -> list[Any]:
        """Return what was sent to a method, every attempt of it."""
        with self.lock:
            return [request for name, request in self.calls if name == method]

    # Studies

    def CreateStudy(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> study_pb2.Study:
            name = f"{request.parent}/studies/{request.study_id}"
            study = study_pb2.Study()
            study.CopyFrom(request.study)
            study.name, study.uid = name, uuid4().hex
            study.state = study_pb2.Study.STATE_ACTIVE
            self.studies[name] = study
            self.trials[name] = {}
            return study

        return self._handle("CreateStudy", request, context, work)

    def GetStudy(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        return self._handle("GetStudy", request, context, lambda: self._study(request.name))

    def ListStudies(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> pb2.ListStudiesResponse:
            studies = list(self.studies.values())
            at = int(request.page_token or 0)
            token = str(at + 2) if at + 2 < len(studies) else ""
            return pb2.ListStudiesResponse(studies=studies[at : at + 2], next_page_token=token)

        return self._handle("ListStudies", request, context, work)

    def DeleteStudy(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> Empty:
            self._study(request.name)
            del self.studies[request.name]
            return Empty()

        return self._handle("DeleteStudy", request, context, work)

    def GetServerInfo(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        return self._handle(
            "GetServerInfo", request, context, lambda: pb2.ServerInfo(version="fake")
        )

    # Ask and tell

    def AskTrials(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        return self._handle("AskTrials", request, context, lambda: self._ask(request))

    def TellTrials(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        return self._handle("TellTrials", request, context, lambda: self._tell(request))

    def TellAndAsk(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> pb2.TellAndAskResponse:
            return pb2.TellAndAskResponse(
                tell=self._tell(request.tell), ask=self._ask(request.ask)
            )

        return self._handle("TellAndAsk", request, context, work)

    def ReportMeasurements(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> pb2.ReportMeasurementsResponse:
            trial = self._trial(request.trial)
            trial.measurements.extend(request.measurements)
            stops = trial.state == State.STATE_STOPPING
            return pb2.ReportMeasurementsResponse(should_stop=stops, reason="asked to")

        return self._handle("ReportMeasurements", request, context, work)

    def HeartbeatTrials(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> pb2.HeartbeatTrialsResponse:
            return pb2.HeartbeatTrialsResponse(
                directives=[
                    pb2.HeartbeatTrialsResponse.Directive(
                        trial=held.trial,
                        action=self.directives.get(int(held.trial.rpartition("/")[2]), 1),  # type: ignore[arg-type]
                        reason="because",
                    )
                    for held in request.held
                ]
            )

        return self._handle("HeartbeatTrials", request, context, work)

    def ReleaseTrials(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> pb2.ReleaseTrialsResponse:
            for held in request.held:
                trial = self._trial(held.trial)
                trial.state = State.STATE_QUEUED
                trial.attempt += 1
            return pb2.ReleaseTrialsResponse()

        return self._handle("ReleaseTrials", request, context, work)

    def CreateTrial(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> trial_pb2.Trial:
            trial = self._new_trial(request.parent, State.STATE_QUEUED)
            trial.parameters.clear()
            for name, value in request.parameters.items():
                trial.parameters[name].CopyFrom(value)
            trial.labels.update(request.labels)
            if request.HasField("outcome"):
                self._finish(trial, request.outcome)
            return trial

        return self._handle("CreateTrial", request, context, work)

    def GetTrial(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        return self._handle("GetTrial", request, context, lambda: self._trial(request.name))

    def ListTrials(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> pb2.ListTrialsResponse:
            self._study(request.parent)
            trials = [
                trial
                for trial in self.trials[request.parent].values()
                if not request.states or trial.state in request.states
            ]
            at = int(request.page_token or 0)
            token = str(at + 2) if at + 2 < len(trials) else ""
            return pb2.ListTrialsResponse(trials=trials[at : at + 2], next_page_token=token)

        return self._handle("ListTrials", request, context, work)

    def AmendTrial(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> trial_pb2.Trial:
            trial = self._trial(request.name)
            self._finish(trial, request.outcome)
            trial.amendments += 1
            return trial

        return self._handle("AmendTrial", request, context, work)

    def StopTrial(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> trial_pb2.Trial:
            trial = self._trial(request.name)
            trial.state = State.STATE_STOPPING
            return trial

        return self._handle("StopTrial", request, context, work)

    def WatchStudy(  # noqa: N802
        self, request: pb2.WatchStudyRequest, context: Context
    ) -> Iterator[pb2.StudyEvent]:
        with self.lock:
            self.calls.append(("WatchStudy", request))
            faults = self.faults["WatchStudy"]
            if faults:
                faults.pop(0).abort(context)
            n_left = self.break_watch_after.pop(0) if self.break_watch_after else None
            events = [each for each in self.events if each.revision > request.since_revision]
        for event in events:
            if n_left == 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
            yield event
            n_left = None if n_left is None else n_left - 1
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    # Insight

    def Predict(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> insight_pb2.PredictResponse:
            row = insight_pb2.PredictResponse.Row(probability_feasible=0.5)
            row.metrics["loss"].mean = 1.0
            row.metrics["loss"].sd = 0.25
            return insight_pb2.PredictResponse(rows=[row] * len(request.points))

        return self._handle("Predict", request, context, work)

    def GetBest(self, request: Any, context: Context) -> Any:  # noqa: N802, ANN401
        def work() -> insight_pb2.GetBestResponse:
            done = [
                trial
                for trial in self.trials[request.name].values()
                if trial.state == State.STATE_COMPLETED
            ]
            if not done:
                return insight_pb2.GetBestResponse()
            best = min(done, key=lambda trial: trial.final_measurement.metrics["loss"].value)
            return insight_pb2.GetBestResponse(trial=best, feasible=best.number != 13)

        return self._handle("GetBest", request, context, work)

    # Behind the calls

    def _handle(
        self, method: str, request: M, context: Context, work: Callable[[], Message]
    ) -> Message:
        with self.lock:
            sent = type(request)()
            sent.CopyFrom(request)
            self.calls.append((method, sent))
            fault = self.faults[method].pop(0) if self.faults[method] else Fault()
        fault.before()
        if not fault.is_after_work:
            fault.abort(context)
        try:
            with self.lock:
                answer = self._once(getattr(request, "request_id", ""), work)
        except BboptError as error:
            Fault(error=error).abort(context)
            raise AssertionError("aborted") from error
        fault.abort(context)
        return answer

    def _once(self, request_id: str, work: Callable[[], Message]) -> Message:
        if request_id and request_id in self.answers:
            return self.answers[request_id]
        answer = work()
        kept = type(answer)()
        kept.CopyFrom(answer)
        if request_id:
            self.answers[request_id] = kept
        return kept

    def _study(self, name: str, uid: str = "") -> study_pb2.Study:
        found = self.studies.get(name)
        if found is None or (uid and uid != found.uid):
            raise NotFoundError(f"there is no {name}")
        return found

    def _trial(self, name: str) -> trial_pb2.Trial:
        study, _, number = name.rpartition("/trials/")
        self._study(study)
        found = self.trials[study].get(int(number))
        if found is None:
            raise NotFoundError(f"there is no {name}")
        return found

    def _new_trial(self, study: str, state: Any) -> trial_pb2.Trial:  # noqa: ANN401
        number = len(self.trials[study]) + 1
        trial = trial_pb2.Trial(
            name=f"{study}/trials/{number}", number=number, state=state, attempt=1
        )
        trial.provenance.generator = "sobol"
        trial.parameters["x"].double_value = (number * 0.618) % 1.0
        self.trials[study][number] = trial
        return trial

    def _ask(self, request: Any) -> pb2.AskTrialsResponse:  # noqa: ANN401
        study = self._study(request.parent, request.study_uid)
        response = pb2.AskTrialsResponse(study_state=study.state)
        trials = self.trials[request.parent]
        budget = study.spec.budget
        limit = budget.max_trials if budget.HasField("max_trials") else 10**9
        n_open = sum(trial.state not in (State.STATE_FAILED,) for trial in trials.values())
        for _ in range(min(request.count, limit - n_open)):
            trial = self._new_trial(request.parent, State.STATE_ACTIVE)
            trial.worker_id = trial.lease.worker_id = request.worker_id
            trial.lease.token = f"token-{trial.number}"
            trial.lease.duration.seconds = self.lease_s
            trial.start_time.GetCurrentTime()
            response.trials.append(trial)
        if response.trials:
            response.reason = pb2.AskTrialsResponse.REASON_COUNT_MET
        elif any(trial.state == State.STATE_ACTIVE for trial in trials.values()):
            response.reason = pb2.AskTrialsResponse.REASON_WAITING_FOR_RESULTS
        else:
            response.reason = pb2.AskTrialsResponse.REASON_BUDGET_EXHAUSTED
        return response

    def _tell(self, request: Any) -> pb2.TellTrialsResponse:  # noqa: ANN401
        study = self._study(request.parent, request.study_uid)
        response = pb2.TellTrialsResponse()
        for tell in request.tells:
            result = response.results.add(trial=tell.trial)
            try:
                trial = self._trial(tell.trial)
                if trial.state not in (State.STATE_ACTIVE, State.STATE_STOPPING):
                    raise TrialFinishedError(f"trial {trial.number} is finished")
            except BboptError as error:
                result.status.CopyFrom(error_to_item_status(error))
                continue
            self._finish(trial, tell.outcome)
            self.n_told[trial.number] += 1
            result.state = trial.state
        response.study_state = study.state
        return response

    def _finish(self, trial: trial_pb2.Trial, outcome: trial_pb2.Outcome) -> None:
        kind = outcome.WhichOneof("kind")
        assert kind is not None
        trial.state = _STATES[kind]
        if kind == "failed" and not outcome.failed.final:
            trial.state = State.STATE_QUEUED
        if kind in ("completed", "stopped"):
            trial.final_measurement.CopyFrom(getattr(outcome, kind))
            trial.feasible = True
        else:
            trial.state_message = getattr(outcome, kind).message
        trial.end_time.GetCurrentTime()


@dataclass
class FakeServer:
    """A running fake."""

    service: FakeService
    address: str
    server: grpc.Server

    def stop(self) -> None:
        """Stop answering, like a server that was killed."""
        self.server.stop(None).wait()


def serve(service: FakeService, address: str = "127.0.0.1:0") -> FakeServer:
    """Start a fake; an address that was used before is taken again."""
    options = [("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    add_OptimizationServiceServicer_to_server(service, server)
    add_InsightServiceServicer_to_server(service, server)
    port = server.add_insecure_port(address)
    server.start()
    return FakeServer(service, f"127.0.0.1:{port}", server)


@contextmanager
def serving() -> Iterator[FakeServer]:
    """Run a fake for the length of a block."""
    fake = serve(FakeService())
    try:
        yield fake
    finally:
        fake.stop()


def unavailable(retry_after_s: float = 0.01) -> Fault:
    """A server that says to come back later."""
    return Fault(error=UnavailableError("draining", retry_after_s=retry_after_s))
