"""A study whose log is a list in memory: what the front and its store are to compute."""

from collections.abc import Mapping, Sequence

from bbopt import Float, Metric, MetricKind, Problem, Space
from bbopt.problem import Goal
from bbopt.rpc.log import event_to_message
from bbopt.rpc.study import study_spec_to_message
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt.specs import SobolSpec, StrategySpec, StudySpec
from bbopt.trial import (
    Asked,
    Completed,
    Event,
    Leased,
    Measurement,
    NewTrial,
    Provenance,
    Told,
    Value,
)
from bbopt_server.compute import Compute, StudyLog, Suggestions
from bbopt_server.studies.log_reading import has_model

PROBLEM = Problem(
    Space((Float("x", 0.0, 1.0), Float("y", -5.0, 5.0))),
    (Metric("loss", MetricKind.OBJECTIVE, Goal.MINIMIZE),),
)


class RecordedStudy:
    """A log, and the rules of the front in their simplest form."""

    def __init__(
        self, uid: str, strategy: StrategySpec | None = None, *, seed: int = 1
    ) -> None:
        spec = StudySpec(PROBLEM, strategy or SobolSpec(), seed)
        self.uid = uid
        self.spec: study_pb2.StudySpec = study_spec_to_message(spec)
        self.has_model = has_model(spec)
        created = log_pb2.LogEvent(study_changed=log_pb2.LogEvent.StudyChanged())
        self.events: list[bytes] = [created.SerializeToString()]
        self.reads: list[int] = []
        self.n_trials = 0

    @property
    def revision(self) -> int:
        return len(self.events)

    def log(self) -> StudyLog:
        spec = self.spec.SerializeToString()
        return StudyLog(self.uid, spec, self.has_model, self.revision, self.read)

    async def read(self, since: int) -> Sequence[bytes]:
        self.reads.append(since)
        return self.events[since:]

    def append(self, event: Event) -> None:
        self.events.append(event_to_message(event).SerializeToString())

    def commit(self, answer: Suggestions) -> list[NewTrial]:
        trials = tuple(
            NewTrial(self.n_trials + 1 + i, each.parameters, each.provenance)
            for i, each in enumerate(answer.suggestions)
        )
        self.append(Asked(trials, answer.state))
        self.n_trials += len(trials)
        for trial in trials:
            self.append(Leased(trial.number, "worker", 1))
        return list(trials)

    def tell(self, number: int, loss: float) -> None:
        self.append(Told(number, Completed(Measurement({"loss": Value(loss)}))))

    def record(self, n: int) -> None:
        """Append trials that somebody evaluated without a strategy."""
        for i in range(n):
            self.n_trials += 1
            x, y = (0.37 * i) % 1.0, (0.71 * i) % 10.0 - 5.0
            trial = NewTrial(self.n_trials, {"x": x, "y": y}, Provenance("fallback"))
            self.append(Asked((trial,), None))
            self.tell(self.n_trials, loss_at(trial.parameters))


def loss_at(parameters: Mapping[str, object]) -> float:
    x, y = parameters["x"], parameters["y"]
    assert isinstance(x, float)
    assert isinstance(y, float)
    return (x - 0.3) ** 2 + 0.1 * (y - 1.0) ** 2


async def run_round(compute: Compute, study: RecordedStudy, count: int = 1) -> Suggestions:
    """Ask, commit, evaluate and tell once."""
    answer = await compute.suggest(study.log(), count, time_left_s=None)
    for trial in study.commit(answer):
        study.tell(trial.number, loss_at(trial.parameters))
    return answer
