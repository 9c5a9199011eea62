"""``cma_es`` through a server: workers that wait for each other, lost slots, kills, replay."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bbopt.errors import UnsupportedError
from bbopt.optimizer import Optimizer
from bbopt.problem import Problem
from bbopt.replay import replay
from bbopt.rpc.log import event_from_message
from bbopt.rpc.space import parameters_from_message
from bbopt.rpc.study import study_spec_from_message, study_spec_to_message
from bbopt.rpc.v1 import log_pb2, study_pb2, trial_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.specs import CmaEsSpec, LeasePolicy, StudySpec
from bbopt.trial import Asked, Event
from bbopt_server.compute import ComputePool
from bbopt_server.storage.sqlite import SqliteStore
from tests.e2e.served import PARENT, Caller, ServerProcess, ServerThread, new_id
from tests.unit.population.ellipsoid import TARGET, Ellipsoid

STUDY = f"{PARENT}/studies/s"
MAX_EVALUATIONS = 20_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a compute process that is ready."""
    pool = ComputePool(device="cpu")
    server = ServerThread(str(tmp_path_factory.mktemp("cma") / "s.db"), pool)
    while not pool.is_ready:
        time.sleep(0.02)
    yield server.address
    server.stop()


def definition(problem: Problem, seed: int, **lease: float) -> study_pb2.StudySpec:
    policy = LeasePolicy(lease.get("duration_s", 60.0), int(lease.get("max_attempts", 3)))
    return study_spec_to_message(StudySpec(problem, CmaEsSpec(), seed, policy))


@dataclass
class Fleet:
    """Workers that share a study; each tells what it has and asks in one call."""

    address: str
    study: str
    ellipsoid: Ellipsoid
    batch: int = 1
    share_lost: float = 0.0
    says_failed: bool = True
    """Whether a worker says that it lost a trial, or is never heard of again."""
    seed: int = 0
    reasons: set[int] = field(default_factory=set)
    n_evaluations: int = 0
    is_found: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, n_workers: int) -> int:
        """Return the evaluations, lost ones included, until the target is reached."""
        with ThreadPoolExecutor(n_workers) as pool:
            for done in [pool.submit(self._work, index) for index in range(n_workers)]:
                done.result()
        assert self.is_found
        return self.n_evaluations

    def _work(self, index: int) -> None:
        rng = np.random.default_rng([self.seed, index])
        tells: list[pb.Tell] = []
        with Caller(self.address, f"w{index}") as caller:
            while not self.is_found and self.n_evaluations < MAX_EVALUATIONS:
                trials = self._tell_and_ask(caller, tells)
                tells = [tell for t in trials if (tell := self._evaluate(t, rng)) is not None]

    def _tell_and_ask(self, caller: Caller, tells: list[pb.Tell]) -> list[trial_pb2.Trial]:
        ask = pb.AskTrialsRequest(
            parent=self.study, count=self.batch, worker_id=caller.worker, request_id=new_id()
        )
        # Short, so that workers look whether another one has reached the target.
        ask.max_wait.FromMilliseconds(500)
        if not tells:
            answer = caller.call(caller.optimization.AskTrials, ask)
        else:
            tell = pb.TellTrialsRequest(parent=self.study, tells=tells)
            request = pb.TellAndAskRequest(tell=tell, ask=ask, request_id=new_id())
            both = caller.call(caller.optimization.TellAndAsk, request)
            assert all(result.status.code == 0 for result in both.tell.results)
            answer = both.ask
        self.reasons.add(answer.reason)
        return list(answer.trials)

    def _evaluate(self, trial: trial_pb2.Trial, rng: np.random.Generator) -> pb.Tell | None:
        loss = self.ellipsoid.of(parameters_from_message(trial.parameters))
        tell = pb.Tell(trial=trial.name, lease_token=trial.lease.token)
        is_lost = rng.random() < self.share_lost
        with self._lock:
            self.n_evaluations += not self.is_found
            self.is_found |= loss <= TARGET and not is_lost
        if not is_lost:
            tell.outcome.completed.metrics["loss"].value = loss
            return tell
        if not self.says_failed:
            return None
        tell.outcome.failed.message = "its machine is gone"
        return tell


def test_workers_that_wait_for_each_other_reach_the_target(address: str) -> None:
    ellipsoid = Ellipsoid(3, 2)
    with Caller(address) as caller:
        study = caller.create("fleet", definition(ellipsoid.problem, 2)).name
    fleet = Fleet(address, study, ellipsoid, batch=2)
    n_evaluations = fleet.run(4)
    # The last generation is counted whole.
    assert n_evaluations <= 1.3 * ellipsoid.bare_evaluations(2) + 8
    assert pb.AskTrialsResponse.REASON_WAITING_FOR_RESULTS in fleet.reasons


def test_workers_that_vanish_hold_up_a_generation_no_longer_than_their_leases(
    address: str,
) -> None:
    ellipsoid = Ellipsoid(2, 3)
    spec = definition(ellipsoid.problem, 3, duration_s=0.3, max_attempts=1)
    with Caller(address) as caller:
        study = caller.create("vanishing", spec).name
        lost = caller.ask(study, 3).trials
        trials = list(caller.ask(study, 20).trials)
        assert len(trials) == 3, "the generation has 6 slots"
        again = caller.ask(study, 20).trials  # Waits for the leases.
        assert {t.number for t in again}.isdisjoint(t.number for t in (*lost, *trials))
        assert [t.provenance.reason for t in again[:1]] == ["generation 1, slot 7"]


