"""The next points are computed right after a result, and change nothing but the wait."""

# ruff: noqa: ANN401 - a fake passes on what it is given

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bbopt.errors import NotFoundError, NumericalError, UnavailableError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import trial_pb2
from bbopt_server.storage import Store
from bbopt_server.storage.store import Transaction
from bbopt_server.studies import ready
from tests.unit.server.service import (
    PARENT,
    STUDY,
    FakeCompute,
    Service,
    asynchronous,
    completed,
    new_id,
    quadratic,
)


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.n_reads = self.n_transactions = 0

    async def read(self, work: Callable[[Transaction], Any], **options: Any) -> Any:
        self.n_reads += 1
        return await self._store.read(work, **options)

    async def transact(self, work: Callable[[Transaction], Any], **options: Any) -> Any:
        self.n_transactions += 1
        return await self._store.transact(work, **options)

    async def close(self) -> None:
        await self._store.close()


Change = Callable[[Service, trial_pb2.Trial], Coroutine[Any, Any, object]]


async def settle() -> None:
    """Let everything happen that does not wait for anything outside."""
    for _ in range(50):
        await asyncio.sleep(0)


def queueing() -> Service:
    """Return a service whose computations are worth being done ahead."""
    compute = FakeCompute(elapsed_s=ready.MIN_COMPUTING_S)
    return Service(compute=compute, has_ready_queue=True)


async def working(*, max_trials: int | None = None) -> tuple[Service, trial_pb2.Trial]:
    """Return a service whose study has asked, was told, and holds one more trial."""
    service = queueing()
    await service.create(quadratic(max_trials=max_trials))
    first, other = (await service.ask()).trials[0], (await service.ask()).trials[0]
    await service.tell(first, completed())
    await settle()
    return service, other


async def amend(service: Service, _: trial_pb2.Trial) -> None:
    await service.amend(1, completed(7.0))


async def tell(service: Service, trial: trial_pb2.Trial) -> None:
    await service.tell(trial, completed(2.0))


async def tell_again(service: Service, trial: trial_pb2.Trial) -> None:
    """The computation that follows is held back for ever."""
    service.compute.gate = asyncio.Event()
    await tell(service, trial)


@asynchronous
async def test_an_ask_after_a_tell_is_answered_without_a_computation_of_its_own() -> None:
    service, _ = await working()
    assert service.compute.n_ahead == 1
    n_jobs = len(service.compute.jobs)
    revision = (await service.study()).revision
    trial = (await service.ask()).trials[0]
    assert len(service.compute.jobs) == n_jobs
    assert trial.provenance.data_revision == revision
    assert (trial.number, trial.provenance.generator) == (3, "fake")
    assert service.studies.ready.counters.n_hits == 1


@asynchronous
async def test_what_was_computed_ahead_is_handed_out_once() -> None:
    service, _ = await working()
    first, second = [(await service.ask()).trials[0] for _ in range(2)]
    assert first.parameters != second.parameters
    assert service.studies.ready.counters.n_hits == 1


@asynchronous
async def test_an_ask_that_finds_its_point_ready_looks_at_the_store_once() -> None:
    service, _ = await working()
    store = Counting(service.store)
    for part in (service.studies._answerer, service.studies._committer):
        part._store = store
    await service.ask()
    assert (store.n_reads, store.n_transactions) == (0, 1)


@asynchronous
async def test_a_ready_ask_that_is_repeated_gets_the_same_trial() -> None:
    service, other = await working()
    request_id = new_id()
    first = await service.ask(request_id=request_id)
    await tell(service, other)
    await settle()
    assert await service.ask(request_id=request_id) == first
    assert service.studies.ready.counters.n_hits == 1


@asynchronous
async def test_a_ready_point_that_a_tell_overtakes_in_the_same_commit_is_not_handed_out() -> (
    None
):
    service, other = await working()
    _, answer = await asyncio.gather(service.tell(other, completed(2.0)), service.ask())
    revision = (await service.study()).revision
    assert answer.trials[0].provenance.data_revision == revision - 1
    assert service.studies.ready.counters.n_dropped == 1


