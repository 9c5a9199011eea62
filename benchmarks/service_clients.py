"""Clients of a running server, for benchmarks: calls, and how long each took."""

import time
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from bbopt import Float, Metric, MetricKind, Problem, Space
from bbopt.problem import Goal
from bbopt.rpc.study import study_spec_to_message
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.specs import StrategySpec, StudySpec
from benchmarks.service_processes import Server

T = TypeVar("T")

PROJECT = "projects/default"
N_PARAMETERS = 20
_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Samples:
    """Durations of one kind of call, in seconds."""

    seconds: list[float] = field(default_factory=list)

    async def time(self, call: Awaitable[T]) -> T:
        """Wait for a call and note how long it took."""
        start = time.perf_counter()
        answer = await call
        self.seconds.append(time.perf_counter() - start)
        return answer

    def ms(self, quantile: float) -> float:
        """Return a quantile in milliseconds."""
        return 1e3 * float(np.quantile(self.seconds, quantile))


def request_id() -> str:
    """Name a new logical call."""
    return uuid.uuid4().hex


async def create_study(
    server: Server, strategy: StrategySpec, *, n_parameters: int = N_PARAMETERS
) -> str:
    """Create a study of real parameters on [0, 1] and return its name."""
    parameters = [Float(f"x{i}", 0.0, 1.0) for i in range(n_parameters)]
    metrics = (Metric("loss", MetricKind.OBJECTIVE, Goal.MINIMIZE),)
    spec = StudySpec(Problem(Space(tuple(parameters)), metrics), strategy, seed=1)
    study = await server.stub.CreateStudy(
        service_pb2.CreateStudyRequest(
            parent=PROJECT,
            study_id=f"study-{request_id()[:12]}",
            study=study_pb2.Study(spec=study_spec_to_message(spec)),
            request_id=request_id(),
        )
    )
    return study.name


def loss_at(parameters: Mapping[str, study_pb2.ParamValue]) -> float:
    """A bowl with ripples: a model has something to learn and never finishes."""
    x = np.array([parameters[name].double_value for name in sorted(parameters)])
    return float(((x - 0.4) ** 2).sum() + 0.1 * np.sin(12.0 * x).sum())


def outcome_at(parameters: Mapping[str, study_pb2.ParamValue]) -> trial_pb2.Outcome:
    """Write what a trial at a point measures."""
    loss = trial_pb2.Value(value=loss_at(parameters))
    return trial_pb2.Outcome(completed=trial_pb2.Measurement(metrics={"loss": loss}))


async def ask(server: Server, study: str) -> trial_pb2.Trial:
    """Ask for one trial."""
    answer = await server.stub.AskTrials(
        service_pb2.AskTrialsRequest(
            parent=study, count=1, worker_id="benchmark", request_id=request_id()
        ),
        timeout=_TIMEOUT_S,
    )
    (trial,) = answer.trials
    return trial


def _told(trial: trial_pb2.Trial) -> service_pb2.Tell:
    return service_pb2.Tell(
        trial=str(trial.number),
        lease_token=trial.lease.token,
        outcome=outcome_at(trial.parameters),
    )


async def tell_and_ask(server: Server, study: str, trial: trial_pb2.Trial) -> trial_pb2.Trial:
    """Tell what a trial measured and ask for the next one, in one call."""
    answer = await server.stub.TellAndAsk(
        service_pb2.TellAndAskRequest(
            tell=service_pb2.TellTrialsRequest(parent=study, tells=[_told(trial)]),
            ask=service_pb2.AskTrialsRequest(parent=study, count=1, worker_id="benchmark"),
            request_id=request_id(),
        ),
        timeout=_TIMEOUT_S,
    )
    assert answer.tell.results[0].status.code == 0, answer
    (asked,) = answer.ask.trials
    return asked


async def tell(server: Server, study: str, trial: trial_pb2.Trial) -> None:
    """Tell what a trial measured."""
    item = _told(trial)
    answer = await server.stub.TellTrials(
        service_pb2.TellTrialsRequest(parent=study, tells=[item], request_id=request_id())
    )
    assert answer.results[0].status.code == 0, answer


async def record(server: Server, study: str, n: int, *, n_parameters: int, seed: int) -> None:
    """Give a study finished observations at random points."""
    rng = np.random.default_rng(seed)
    for row in rng.random((n, n_parameters)):
        parameters = {
            f"x{i}": study_pb2.ParamValue(double_value=float(x)) for i, x in enumerate(row)
        }
        await server.stub.CreateTrial(
            service_pb2.CreateTrialRequest(
                parent=study,
                parameters=parameters,
                outcome=outcome_at(parameters),
                request_id=request_id(),
            )
        )


def expect(trial: trial_pb2.Trial, generator: str) -> None:
    """Refuse to time a fallback as if it were a model's answer."""
    found = trial.provenance
    assert found.generator == generator, found
    assert not found.degraded_from, found
