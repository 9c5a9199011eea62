"""The ready queue behind a real server: it saves computations and changes no suggestion."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bbopt.replay import Mismatch, replay
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.specs import StudySpec
from bbopt.trial import Asked, Event
from bbopt_server.compute import ComputePool
from bbopt_server.studies import ready
from tests.e2e.served import PARENT, Caller, ServerThread
from tests.e2e.test_service_compute import loss, read_log
from tests.e2e.test_set_aside import wait_until
from tests.unit.server.service import quadratic

COUNTS = (1,) * 9 + (2, 2, 1, 1, 3, 1)
"""Trials of each ask, all told before the next one."""
N_BEFORE = 11
"""Asks before the restart."""


class Served:
    """A server with a real model on a file."""

    def __init__(self, db: Path, *, has_ready_queue: bool) -> None:
        self.pool = ComputePool(device="cpu")
        self.server = ServerThread(str(db), self.pool, has_ready_queue=has_ready_queue)
        self.caller = Caller(self.server.address)
        self.has_ready_queue = has_ready_queue
        wait_until(lambda: self.pool.is_ready)

    @property
    def counters(self) -> ready.ReadyCounters:
        return self.server.app.studies.ready.counters

    @property
    def n_ahead(self) -> int:
        return self.pool.counters[0].n_ahead

    def create(self, name: str) -> None:
        spec = quadratic(strategy="gp")
        spec.seed = 11
        self.caller.create(name, spec)

    def work(self, name: str, counts: Sequence[int]) -> None:
        """Ask and tell; with a ready queue, ask when it is filled."""
        study = f"{PARENT}/studies/{name}"
        for count in counts:
            n_before = self.n_ahead
            for trial in self.caller.ask(study, count).trials:
                self.caller.tell(study, trial, value_at(trial))
            if self.has_ready_queue:
                wait_until(lambda n=n_before: self.n_ahead > n)  # type: ignore[misc]

    def work_at_once(self, name: str, n_held: int, n_more: int) -> None:
        """Hold some trials, and ask for another the moment that one is told."""
        study = f"{PARENT}/studies/{name}"
        held = list(self.caller.ask(study, n_held).trials)
        for _ in range(n_more):
            trial = held.pop(0)
            self.caller.tell(study, trial, value_at(trial))
            held += self.caller.ask(study).trials
        for trial in held:
            self.caller.tell(study, trial, value_at(trial))

    def stop(self) -> None:
        self.caller.channel.close()
        self.server.stop()


def value_at(trial: trial_pb2.Trial) -> float:
    return loss({name: each.double_value for name, each in trial.parameters.items()})


@dataclass
class Played:
    """What is left of studies whose servers are gone."""

    db: Path
    counters: Sequence[ready.ReadyCounters]
    n_ahead: Sequence[int]

    def asked(self, name: str) -> list[Asked]:
        return [event for event in self._log(name)[1] if isinstance(event, Asked)]

    def mismatches(self, name: str) -> list[Mismatch]:
        spec, events = self._log(name)
        return replay(spec.problem, spec.strategy, spec.drawn_seed, events)

    def _log(self, name: str) -> tuple[StudySpec, list[Event | None]]:
        definition, events = asyncio.run(read_log(str(self.db), name))
        return study_spec_from_message(study_pb2.StudySpec.FromString(definition)), events


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One study begins with the queue and goes on without; its twin never has it."""
    db = tmp_path_factory.mktemp("ready") / "studies.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready, "MIN_COMPUTING_S", 0.0)
        patch.setattr(ready, "MAX_COMPUTING_S", 60.0)
        first = Served(db, has_ready_queue=True)
        for name in ("study", "twin", "at-once"):
            first.create(name)
        first.work("study", COUNTS[:N_BEFORE])
        first.work_at_once("at-once", 4, 12)
        first.stop()  # Loses what was computed ahead, and all that compute keeps.
        second = Served(db, has_ready_queue=False)
        second.work("study", COUNTS[N_BEFORE:])
        second.work("twin", COUNTS)
        second.stop()
    return Played(db, (first.counters, second.counters), (first.n_ahead, second.n_ahead))


def test_asks_are_answered_from_the_queue_only_where_there_is_one(played: Played) -> None:
    assert played.counters[0].n_hits >= N_BEFORE - 2
    assert played.n_ahead[0] >= N_BEFORE - 1
    assert played.counters[1] == ready.ReadyCounters()
    assert played.n_ahead[1] == 0


def test_a_study_gets_what_its_twin_without_a_queue_gets(played: Played) -> None:
    study, twin = played.asked("study"), played.asked("twin")
    assert [event.trials for event in study] == [event.trials for event in twin]
    for event, other in zip(study, twin, strict=True):
        assert event.state is not None
        assert other.state is not None
        assert event.state.equals(other.state)
    trials = [trial for event in study for trial in event.trials]
    assert len(trials) == sum(COUNTS)
    assert "gp" in {trial.provenance.generator for trial in trials}
    assert not any(trial.provenance.degraded_from for trial in trials)


@pytest.mark.parametrize("name", ["study", "twin", "at-once"])
def test_the_log_replays(played: Played, name: str) -> None:
    """Also where computations were joined, given up, or overtaken by other results."""
    assert played.mismatches(name) == []
    assert len(played.asked(name)) >= 13