@asynchronous
async def test_two_asks_at_once_do_not_get_the_same_ready_point() -> None:
    service, _ = await working()
    first, second = await asyncio.gather(service.ask(), service.ask())
    assert first.trials[0].number != second.trials[0].number
    assert first.trials[0].parameters != second.trials[0].parameters


@asynchronous
async def test_a_ready_point_is_not_handed_out_while_the_server_drains() -> None:
    service, _ = await working()
    await service.studies._answerer.drain()
    with pytest.raises(UnavailableError):
        await service.ask()


@asynchronous
async def test_an_ask_of_another_size_is_computed_afresh() -> None:
    service, _ = await working()
    n_jobs = len(service.compute.jobs)
    trials = (await service.ask(2)).trials
    revision = service.compute.jobs[-1][2]
    assert [count for _, count, _ in service.compute.jobs[n_jobs:]] == [2]
    assert {trial.provenance.data_revision for trial in trials} == {revision}
    assert service.studies.ready.counters.n_dropped == 1


@pytest.mark.parametrize("change", [amend, tell_again, Service.report])
def test_what_has_not_seen_an_event_is_not_handed_out(change: Change) -> None:
    async def scenario() -> None:
        service, other = await working()
        await change(service, other)
        await settle()
        n_jobs, gate = len(service.compute.jobs), service.compute.gate
        if gate is not None:
            gate.set()
        revision = (await service.study()).revision
        trial = (await service.ask()).trials[0]
        assert trial.provenance.data_revision == revision
        assert len(service.compute.jobs) == n_jobs + (gate is None)
        assert service.studies.ready.counters.n_dropped == 1

    asyncio.run(scenario())


@asynchronous
async def test_an_enqueued_point_goes_first_and_empties_the_queue() -> None:
    service, _ = await working()
    await service.create_trial(0.1)
    n_jobs = len(service.compute.jobs)
    queued = (await service.ask()).trials[0]
    assert queued.provenance.generator == "enqueued"
    revision = (await service.study()).revision
    assert (await service.ask()).trials[0].provenance.data_revision == revision
    assert len(service.compute.jobs) == n_jobs + 1
    assert service.studies.ready.counters.n_hits == 0


@asynchronous
async def test_an_ask_waits_for_its_computation_where_that_has_begun() -> None:
    service, other = await working()
    service.compute.gate = asyncio.Event()
    await tell(service, other)
    await settle()
    n_jobs = len(service.compute.jobs)
    asking = asyncio.create_task(service.ask())
    await settle()
    assert not asking.done()
    service.compute.gate.set()
    assert (await asking).trials[0].number == 3
    assert len(service.compute.jobs) == n_jobs


@asynchronous
async def test_a_tell_does_not_wait_for_the_computation_that_it_starts() -> None:
    service, other = await working()
    service.compute.gate = asyncio.Event()
    assert (await service.tell(other, completed())).state == trial_pb2.Trial.STATE_COMPLETED
    await settle()
    assert service.compute.n_ahead == 2
    await service.studies.stop()


@asynchronous
async def test_a_revision_is_computed_ahead_once() -> None:
    service, other = await working()
    await tell(service, other)
    await tell(service, other)  # A duplicate, which is no event.
    await settle()
    revisions = [revision for _, _, revision in service.compute.jobs]
    assert len(revisions) == len(set(revisions))
    assert service.compute.n_ahead == 2


@asynchronous
async def test_who_asks_for_several_is_expected_back_when_all_are_told() -> None:
    service = queueing()
    await service.create()
    for trial in (await service.ask(3)).trials:
        await settle()
        assert service.compute.n_ahead == 0
        await service.tell(trial, completed())
    await settle()
    assert service.compute.n_ahead == 1
    assert len((await service.ask(3)).trials) == 3
    assert service.studies.ready.counters.n_hits == 1


@asynchronous
async def test_a_study_that_only_tells_gets_a_few_computations_and_no_more() -> None:
    service = queueing()
    await service.create()
    trials = [(await service.ask()).trials[0] for _ in range(8)]
    for trial in trials:
        await service.tell(trial, completed())
        await settle()
    assert service.compute.n_ahead == ready.MAX_UNUSED


@asynchronous
async def test_a_study_that_has_not_asked_for_long_is_left_alone() -> None:
    service, other = await working()
    service.clock.now_s += ready.RECENT_S + 1.0
    await tell(service, other)
    await settle()
    assert service.compute.n_ahead == 1


