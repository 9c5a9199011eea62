"""Calls that are sent again, on both stores: alone, among others, before a commit and after."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bbopt.errors import BboptError, LeaseLostError, RequestIdReusedError, UnavailableError
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import trial_pb2
from bbopt_server.storage import MemoryStore, SqliteStore
from bbopt_server.storage.store import Transaction
from bbopt_server.studies.ledger import Effects
from tests.unit.server.service import Service, completed, quadratic, refused

Scenario: TypeAlias = Callable[[Service], Coroutine[Any, Any, None]]
Run: TypeAlias = Callable[[Scenario], None]

SAME = "the-same-one"


@dataclass
class Disk:
    """Refuses a commit when it is full, and has room again for the next one."""

    is_full: bool = False

    def __call__(self, point: str) -> None:
        if point == "before_commit" and self.is_full:
            self.is_full = False
            raise OSError("no space left")


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture(params=["memory", "sqlite"])
def run(request: pytest.FixtureRequest, tmp_path: Path, disk: Disk) -> Run:
    """Run something with a service that has one study, on a store of each kind."""

    async def go(scenario: Scenario) -> None:
        path = str(tmp_path / "studies.db")
        is_memory = request.param == "memory"
        store = MemoryStore() if is_memory else SqliteStore.open(path, on_point=disk)
        service = Service(store)
        await service.create(quadratic(strategy="random"))
        await scenario(service)
        await store.close()

    return lambda scenario: asyncio.run(go(scenario))


def test_a_call_that_comes_twice_at_once_happens_once(run: Run) -> None:
    async def scenario(service: Service) -> None:
        one, two = (await service.ask(2)).trials
        first, other, again = await asyncio.gather(
            service.tell(one, completed(), request_id=SAME),
            service.tell(two, completed()),
            service.tell(one, completed(), request_id=SAME),
        )
        assert first == again == await service.tell(one, completed(), request_id=SAME)
        assert not again.was_duplicate
        assert other.status.code == 0
        assert (await service.events()).count("told") == 2

    run(scenario)


def test_what_a_repetition_would_have_changed_stays_as_it_was(run: Run) -> None:
    async def scenario(service: Service) -> None:
        first, again = await asyncio.gather(
            service.create_trial(0.25, request_id=SAME),
            service.create_trial(0.25, request_id=SAME),
        )
        assert first == again == await service.create_trial(0.25, request_id=SAME)
        study = await service.study()
        assert (study.stats.queued, study.revision) == (1, len(await service.events()))
        assert [each.number for each in (await service.ask(2)).trials] == [1, 2]

    run(scenario)


def test_an_id_that_comes_twice_at_once_with_two_requests_is_refused_once(run: Run) -> None:
    async def scenario(service: Service) -> None:
        answers = await asyncio.gather(
            service.create_trial(0.25, request_id=SAME),
            service.create_trial(0.5, request_id=SAME),
            return_exceptions=True,
        )
        assert isinstance(answers[0], trial_pb2.Trial)
        assert isinstance(answers[1], RequestIdReusedError)
        with refused(RequestIdReusedError):
            await service.create_trial(0.5, request_id=SAME)
        assert (await service.study()).stats.queued == 1

    run(scenario)


def test_a_repetition_that_would_be_refused_by_now_gets_its_answer(run: Run) -> None:
    async def scenario(service: Service) -> None:
        trial = (await service.ask()).trials[0]
        answer = await service.report(trial, request_id=SAME)
        await service.tell(trial, completed())
        assert await service.report(trial, request_id=SAME) == answer
        trial.lease.ClearField("token")
        with refused(RequestIdReusedError):
            await service.report(trial, request_id=SAME)

    run(scenario)


def test_what_was_refused_may_be_done_later_under_the_same_id(run: Run) -> None:
    async def scenario(service: Service) -> None:
        trial = (await service.ask()).trials[0]
        token, trial.lease.token = trial.lease.token, "another"
        with refused(LeaseLostError):
            await service.report(trial, request_id=SAME)
        trial.lease.token = token
        assert not (await service.report(trial, request_id=SAME)).should_stop

    run(scenario)


def test_a_repetition_does_what_its_call_could_not_commit(run: Run, disk: Disk) -> None:
    async def scenario(service: Service) -> None:
        trial = (await service.ask()).trials[0]
        disk.is_full = True
        answers: list[pb.TellResult | BaseException] = await asyncio.gather(
            *(service.tell(trial, completed(), request_id=SAME) for _ in range(3)),
            return_exceptions=True,
        )
        told = [each for each in answers if not isinstance(each, BaseException)]
        errors = [each for each in answers if isinstance(each, BboptError)]
        assert len(told) + len(errors) == 3
        assert all(isinstance(each, UnavailableError) for each in errors)
        again = await service.tell(trial, completed(), request_id=SAME)
        assert not again.was_duplicate
        assert all(each == again for each in told)
        assert (await service.events()).count("told") == 1

    run(scenario)


def test_what_follows_from_work_that_is_run_again_follows_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(service: Service) -> None:
        await service.ask(2)
        committer = service.studies._committer
        applied: list[Effects] = []
        monkeypatch.setattr(committer, "_apply", applied.append)

        def end(number: int) -> Callable[[Transaction, Effects], None]:
            def work(tx: Transaction, effects: Effects) -> None:
                effects.told[number] = effects.told.get(number, 0) + 1
                row = tx.trial(1, number)
                assert row is not None
                tx.update_trial(row._replace(state="FAILED", amendments=row.amendments + 1))
                if number == 2:
                    raise LookupError

            return work

        works = [committer.commit(end(1)), committer.commit(end(2)), committer.commit(end(1))]
        answers = await asyncio.gather(*works, return_exceptions=True)
        assert [type(each) for each in answers] == [type(None), LookupError, type(None)]
        assert applied == [Effects(told={1: 1}), Effects(told={1: 1})]
        assert [(await service.trial(number)).amendments for number in (1, 2)] == [2, 0]

    run(scenario)
