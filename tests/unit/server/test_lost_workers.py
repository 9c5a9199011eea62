"""Workers that die, hang, come back late or share a trial; servers that were away."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from bbopt.errors import DataLossError, LeaseLostError, UnavailableError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import trial_pb2
from bbopt_server.storage import MemoryStore
from bbopt_server.storage.store import Transaction
from bbopt_server.studies import sweeping
from tests.unit.server.service import (
    STUDY,
    FakeCompute,
    Service,
    asynchronous,
    completed,
    failed,
    quadratic,
    refused,
    seconds,
)

T = TypeVar("T")
Trial = trial_pb2.Trial
Action = pb.HeartbeatTrialsResponse.Directive


class WatchedStore(MemoryStore):
    """Counts what is written, and refuses it when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.n_writes = 0
        self.errors: list[Exception] = []

    async def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        then: Callable[[], None] | None = None,
        is_long: bool = False,
    ) -> T:
        self.n_writes += 1
        if self.errors:
            raise self.errors.pop(0)
        return await super().transact(work, then=then, is_long=is_long)


async def restarted(before: Service, *, away_s: float) -> Service:
    """Start another server on the same store after a while, its clocks begun anew."""
    after = Service(before.store, FakeCompute())
    after.clock.now_s = before.clock.now_s + away_s
    await after.start()
    return after


async def action(service: Service, trial: Trial) -> Any:  # noqa: ANN401 - an enum of protobuf
    return (await service.heartbeat(trial))[0].action


async def lost(service: Service) -> tuple[Trial, Trial]:
    """Let a worker fall silent; return the trial as it had it and as the next one has it."""
    old = (await service.ask(worker_id="first")).trials[0]
    await service.pass_time(31.0)
    new = (await service.ask(worker_id="second")).trials[0]
    assert (new.number, new.attempt) == (old.number, old.attempt + 1)
    return old, new


@asynchronous
async def test_lost_trials_go_out_before_new_ones() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    gone = (await service.ask(2)).trials
    await service.pass_time(31.0)
    again = (await service.ask(3, worker_id="second")).trials
    assert [(each.number, each.attempt) for each in again] == [(1, 2), (2, 2), (3, 1)]
    assert [each.parameters for each in again[:2]] == [each.parameters for each in gone]


@pytest.mark.parametrize("ways", ["xxx", "fff", "xfx", "fxf"])
def test_losses_and_failures_use_up_the_same_attempts(ways: str) -> None:
    """``x``: the lease expires; ``f``: the worker says that it failed."""

    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create(quadratic(lease_s=30.0, max_attempts=3))
        for attempt, way in enumerate(ways, start=1):
            trial = (await service.ask()).trials[0]
            assert (trial.number, trial.attempt) == (1, attempt)
            if way == "f":
                await service.tell(trial, failed())
            else:
                await service.pass_time(31.0)
        assert (await service.trial(1)).state == Trial.STATE_FAILED
        assert (await service.ask()).trials[0].number == 2

    scenario()


@asynchronous
async def test_with_a_single_attempt_a_lost_trial_fails_at_once() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0, max_attempts=1))
    trial = (await service.ask()).trials[0]
    await service.pass_time(31.0)
    assert (await service.trial(1)).state == Trial.STATE_FAILED
    assert await action(service, trial) == Action.ACTION_CANCEL
    assert (await service.ask()).trials[0].number == 2


@asynchronous
async def test_a_lease_without_a_term_is_kept_over_a_restart_and_for_ever() -> None:
    before = Service()
    await before.create()
    trial = (await before.ask(lease_duration=seconds(0))).trials[0]
    after = await restarted(before, away_s=1e8)
    await after.pass_time(1e8)
    assert (await after.trial(1)).state == Trial.STATE_ACTIVE
    assert await action(after, trial) == Action.ACTION_CONTINUE
    assert not (await after.tell(trial, completed())).was_late
    await after.studies.stop()


@asynchronous
async def test_who_lost_a_trial_can_neither_report_on_it_nor_keep_it() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    old, new = await lost(service)
    with refused(LeaseLostError):
        await service.report(old)
    assert (await service.release(old))[0].status.reason == "LEASE_LOST"
    await service.pass_time(20.0)
    assert await action(service, old) == Action.ACTION_LEASE_LOST
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE
    # None of it gave the second worker's lease a new term.
    await service.pass_time(11.0)
    assert (await service.trial(1)).state == Trial.STATE_QUEUED
    assert await action(service, new) == Action.ACTION_LEASE_LOST