@asynchronous
async def test_a_study_that_has_never_asked_is_left_alone() -> None:
    service = queueing()
    await service.create()
    await service.create_trial(0.1, completed())
    await settle()
    assert service.compute.jobs == []


@pytest.mark.parametrize("took_s", [0.9 * ready.MIN_COMPUTING_S, 1.1 * ready.MAX_COMPUTING_S])
def test_a_study_whose_points_take_hardly_any_time_or_long_is_left_alone(took_s: float) -> None:
    async def scenario() -> None:
        service, other = await working()
        service.compute.elapsed_s = took_s
        await service.ask(2)
        trial = (await service.ask()).trials[0]
        await tell(service, other)
        await tell(service, trial)
        await settle()
        assert service.compute.n_ahead == 1

    asyncio.run(scenario())


@asynchronous
async def test_a_study_that_is_set_aside_is_left_alone() -> None:
    service, other = await working()
    service.compute.set_aside[service.compute.jobs[0][0]] = 60.0
    await tell(service, other)
    await settle()
    assert service.compute.n_ahead == 1


@asynchronous
async def test_nothing_is_computed_for_a_budget_that_is_spent() -> None:
    service, _ = await working(max_trials=2)
    assert service.compute.n_ahead == 0


@asynchronous
async def test_nothing_is_computed_while_the_server_drains() -> None:
    service, other = await working()
    await service.studies.drain()
    await tell(service, other)
    await settle()
    assert service.compute.n_ahead == 1


@asynchronous
async def test_a_deleted_study_takes_its_points_with_it() -> None:
    service, _ = await working()
    await service.call("DeleteStudy", pb.DeleteStudyRequest(name=STUDY, request_id=new_id()))
    assert service.studies.ready.counters.n_dropped == 1
    with pytest.raises(NotFoundError):
        await service.ask()
    await service.create()
    trial = (await service.ask()).trials[0]
    assert trial.number == 1
    assert service.studies.ready.counters.n_hits == 0


@asynchronous
async def test_a_failure_ahead_is_logged_once_and_nobody_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, other = await working()
    third = (await service.ask()).trials[0]
    service.compute.error = NumericalError("no model today")
    with caplog.at_level(logging.WARNING):
        await tell(service, other)
        await settle()
        await tell(service, third)
        await settle()
    assert [each.message for each in caplog.records] == [
        "nothing was computed ahead: no model today"
    ]
    service.compute.error = None
    n_jobs = len(service.compute.jobs)
    trial = (await service.ask()).trials[0]
    assert trial.provenance.generator == "fake"
    assert len(service.compute.jobs) == n_jobs + 1
    assert service.studies.ready.counters.n_failed == 1
    await service.tell(trial, completed())
    await settle()
    assert service.compute.n_ahead == 3


@asynchronous
async def test_no_ask_waits_for_a_computation_that_fails() -> None:
    service, other = await working()
    service.compute.gate = asyncio.Event()
    service.compute.error = NumericalError("no model today")
    await tell(service, other)
    await settle()
    asking = asyncio.create_task(service.ask())
    await settle()
    service.compute.gate.set()
    await settle()
    assert service.studies.ready.counters.n_failed == 1
    assert (await asking).trials[0].provenance.generator == "fallback"


@asynchronous
async def test_only_so_many_studies_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "MAX_STUDIES", 2)
    service = queueing()
    names = ["a", "b", "c"]
    trials = []
    for name in names:
        await service.create(study_id=name, request_id=new_id())
        parent = f"{PARENT}/studies/{name}"
        trials.append((parent, (await service.ask(parent=parent)).trials[0]))
    for parent, trial in trials:
        await service.tell(trial, completed(), parent=parent)
    await settle()
    assert service.compute.n_ahead == 2


@asynchronous
async def test_switched_off_it_computes_nothing() -> None:
    service = Service(has_ready_queue=False)
    await service.create()
    trial = (await service.ask()).trials[0]
    await service.tell(trial, completed())
    await settle()
    assert service.compute.n_ahead == 0
    await service.ask()
    assert len(service.compute.jobs) == 2
