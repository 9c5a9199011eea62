"""What a restart keeps, over the real store: everything, including answers given before."""

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.message import Message

from bbopt.errors import RequestIdReusedError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import study_pb2, trial_pb2
from tests.e2e.served import PARENT, Caller, new_id, serving
from tests.unit.server.service import completed, measured, point, quadratic

STUDY = f"{PARENT}/studies/s"


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "studies.db")


def held(trial: trial_pb2.Trial) -> pb.HeartbeatTrialsRequest.Held:
    return pb.HeartbeatTrialsRequest.Held(trial=trial.name, lease_token=trial.lease.token)


def step(loss: float) -> trial_pb2.Measurement:
    measurement = measured(loss=loss)
    measurement.step = 1
    return measurement


Mutation = Callable[[list[trial_pb2.Trial]], Message]
"""Builds a request, given trials that are held (1 to 4); trial 5 is completed."""

MUTATIONS: dict[str, Mutation] = {
    "CreateStudy": lambda _: pb.CreateStudyRequest(
        parent=PARENT, study_id="other", study=study_pb2.Study(spec=quadratic())
    ),
    "AskTrials": lambda _: pb.AskTrialsRequest(parent=STUDY, count=2, worker_id="w"),
    "TellTrials": lambda trials: pb.TellTrialsRequest(
        parent=STUDY, tells=[pb.Tell(trial=trials[0].name, outcome=completed())]
    ),
    "TellAndAsk": lambda trials: pb.TellAndAskRequest(
        tell=pb.TellTrialsRequest(
            parent=STUDY, tells=[pb.Tell(trial=trials[0].name, outcome=completed())]
        ),
        ask=pb.AskTrialsRequest(parent=STUDY, worker_id="w"),
    ),
    "ReportMeasurements": lambda trials: pb.ReportMeasurementsRequest(
        trial=trials[1].name, lease_token=trials[1].lease.token, measurements=[step(1.0)]
    ),
    "ReleaseTrials": lambda trials: pb.ReleaseTrialsRequest(
        parent=STUDY, held=[held(trials[2])], reason="preempted"
    ),
    "CreateTrial": lambda _: pb.CreateTrialRequest(
        parent=STUDY, parameters=point(x=0.5, y=0.5)
    ),
    "AmendTrial": lambda _: pb.AmendTrialRequest(
        name=f"{STUDY}/trials/5", outcome=completed(9.0), reason="typo"
    ),
    "StopTrial": lambda trials: pb.StopTrialRequest(name=trials[3].name, reason="enough"),
    "DeleteStudy": lambda _: pb.DeleteStudyRequest(name=STUDY),
}


def test_every_mutation_is_replayed_here() -> None:
    methods = pb.DESCRIPTOR.services_by_name["OptimizationService"].methods
    mutations = {
        each.name for each in methods if "request_id" in each.input_type.fields_by_name
    }
    assert mutations == set(MUTATIONS)


@pytest.mark.parametrize("method", MUTATIONS)
def test_a_mutation_sent_again_after_a_restart_gets_its_first_answer(
    method: str, db: str
) -> None:
    with serving(db) as caller:
        caller.create("s", quadratic())
        trials = list(caller.ask(STUDY, 5).trials)
        caller.tell(STUDY, trials[4], 1.0)
        request = MUTATIONS[method](trials)
        request.request_id = new_id()  # type: ignore[attr-defined]
        first = caller.call(getattr(caller.optimization, method), request)
        revision = _revision(caller)
        assert caller.call(getattr(caller.optimization, method), request) == first
        assert _revision(caller) == revision
    with serving(db) as caller:
        assert caller.call(getattr(caller.optimization, method), request) == first
        assert _revision(caller) == revision
        _change(request)
        with pytest.raises(RequestIdReusedError):
            caller.call(getattr(caller.optimization, method), request)


def _revision(caller: Caller) -> int:
    request = pb.ListStudiesRequest(parent=PARENT, show_deleted=True)
    studies = caller.call(caller.optimization.ListStudies, request).studies
    return sum(each.revision for each in studies)


def _change(request: Message) -> None:
    """Make it another request that is as valid."""
    match request:
        case pb.CreateStudyRequest():
            request.study.display_name = "another"
        case pb.DeleteStudyRequest():
            request.etag = "another"
        case pb.AskTrialsRequest():
            request.count += 1
        case pb.TellTrialsRequest():
            request.tells[0].outcome.CopyFrom(completed(77.0))
        case pb.TellAndAskRequest():
            request.ask.count += 1
        case pb.ReportMeasurementsRequest():
            request.measurements[0].CopyFrom(step(77.0))
        case pb.CreateTrialRequest():
            request.labels["a"] = "b"
        case _:
            request.reason = "another"  # type: ignore[attr-defined]


def test_a_restart_keeps_studies_trials_reports_and_the_log(db: str) -> None:
    with serving(db) as caller:
        caller.create("s", quadratic(constrained=True))
        trials = list(caller.ask(STUDY, 3).trials)
        caller.call(
            caller.optimization.ReportMeasurements,
            pb.ReportMeasurementsRequest(
                trial=trials[0].name,
                lease_token=trials[0].lease.token,
                measurements=[step(1.0)],
                request_id=new_id(),
            ),
        )
        tell = pb.Tell(trial="2", outcome=completed(2.0, mass=0.5))
        caller.call(
            caller.optimization.TellTrials,
            pb.TellTrialsRequest(parent=STUDY, tells=[tell], request_id=new_id()),
        )
        before = _everything(caller)
    with serving(db) as caller:
        assert _everything(caller) == before
        assert caller.ask(STUDY).trials[0].number == 4
        assert caller.tell(STUDY, trials[2], 1.0).status.reason == "INVALID"  # mass is missing


def _everything(caller: Caller) -> list[object]:
    study = caller.call(caller.optimization.GetStudy, pb.GetStudyRequest(name=STUDY))
    trials = [
        caller.call(
            caller.optimization.GetTrial, pb.GetTrialRequest(name=f"{STUDY}/trials/{number}")
        )
        for number in (1, 2, 3)
    ]
    for trial in trials:
        trial.lease.ClearField("expire_time")  # A restart gives a new term.
    stream = caller.optimization.WatchStudy(pb.WatchStudyRequest(name=STUDY), timeout=20.0)
    events = [next(stream) for _ in range(6)]
    stream.cancel()
    return [study, trials, [(each.revision, each.kind, each.time.seconds) for each in events]]
