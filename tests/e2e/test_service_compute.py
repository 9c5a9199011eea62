"""The service with real models: suggestions, predictions, crashes, replay."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bbopt.replay import replay
from bbopt.rpc.log import event_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import insight_service_pb2 as insight_pb2
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.trial import Event
from bbopt_server.compute import ComputePool
from bbopt_server.storage.sqlite import SqliteStore
from tests.e2e.served import PARENT, Caller, ServerThread
from tests.unit.server.service import asynchronous, point, quadratic

STUDY = f"{PARENT}/studies/s"


class Served:
    """A server with a compute process, on a file that can be read afterwards."""

    def __init__(self, db: str) -> None:
        self.db = db
        self.pool = ComputePool(device="cpu")
        self.server = ServerThread(db, self.pool)
        self.caller = Caller(self.server.address)
        while not self.pool.is_ready:
            time.sleep(0.02)

    def kill_compute(self) -> None:
        pid = self.pool.pids[0]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.caller.channel.close()
        self.server.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(str(tmp_path_factory.mktemp("service") / "studies.db"))
    yield served
    served.close()


def loss(parameters: dict[str, float]) -> float:
    return (parameters["x"] - 0.3) ** 2 + (parameters["y"] - 0.6) ** 2


def run(caller: Caller, study: str, n_trials: int) -> list[str]:
    """Ask and tell; return the generators of the trials."""
    generators = []
    for _ in range(n_trials):
        trial = caller.ask(study).trials[0]
        values = {name: each.double_value for name, each in trial.parameters.items()}
        caller.tell(study, trial, loss(values))
        generators.append(trial.provenance.generator)
    return generators


async def read_log(db: str, study_id: str) -> tuple[bytes, list[Event | None]]:
    """Read the definition and the log of a study whose server is gone."""
    store = SqliteStore.open(db)
    row = await store.read(lambda tx: tx.study("default", study_id))
    assert row is not None
    events = await store.read(lambda tx: tx.events(row.key, limit=100_000))
    await store.close()
    return row.spec, [
        event_from_message(log_pb2.LogEvent.FromString(each.payload)) for each in events
    ]


def test_a_model_takes_over_from_the_first_points_and_finds_the_optimum(served: Served) -> None:
    study = served.caller.create("gp", quadratic(strategy="gp")).name
    generators = run(served.caller, study, 20)
    assert generators[-1] == "gp"
    assert "fallback" not in generators
    best = served.caller.call(
        served.caller.insight.GetBest, insight_pb2.GetBestRequest(name=study)
    )
    assert best.trial.final_measurement.metrics["loss"].value < 0.01
    recommended = served.caller.call(
        served.caller.insight.GetBest, insight_pb2.GetBestRequest(name=study, use_model=True)
    )
    assert recommended.trial.number >= 1
    predicted = served.caller.call(
        served.caller.insight.Predict,
        insight_pb2.PredictRequest(
            name=study, points=[insight_pb2.Point(parameters=point(x=0.3, y=0.6))]
        ),
    )
    assert abs(predicted.rows[0].metrics["loss"].mean) < 0.1


def test_a_killed_compute_process_costs_no_ask(served: Served) -> None:
    study = served.caller.create("killed", quadratic(strategy="gp")).name
    run(served.caller, study, 8)
    served.kill_compute()
    assert run(served.caller, study, 3) == ["gp"] * 3
    info = served.caller.call(
        served.caller.optimization.GetServerInfo, pb.GetServerInfoRequest()
    )
    assert info.suggest_ready


def test_a_short_deadline_gets_a_cheaper_point_instead_of_none(tmp_path: Path) -> None:
    server = ServerThread(str(tmp_path / "s.db"), ComputePool(device="cpu"))
    with Caller(server.address) as caller:
        study = caller.create("s", quadratic(strategy="gp")).name
        trial = caller.ask(study, timeout_s=1.0).trials[0]  # Compute still loads.
        assert trial.provenance.generator == "fallback"
        assert trial.provenance.degraded_from == "gp"
    server.stop()


@pytest.mark.slow
def test_a_client_that_asks_for_fifty_gets_them_from_the_region_and_they_replay(
    tmp_path: Path,
) -> None:
    served = Served(str(tmp_path / "wide.db"))
    study = served.caller.create("wide", quadratic(strategy="gp")).name
    for _ in range(2):
        trials = served.caller.ask(study, 50).trials
        assert len(trials) == 50
        for trial in trials:
            values = {name: each.double_value for name, each in trial.parameters.items()}
            served.caller.tell(study, trial, loss(values))
    reasons = [trial.provenance.reason for trial in trials]
    assert sum(reason.startswith("trust region") for reason in reasons) == 34
    served.close()

    @asynchronous
    async def scenario() -> None:
        data, events = await read_log(served.db, "wide")
        spec = study_spec_from_message(study_pb2.StudySpec.FromString(data))
        assert replay(spec.problem, spec.strategy, spec.drawn_seed, events) == []

    scenario()
