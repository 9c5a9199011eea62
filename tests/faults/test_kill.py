"""kill -9 of the server under clients: what was acknowledged is there, once."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from bbopt.errors import BboptError
from bbopt.optimizer import replay
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.trial import Asked
from tests.e2e.served import PARENT, Caller, ServerProcess, new_id
from tests.faults.kept import Kept, read_file
from tests.unit.server.service import quadratic

T = TypeVar("T")

STUDY = f"{PARENT}/studies/s"


class Place:
    """Where the server is now."""

    def __init__(self, db: str) -> None:
        self.db = db
        self.server = ServerProcess(db)

    def kill_and_restart(self) -> None:
        self.server.end(signal.SIGKILL)
        self.server = ServerProcess(self.db)


@dataclass
class Worker:
    """Asks and tells; sends a call again, under its id, until it is answered."""

    name: str
    place: Place
    stop: threading.Event
    acknowledged: dict[int, float] = field(default_factory=dict)
    """Loss of each trial whose tell was acknowledged."""
    handed_out: list[int] = field(default_factory=list)
    n_resent: int = 0

    def run(self) -> None:
        rng = random.Random(self.name)  # noqa: S311 - losses, not secrets
        while not self.stop.is_set():
            trial = self._until_answered(self._ask)
            if trial is None:
                return
            self.handed_out.append(trial.number)
            loss = rng.random()
            code = self._until_answered(lambda c, i: _tell(c, i, trial, loss))  # noqa: B023
            if code is not None:
                assert code == 0
                self.acknowledged[trial.number] = loss

    def _ask(self, caller: Caller, request_id: str) -> trial_pb2.Trial:
        return caller.ask(STUDY, timeout_s=10.0, request_id=request_id).trials[0]

    def _until_answered(self, call: Callable[[Caller, str], T]) -> T | None:
        request_id = new_id()
        while not self.stop.is_set():
            try:
                with Caller(self.place.server.address, self.name) as caller:
                    return call(caller, request_id)
            except BboptError:
                self.n_resent += 1
                self.stop.wait(0.02)
        return None


def _tell(caller: Caller, request_id: str, trial: trial_pb2.Trial, loss: float) -> int:
    return caller.tell(STUDY, trial, loss, request_id=request_id).status.code


def storm(db: str, *, strategy: str, n_workers: int, kills: Sequence[int]) -> list[Worker]:
    """Let workers work; kill the server each time so many more tells were acknowledged."""
    place, stop = Place(db), threading.Event()
    with Caller(place.server.address) as caller:
        caller.create("s", quadratic(strategy=strategy))
    workers = [Worker(f"w{index}", place, stop) for index in range(n_workers)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    rng = random.Random(1)  # noqa: S311
    for n_more in kills:
        wanted = n_acknowledged(workers) + n_more
        while n_acknowledged(workers) < wanted:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.05))
        place.kill_and_restart()
    wanted = n_acknowledged(workers) + kills[-1]
    while n_acknowledged(workers) < wanted:
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join(30.0)
    place.server.end(signal.SIGKILL)
    return workers


def n_acknowledged(workers: Sequence[Worker]) -> int:
    return sum(len(worker.acknowledged) for worker in workers)


def read(db: str) -> Kept:
    return asyncio.run(read_file(db))


def check(kept: Kept, workers: Sequence[Worker]) -> None:
    """Compare what was acknowledged with what is there, and the log with the rows."""
    kept.check()
    told = kept.losses
    for worker in workers:
        for number, loss in worker.acknowledged.items():
            assert told[number] == [loss], "an acknowledged tell is lost or doubled"
    handed_out = [number for worker in workers for number in worker.handed_out]
    assert len(handed_out) == len(set(handed_out)), "a trial was handed out twice"


def test_no_acknowledged_tell_is_lost_or_doubled_when_the_server_is_killed(
    tmp_path: Path,
) -> None:
    db = str(tmp_path / "s.db")
    workers = storm(db, strategy="random", n_workers=4, kills=(20, 20, 20))
    assert sum(worker.n_resent for worker in workers) > 0
    check(read(db), workers)


def test_the_log_of_a_killed_server_reproduces_the_models_suggestions(tmp_path: Path) -> None:
    db = str(tmp_path / "s.db")
    workers = storm(db, strategy="gp", n_workers=2, kills=(12, 6))
    kept = read(db)
    check(kept, workers)
    spec = study_spec_from_message(study_pb2.StudySpec.FromString(kept.study.spec))
    suggested = [new for each in kept.events if isinstance(each, Asked) for new in each.trials]
    assert any(new.provenance.generator == "gp" for new in suggested)
    assert replay(spec.problem, spec.strategy, spec.seed, kept.events) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_long_storm_of_kills_loses_nothing(tmp_path: Path) -> None:
    db = str(tmp_path / "s.db")
    workers = storm(db, strategy="sobol", n_workers=8, kills=(40,) * 25)
    check(read(db), workers)
