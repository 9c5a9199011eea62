"""The service without sockets: methods as on the wire, a fake compute, a clock to turn."""

# ruff: noqa: ANN401, ARG002 - any message may be built and answered; a fake ignores much

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bbopt.errors import BboptError, InvalidError
from bbopt.rpc.log import strategy_state_to_bytes, suggestion_to_bytes
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.space.codec import Codec
from bbopt.trial import Provenance, StrategyState, Suggestion
from bbopt_server.compute import Recommendation, StudyLog, Suggestions
from bbopt_server.rpc.methods import INSIGHT, OPTIMIZATION, Methods, Rpc, Unary
from bbopt_server.storage import MemoryStore, Store
from bbopt_server.studies import Studies
from bbopt_server.studies.outside import Outside
from bbopt_server.studies.records import spec_from_bytes
from tests.waiting import Clock

P = ParamSpec("P")

PARENT = "projects/default"
STUDY = f"{PARENT}/studies/s"

SERVICES = {
    OPTIMIZATION: pb.DESCRIPTOR.services_by_name["OptimizationService"],
    INSIGHT: insight_pb2.DESCRIPTOR.services_by_name["InsightService"],
}
_ids = itertools.count(1)


def asynchronous(
    test: Callable[P, Coroutine[Any, Any, None]],
) -> Callable[P, None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def new_id() -> str:
    return f"request-{next(_ids)}"


@dataclass
class FakeCompute:
    """Suggests uniform points; may be held back, broken, or exhausted."""

    jobs: list[tuple[str, int, int]] = field(default_factory=list)
    """Study, count and revision seen, of each job that began."""
    n_ahead: int = 0
    """Of those, the ones that nobody had asked for."""
    gate: asyncio.Event | None = None
    """Jobs wait for it."""
    error: BboptError | None = None
    n_left: int = 10**9
    recommendation: Recommendation = field(
        default_factory=lambda: Recommendation(None, "there is no model yet")
    )
    is_ready: bool = True
    elapsed_s: float = 0.0
    forgotten: list[str] = field(default_factory=list)
    set_aside: dict[str, float] = field(default_factory=dict)
    """Seconds for which a study gets no model, by uid."""

    async def suggest(
        self,
        study: StudyLog,
        count: int,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> Suggestions:
        revision = len(await study.events(0))
        self.n_ahead += is_ahead
        self.jobs.append((study.uid, count, revision))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        count = min(count, self.n_left)
        self.n_left -= count
        codec = Codec(spec_from_bytes(study.spec).problem.space)
        rows = codec.sample(np.random.default_rng(len(self.jobs)), max(1, count))[:count]
        return Suggestions(
            tuple(
                suggestion_to_bytes(
                    Suggestion(codec.decode(row), Provenance("fake", data_revision=revision))
                )
                for row in rows
            ),
            self._state(count),
            space_exhausted=self.n_left == 0,
            revision=revision,
            elapsed_s=self.elapsed_s,
            states=tuple(self._state(1 + i) for i in range(count)),
        )

    def _state(self, n_points: int) -> bytes:
        scalars = {"n_jobs": len(self.jobs), "n_points": n_points}
        return strategy_state_to_bytes(StrategyState("fake", scalars=scalars))

    async def predict(
        self, study: StudyLog, points: Sequence[insight_pb2.Point]
    ) -> insight_pb2.PredictResponse:
        row = insight_pb2.PredictResponse.Row(probability_feasible=1.0)
        return insight_pb2.PredictResponse(rows=[row for _ in points])

    async def recommend(self, study: StudyLog) -> Recommendation:
        if self.error is not None:
            raise self.error
        return self.recommendation

    def set_aside_s(self, uid: str) -> float:
        return self.set_aside.get(uid, 0.0)

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@dataclass
class Service:
    """Everything behind the sockets, and short ways to call it."""

    store: Store = field(default_factory=MemoryStore)
    compute: FakeCompute = field(default_factory=FakeCompute)
    clock: Clock = field(default_factory=Clock)
    tokens: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    has_ready_queue: bool = False
    studies: Studies = field(init=False)

    def __post_init__(self) -> None:
        outside = Outside(
            wall=self.clock,
            monotonic=self.clock,
            new_token=lambda: f"token-{next(self.tokens)}",
        )
        self.studies = Studies(
            self.store, self.compute, outside, has_ready_queue=self.has_ready_queue
        )
        self._table = Methods(self.studies, device="cpu").table()

    async def call(self, name: str, request: Message, *, time_left_s: float = 20.0) -> Any:
        """Call a method as the wire would; returns the message of the answer."""
        service = INSIGHT if name in self._table[INSIGHT] else OPTIMIZATION
        method = self._table[service][name]
        assert isinstance(method, Unary)
        data = await method.run(request, Rpc(time_left_s))
        answer = SERVICES[service].methods_by_name[name].output_type
        return GetMessageClass(answer).FromString(data)

    async def create(
        self, spec: study_pb2.StudySpec | None = None, **more: Any
    ) -> study_pb2.Study:
        request = pb.CreateStudyRequest(parent=PARENT, study_id="s", request_id=new_id())
        request.study.spec.CopyFrom(spec or quadratic())
        request.MergeFrom(pb.CreateStudyRequest(**more))
        study: study_pb2.Study = await self.call("CreateStudy", request)
        return study

    async def ask(
        self, count: int = 1, *, time_left_s: float = 20.0, **more: Any
    ) -> pb.AskTrialsResponse:
        fields = {"parent": STUDY, "worker_id": "w", "request_id": new_id(), **more}
        request = pb.AskTrialsRequest(count=count, **fields)
        answer: pb.AskTrialsResponse = await self.call(
            "AskTrials", request, time_left_s=time_left_s
        )
        return answer

    async def tell(
        self, trial: trial_pb2.Trial | int, outcome: trial_pb2.Outcome, **more: Any
    ) -> pb.TellResult:
        """Tell one outcome; returns its item of the answer."""
        number = trial if isinstance(trial, int) else trial.number
        token = "" if isinstance(trial, int) else trial.lease.token
        tell = pb.Tell(trial=str(number), lease_token=token, outcome=outcome)
        fields = {"parent": STUDY, "request_id": new_id(), **more}
        request = pb.TellTrialsRequest(tells=[tell], **fields)
        result: pb.TellResult = (await self.call("TellTrials", request)).results[0]
        return result

    async def trial(self, number: int) -> trial_pb2.Trial:
        request = pb.GetTrialRequest(name=f"{STUDY}/trials/{number}")
        trial: trial_pb2.Trial = await self.call("GetTrial", request)
        return trial

    async def study(self) -> study_pb2.Study:
        study: study_pb2.Study = await self.call("GetStudy", pb.GetStudyRequest(name=STUDY))
        return study

    async def create_trial(
        self, x: float, outcome: trial_pb2.Outcome | None = None, **more: Any
    ) -> trial_pb2.Trial:
        """Enqueue a point, or record it with its outcome."""
        fields = {"parent": STUDY, "request_id": new_id(), **more}
        request = pb.CreateTrialRequest(parameters=point(x=x, y=0.5), outcome=outcome, **fields)
        trial: trial_pb2.Trial = await self.call("CreateTrial", request)
        return trial

    async def report(
        self, trial: trial_pb2.Trial, losses: Mapping[int, float] | None = None, **more: Any
    ) -> pb.ReportMeasurementsResponse:
        """Report losses by step; one at the first step if none are given."""
        fields = {"lease_token": trial.lease.token, "request_id": new_id(), **more}
        request = pb.ReportMeasurementsRequest(trial=trial.name, **fields)
        for step, loss in (losses or {1: 1.0}).items():
            request.measurements.add(step=step).metrics["loss"].value = loss
        answer: pb.ReportMeasurementsResponse = await self.call("ReportMeasurements", request)
        return answer

    async def amend(self, number: int, outcome: trial_pb2.Outcome) -> trial_pb2.Trial:
        name = f"{STUDY}/trials/{number}"
        request = pb.AmendTrialRequest(
            name=name, outcome=outcome, reason="typo", request_id=new_id()
        )
        trial: trial_pb2.Trial = await self.call("AmendTrial", request)
        return trial

    async def stop_trial(self, number: int) -> trial_pb2.Trial:
        name = f"{STUDY}/trials/{number}"
        request = pb.StopTrialRequest(name=name, reason="enough", request_id=new_id())
        trial: trial_pb2.Trial = await self.call("StopTrial", request)
        return trial

    async def release(self, *trials: trial_pb2.Trial) -> list[pb.TellResult]:
        request = pb.ReleaseTrialsRequest(
            parent=STUDY, held=held(trials), reason="preempted", request_id=new_id()
        )
        return list((await self.call("ReleaseTrials", request)).results)

    async def heartbeat(self, *trials: trial_pb2.Trial) -> list[Any]:
        request = pb.HeartbeatTrialsRequest(parent=STUDY, held=held(trials))
        return list((await self.call("HeartbeatTrials", request)).directives)

    async def events(self) -> list[str]:
        """Name the kinds of the events of the study's log."""
        name = (await self.study()).name.split("/")
        row = await self.store.read(lambda tx: tx.study(name[1], name[3]))
        assert row is not None
        return [each.kind for each in await self.store.read(lambda tx: tx.events(row.key))]

    async def start(self) -> None:
        """Start, and leave sweeping to ``pass_time``: the sweeper sleeps by a real clock."""
        await self.studies.start()
        assert self.studies._sweeping is not None
        self.studies._sweeping.cancel()

    async def pass_time(self, seconds: float) -> None:
        """Turn the clock, and look for leases that ran out."""
        self.clock.now_s += seconds
        await self.studies.sweeper.end_expired()


def held(trials: Sequence[trial_pb2.Trial]) -> list[pb.HeartbeatTrialsRequest.Held]:
    return [
        pb.HeartbeatTrialsRequest.Held(trial=each.name, lease_token=each.lease.token)
        for each in trials
    ]


def double(name: str, low: float = 0.0, high: float = 1.0) -> study_pb2.ParameterSpec:
    domain = study_pb2.DoubleDomain(min=low, max=high)
    return study_pb2.ParameterSpec(id=name, double_domain=domain)


def quadratic(
    *,
    max_trials: int | None = None,
    max_cost: float | None = None,
    lease_s: float | None = None,
    max_attempts: int = 0,
    constrained: bool = False,
    strategy: str = "gp",
) -> study_pb2.StudySpec:
    """Two parameters, minimise ``loss``; perhaps with ``mass <= 1`` and a cost."""
    metrics = [
        study_pb2.Metric(
            id="loss",
            kind=study_pb2.Metric.KIND_OBJECTIVE,
            goal=study_pb2.Metric.GOAL_MINIMIZE,
        )
    ]
    if constrained:
        mass = study_pb2.Metric(id="mass", kind=study_pb2.Metric.KIND_CONSTRAINT, upper=1.0)
        metrics.append(mass)
    if max_cost is not None:
        metrics.append(study_pb2.Metric(id="cost", kind=study_pb2.Metric.KIND_COST))
    spec = study_pb2.StudySpec(parameters=[double("x"), double("y")], metrics=metrics)
    if max_trials is not None:
        spec.budget.max_trials = max_trials
    if max_cost is not None:
        spec.budget.max_cost = max_cost
    if lease_s is not None:
        spec.lease.duration.CopyFrom(seconds(lease_s))
    spec.lease.max_attempts = max_attempts
    getattr(spec.strategy, strategy).SetInParent()
    return spec


def seconds(value: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


def measured(**metrics: float) -> trial_pb2.Measurement:
    return trial_pb2.Measurement(
        metrics={name: trial_pb2.Value(value=value) for name, value in metrics.items()}
    )


def completed(loss: float = 1.0, **metrics: float) -> trial_pb2.Outcome:
    return trial_pb2.Outcome(completed=measured(loss=loss, **metrics))


def failed(message: str = "oom", *, final: bool = False) -> trial_pb2.Outcome:
    return trial_pb2.Outcome(failed=trial_pb2.Failure(message=message, final=final))


def point(**values: float) -> Mapping[str, study_pb2.ParamValue]:
    return {name: study_pb2.ParamValue(double_value=each) for name, each in values.items()}


@contextmanager
def refused(kind: type[BboptError], *, field: str | None = None) -> Iterator[None]:
    """Demand that the block is refused, and which field is blamed."""
    with pytest.raises(kind) as caught:
        yield
    if field is not None:
        assert isinstance(caught.value, InvalidError)
        fields = [each.field for each in caught.value.violations]
        assert field in fields, fields