def test_an_ask_that_may_not_wait_says_that_results_are_needed(address: str) -> None:
    ellipsoid = Ellipsoid(2, 4)
    with Caller(address) as caller:
        study = caller.create("impatient", definition(ellipsoid.problem, 4)).name
        first = caller.ask(study, 20)
        assert len(first.trials) == 6
        assert first.reason == pb.AskTrialsResponse.REASON_WAITING_FOR_RESULTS
        nothing = ask_now(caller, study, 1)
        assert not nothing.trials
        assert nothing.reason == pb.AskTrialsResponse.REASON_WAITING_FOR_RESULTS
        assert nothing.retry_after.ToMilliseconds() > 0


def test_a_server_says_what_it_cannot_handle(address: str) -> None:
    with Caller(address) as caller:
        request = pb.GetServerInfoRequest()
        info = caller.call(caller.optimization.GetServerInfo, request)
        (found,) = [each for each in info.strategies if each.id == "cma_es"]
        assert list(found.supports) == ["metric_constraints", "noise"]
        spec = definition(Ellipsoid(2, 0).problem, 0)
        spec.parameters[0].categorical_domain.values.extend("abc")
        with pytest.raises(UnsupportedError, match="3 values in no order"):
            caller.create("categories", spec)


# ---------------------------------------------------------------------- kills


class Place:
    """A server on a file, to be killed and started again."""

    def __init__(self, db: str) -> None:
        self.db = db
        self.server = ServerProcess(db)

    def kill(self) -> None:
        self.server.end(signal.SIGKILL)
        self.server = ServerProcess(self.db)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(str(tmp_path / "s.db"))
    yield place
    if place.server.process.poll() is None:
        place.server.end(signal.SIGKILL)


def ask_now(caller: Caller, study: str, count: int) -> pb.AskTrialsResponse:
    """Ask without waiting for results."""
    request = pb.AskTrialsRequest(parent=study, count=count, worker_id="w", request_id=new_id())
    request.max_wait.FromSeconds(0)
    return caller.call(caller.optimization.AskTrials, request, 60.0)


def follow(caller: Caller, twin: Optimizer, ellipsoid: Ellipsoid) -> int:
    """Ask a server and a twin that was never killed; compare; tell all but the oldest."""
    trials = ask_now(caller, STUDY, 3).trials
    assert {trial.provenance.generator for trial in trials} <= {"cma_es"}
    points = [parameters_from_message(trial.parameters) for trial in trials]
    assert points == [dict(trial.parameters) for trial in twin.ask(3)]
    active = [t for t in caller.trials(STUDY) if t.state == trial_pb2.Trial.STATE_ACTIVE]
    # While a generation waits, its oldest trial comes back too, long after the others.
    for trial in active[1:] if trials else active:
        loss = ellipsoid.of(parameters_from_message(trial.parameters))
        tell = pb.Tell(trial=trial.name)
        tell.outcome.completed.metrics["loss"].value = loss
        request = pb.TellTrialsRequest(parent=STUDY, tells=[tell], request_id=new_id())
        answer = caller.call(caller.optimization.TellTrials, request)
        assert answer.results[0].status.code == 0
        twin.tell(trial.number, loss)
    return len(trials)


async def read(db: str) -> tuple[StudySpec, list[Event | None]]:
    store = SqliteStore.open(db)
    row = await store.read(lambda tx: tx.study("default", "s"))
    assert row is not None
    rows = await store.read(lambda tx: tx.events(row.key, limit=100_000))
    await store.close()
    spec = study_spec_from_message(study_pb2.StudySpec.FromString(row.spec))
    return spec, [event_from_message(log_pb2.LogEvent.FromString(r.payload)) for r in rows]


def test_a_server_killed_in_the_middle_of_generations_goes_on_bit_for_bit(
    place: Place,
) -> None:
    ellipsoid = Ellipsoid(4, 5)
    twin = Optimizer(ellipsoid.problem, CmaEsSpec(), seed=5)
    with Caller(place.server.address) as caller:
        caller.create("s", definition(ellipsoid.problem, 5, duration_s=0.0))
    n_trials = 0
    for step in range(15):
        with Caller(place.server.address) as caller:
            n_trials += follow(caller, twin, ellipsoid)
        if step in (6, 11):
            place.kill()
    place.server.end(signal.SIGKILL)
    assert n_trials > 3 * 8, "the kills were in generations that learned from earlier ones"
    study, events = asyncio.run(read(place.db))
    asked = [event for event in events if isinstance(event, Asked)]
    twins = [event for event in twin.log.events() if isinstance(event, Asked)]
    for one, other in zip(asked, twins, strict=True):
        assert one.state is not None
        assert other.state is not None
        assert one.state.equals(other.state)
    assert replay(study.problem, study.strategy, study.drawn_seed, events) == []


# ---------------------------------------------------------------------- long


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 6))
def test_ten_turned_coordinates_cost_a_fleet_what_they_cost_the_bare_package(
    address: str, seed: int
) -> None:
    ellipsoid = Ellipsoid(10, seed)
    bare = ellipsoid.bare_evaluations(seed)
    counts = []
    for share_lost in (0.0, 0.2):
        name = f"ten-{seed}-{int(100 * share_lost)}"
        # A lost trial is given up at once, not tried again.
        spec = definition(ellipsoid.problem, seed, max_attempts=1)
        with Caller(address) as caller:
            study = caller.create(name, spec).name
        fleet = Fleet(address, study, ellipsoid, batch=5, share_lost=share_lost, seed=seed)
        counts.append(fleet.run(2))
    print(f"seed {seed}: bare {bare}, served {counts[0]}, a fifth lost {counts[1]}")
    assert counts[0] <= 1.3 * bare
    assert counts[1] <= 2.0 * bare