@pytest.mark.parametrize("token", ["", "forged"])
def test_a_wrong_token_extends_nothing(token: str) -> None:
    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create(quadratic(lease_s=30.0))
        trial = (await service.ask()).trials[0]
        await service.pass_time(20.0)
        trial.lease.token = token
        assert await action(service, trial) == Action.ACTION_LEASE_LOST
        await service.pass_time(11.0)
        assert (await service.trial(1)).state == Trial.STATE_QUEUED

    scenario()


@pytest.mark.parametrize(("token", "is_late"), [("forged", True), ("", False)])
def test_a_result_is_taken_whatever_its_token(token: str, is_late: bool) -> None:
    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create(quadratic(lease_s=30.0))
        trial = (await service.ask()).trials[0]
        trial.lease.token = token
        result = await service.tell(trial, completed())
        assert (result.status.code, result.was_late) == (0, is_late)
        assert (await service.trial(1)).late == is_late

    scenario()


@pytest.mark.parametrize("first", ["old", "new"])
@pytest.mark.parametrize("loss", [0.5, 0.7])
def test_of_two_workers_on_a_trial_the_first_result_stands(first: str, loss: float) -> None:
    @asynchronous
    async def scenario() -> None:
        service = Service()
        await service.create(quadratic(lease_s=30.0))
        old, new = await lost(service)
        winner, loser = (old, new) if first == "old" else (new, old)
        result = await service.tell(winner, completed(0.5))
        assert (result.status.code, result.was_late) == (0, first == "old")
        assert await action(service, loser) == Action.ACTION_CANCEL
        second = await service.tell(loser, completed(loss))
        if loss == 0.5:
            assert (second.status.code, second.was_duplicate) == (0, True)
        else:
            assert second.status.reason == "TRIAL_ALREADY_FINISHED"
        assert (await service.trial(1)).final_measurement.metrics["loss"].value == 0.5
        assert (await service.events()).count("told") == 1

    scenario()


@asynchronous
async def test_a_late_result_ends_the_lease_of_the_second_worker() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    old, _ = await lost(service)
    await service.tell(old, completed())
    await service.pass_time(31.0)
    assert (await service.trial(1)).state == Trial.STATE_COMPLETED
    assert (await service.ask()).trials[0].number == 2


@asynchronous
async def test_heartbeats_write_nothing() -> None:
    store = WatchedStore()
    service = Service(store)
    await service.create(quadratic(lease_s=30.0))
    trials = (await service.ask(3)).trials
    n_writes, events = store.n_writes, await service.events()
    for _ in range(5):
        await service.pass_time(20.0)
        await service.heartbeat(*trials)
    assert store.n_writes == n_writes
    assert await service.events() == events


@asynchronous
async def test_a_heartbeat_may_name_thousands_of_trials() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    trial = (await service.ask()).trials[0]
    unknown = [Trial(name=f"{STUDY}/trials/{n}", lease=trial.lease) for n in range(2, 10_001)]
    orders = await service.heartbeat(trial, *unknown)
    assert orders[0].action == Action.ACTION_CONTINUE
    assert {each.action for each in orders[1:]} == {Action.ACTION_LEASE_LOST}


@asynchronous
async def test_after_minutes_without_a_server_nobody_has_lost_a_trial() -> None:
    before = Service()
    await before.create(quadratic(lease_s=30.0))
    trials = (await before.ask(4)).trials
    await before.stop_trial(4)
    await before.pass_time(29.0)
    after = await restarted(before, away_s=600.0)
    # What was finished meanwhile is told as if nothing had happened.
    assert not (await after.tell(trials[0], completed())).was_late
    await after.pass_time(29.0)
    assert await action(after, trials[1]) == Action.ACTION_CONTINUE
    assert await action(after, trials[3]) == Action.ACTION_STOP_EARLY
    await after.pass_time(2.0)
    # Only the worker that was not heard of for a full term has lost its trial.
    states = [(await after.trial(number)).state for number in (1, 2, 3, 4)]
    assert states == [
        Trial.STATE_COMPLETED,
        Trial.STATE_ACTIVE,
        Trial.STATE_QUEUED,
        Trial.STATE_STOPPING,
    ]
    await after.studies.stop()


@asynchronous
async def test_a_trial_that_was_lost_before_an_outage_is_nobodys_after_it() -> None:
    before = Service()
    await before.create(quadratic(lease_s=30.0))
    old, new = await lost(before)
    after = await restarted(before, away_s=600.0)
    assert await action(after, old) == Action.ACTION_LEASE_LOST
    assert await action(after, new) == Action.ACTION_CONTINUE
    await after.studies.stop()


@asynchronous
async def test_a_server_that_stood_still_expires_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_S", 0.0)
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    trial = (await service.ask()).trials[0]
    await service.studies.start()

    async def let_sweep() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    await let_sweep()
    service.clock.now_s += 600.0
    await let_sweep()
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE
    for _ in range(7):
        service.clock.now_s += 4.0
        await let_sweep()
    assert await action(service, trial) == Action.ACTION_CONTINUE
    for _ in range(8):
        service.clock.now_s += 4.0
        await let_sweep()
    assert (await service.trial(1)).state == Trial.STATE_QUEUED
    await service.studies.stop()


@pytest.mark.parametrize("error", [UnavailableError("full"), DataLossError("damaged")])
def test_an_end_that_cannot_be_written_is_written_later(error: Exception) -> None:
    @asynchronous
    async def scenario() -> None:
        store = WatchedStore()
        service = Service(store)
        await service.create(quadratic(lease_s=30.0))
        await service.ask(2)
        store.errors = [error]
        await service.pass_time(31.0)
        assert (await service.trial(1)).state == Trial.STATE_ACTIVE
        await service.pass_time(31.0)
        states = [(await service.trial(number)).state for number in (1, 2)]
        assert states == [Trial.STATE_QUEUED] * 2

    scenario()


@asynchronous
async def test_a_study_that_cannot_be_written_does_not_hold_up_another() -> None:
    store = WatchedStore()
    service = Service(store)
    await service.create(quadratic(lease_s=30.0))
    await service.ask()
    other = f"{STUDY}-other"
    await service.create(quadratic(lease_s=30.0), study_id="s-other")
    await service.ask(parent=other)
    store.errors = [DataLossError("damaged")]
    await service.pass_time(31.0)
    request = pb.GetTrialRequest(name=f"{other}/trials/1")
    assert (await service.trial(1)).state == Trial.STATE_ACTIVE
    assert (await service.call("GetTrial", request)).state == Trial.STATE_QUEUED


@asynchronous
async def test_a_failed_write_does_not_take_the_lease_of_the_next_holder() -> None:
    """The first gives its trial back just while the end of its lease cannot be written."""
    store = WatchedStore()
    service = Service(store)
    await service.create(quadratic(lease_s=30.0))
    old = (await service.ask(worker_id="first")).trials[0]
    transact, has_begun, may_fail = store.transact, asyncio.Event(), asyncio.Event()

    async def fail_slowly(_: Callable[[Transaction], T], **options: object) -> T:  # noqa: ARG001
        store.transact = transact  # type: ignore[method-assign]
        has_begun.set()
        await may_fail.wait()
        raise UnavailableError("full")

    store.transact = fail_slowly  # type: ignore[method-assign,assignment]
    passing = asyncio.create_task(service.pass_time(31.0))
    await has_begun.wait()
    await service.release(old)
    new = (await service.ask(worker_id="second")).trials[0]
    may_fail.set()
    await passing
    assert new.number == old.number
    assert await action(service, new) == Action.ACTION_CONTINUE
    await service.pass_time(31.0)
    assert (await service.trial(1)).state == Trial.STATE_QUEUED


@asynchronous
async def test_a_trial_that_was_ordered_to_stop_never_runs_again() -> None:
    service = Service()
    await service.create(quadratic(lease_s=30.0))
    silent, failing, leaving = (await service.ask(3)).trials
    for number in (1, 2, 3):
        await service.stop_trial(number)
    assert (await service.tell(failing, failed())).state == Trial.STATE_FAILED
    await service.release(leaving)
    await service.pass_time(31.0)
    states = [(await service.trial(number)).state for number in (1, 2, 3)]
    assert states == [Trial.STATE_FAILED, Trial.STATE_FAILED, Trial.STATE_ABANDONED]
    assert [each.number for each in (await service.ask(3)).trials] == [4, 5, 6]
    # What the lost worker measured by then is data, if it comes after all.
    found = await service.tell(silent, completed(2.0))
    assert (found.state, found.was_late) == (Trial.STATE_COMPLETED, True)
