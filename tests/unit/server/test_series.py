"""Points of strategies that ignore results, computed once for the asks of a while."""

import asyncio
import random
from dataclasses import dataclass

import pytest

from bbopt import Optimizer
from bbopt.errors import ExhaustedError, NotFoundError
from bbopt.replay import Mismatch
from bbopt.rpc.log import (
    event_from_message,
    strategy_state_to_bytes,
    suggestion_to_bytes,
)
from bbopt.rpc.names import StudyName
from bbopt.rpc.v1 import log_pb2, study_pb2, trial_pb2
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt_server.compute import StudyLog, Suggestions
from bbopt_server.studies.records import spec_from_bytes
from bbopt_server.studies.series import MOST_BYTES, MOST_POINTS, Series, SeriesTable
from tests.kept import read_study
from tests.unit.server.service import (
    STUDY,
    FakeCompute,
    Service,
    asynchronous,
    completed,
    failed,
    new_id,
    quadratic,
    refused,
)

Reason = pb.AskTrialsResponse


@dataclass
class EngineCompute(FakeCompute):
    """Suggests what the library does, from the log alone."""

    async def suggest(
        self,
        study: StudyLog,
        count: int,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> Suggestions:
        del time_left_s
        self.n_ahead += is_ahead
        if self.gate is not None:
            await self.gate.wait()
        events = await study.events(0)
        self.jobs.append((study.uid, count, len(events)))
        await asyncio.sleep(0)
        spec = spec_from_bytes(study.spec)
        optimizer = Optimizer(spec.problem, spec.strategy, spec.drawn_seed)
        optimizer.fold(event_from_message(log_pb2.LogEvent.FromString(e)) for e in events)
        found = optimizer.suggest(count)
        return Suggestions(
            tuple(map(suggestion_to_bytes, found.suggestions)),
            strategy_state_to_bytes(found.state),
            found.space_exhausted,
            len(events),
            0.0,
            tuple(map(strategy_state_to_bytes, found.states)),
        )


def engine() -> Service:
    return Service(compute=EngineCompute())


def levels(n: int, *, noise: bool = False) -> study_pb2.StudySpec:
    """A space of so many points."""
    domain = study_pb2.IntegerDomain(min=1, max=n)
    parameter = study_pb2.ParameterSpec(id="level", integer_domain=domain)
    spec = quadratic(strategy="sobol")
    del spec.parameters[:]
    spec.parameters.append(parameter)
    if not noise:
        spec.metrics[0].noise = study_pb2.Metric.NOISE_NONE
    return spec


async def settle() -> None:
    """Let what runs in the background end."""
    for _ in range(50):
        await asyncio.sleep(0)


async def mismatches(service: Service) -> list[Mismatch]:
    kept = await read_study(service.store)
    assert kept is not None
    return kept.mismatches()


def parameters(trials: list[trial_pb2.Trial]) -> list[str]:
    return [str(sorted(trial.parameters.items())) for trial in trials]


@pytest.mark.parametrize("strategy", ["sobol", "random"])
@asynchronous
async def test_many_asks_share_few_jobs(strategy: str) -> None:
    service = engine()
    await service.create(quadratic(strategy=strategy))
    trials = []
    for _ in range(100):
        (trial,) = (await service.ask()).trials
        trials.append(trial)
        await service.tell(trial, completed())
    assert [trial.number for trial in trials] == list(range(1, 101))
    assert len(set(parameters(trials))) == 100
    assert len(service.compute.jobs) < 12
    assert max(count for _, count, _ in service.compute.jobs) <= MOST_POINTS
    assert await mismatches(service) == []


@asynchronous
async def test_more_is_computed_before_the_last_point_is_used() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    for _ in range(60):
        await service.ask()
        await settle()
    n_waited_for = len(service.compute.jobs) - service.compute.n_ahead
    assert n_waited_for == 1
    assert await mismatches(service) == []


@asynchronous
async def test_what_is_computed_while_asks_go_on_begins_where_they_are() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    while len(service.compute.jobs) < 6:
        await service.ask()
        await settle()
    for n_meanwhile in (0, 1, 5, 9):
        n_ahead, service.compute.gate = service.compute.n_ahead, asyncio.Event()
        while service.compute.n_ahead == n_ahead:
            await service.ask()
            await settle()
        for _ in range(n_meanwhile):
            await service.ask()
        last = asyncio.create_task(service.ask())
        service.compute.gate.set()
        await last
        await settle()
    assert len(service.compute.jobs) == service.compute.n_ahead + 1
    assert await mismatches(service) == []


@asynchronous
async def test_asks_that_come_while_the_first_point_is_computed_wait_for_their_own() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    asks = []
    for _ in range(6):
        service.compute.gate = asyncio.Event()
        asks.append(asyncio.create_task(service.ask()))
        await settle()
        asks += [asyncio.create_task(service.ask()) for _ in range(3)]
        await settle()
        service.compute.gate.set()
        await asyncio.sleep(0)
    answers = await asyncio.gather(*asks)
    assert sorted(answer.trials[0].number for answer in answers) == list(range(1, 25))
    assert await mismatches(service) == []


@pytest.mark.parametrize("seed", range(6))
@asynchronous
async def test_whatever_happens_between_asks_the_log_replays(seed: int) -> None:
    service, rng = engine(), random.Random(seed)  # noqa: S311
    await service.create(quadratic(strategy="sobol"))
    held: list[trial_pb2.Trial] = []
    for _ in range(40):
        asks = [service.ask(rng.choice((1, 1, 2, 7))) for _ in range(rng.randint(1, 4))]
        calls = [asyncio.ensure_future(each) for each in asks]
        if rng.random() < 0.3:
            await service.create_trial(rng.random())
        if rng.random() < 0.3:
            calls[0].cancel()
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, pb.AskTrialsResponse):
                held.extend(answer.trials)
        rng.shuffle(held)
        for _ in range(rng.randint(0, len(held))):
            trial = held.pop()
            await service.tell(trial, failed() if rng.random() < 0.2 else completed())
    n = (await service.study()).stats
    assert n.active + n.completed + n.failed + n.queued > 40
    assert await mismatches(service) == []


@asynchronous
async def test_a_point_of_somebody_else_makes_the_next_ones_be_computed_again() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    trials = [(await service.ask()).trials[0] for _ in range(9)]
    await service.create_trial(0.5)
    trials += [(await service.ask()).trials[0] for _ in range(9)]
    generators = [trial.provenance.generator for trial in trials]
    assert generators == ["sobol"] * 9 + ["enqueued"] + ["sobol"] * 8
    alone = engine()
    await alone.create((await service.study()).spec)
    same = [(await alone.ask()).trials[0] for _ in range(17)]
    mine = [trial for trial in trials if trial.provenance.generator == "sobol"]
    assert parameters(mine) == parameters(same)
    assert await mismatches(service) == []


@asynchronous
async def test_a_point_that_failed_comes_again_where_points_are_few() -> None:
    service = engine()
    await service.create(levels(6))
    first, *rest = [(await service.ask()).trials[0] for _ in range(5)]
    await settle()
    await service.tell(first, failed(final=True))
    for trial in rest:
        await service.tell(trial, completed())
    last = [trial for _ in range(2) for trial in (await service.ask()).trials]
    seen = [trial.parameters["level"].int_value for trial in (first, *rest, *last)]
    assert set(seen) == set(range(1, 7))
    assert service.compute.n_ahead == 0
    assert await mismatches(service) == []


@asynchronous
async def test_a_budget_is_never_passed() -> None:
    service = engine()
    await service.create(quadratic(strategy="random", max_trials=11))
    answers = await asyncio.gather(*(service.ask(time_left_s=0.4) for _ in range(11)))
    assert sorted(trial.number for each in answers for trial in each.trials) == list(
        range(1, 12)
    )
    more = await service.ask(max_wait=None, time_left_s=0.2)
    assert not more.trials
    assert max(count for _, count, _ in service.compute.jobs) <= 11


@asynchronous
async def test_a_study_full_of_open_trials_says_so_at_once() -> None:
    service = Service()
    await service.create(quadratic(strategy="sobol"))
    for _ in range(4):
        assert len((await service.ask(250)).trials) == 250
    with refused(ExhaustedError):
        await service.ask()


@asynchronous
async def test_asks_for_many_and_for_few_share_a_series() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    answers = [await service.ask(n) for n in (1, 40, 1, 200, 1, 1)]
    numbers = [trial.number for answer in answers for trial in answer.trials]
    assert numbers == list(range(1, 245))
    trials = [trial for answer in answers for trial in answer.trials]
    assert len(set(parameters(trials))) == 244
    assert await mismatches(service) == []


@asynchronous
async def test_asks_at_once_with_the_same_id_get_one_answer() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    for _ in range(3):
        await service.ask()
    same = [service.ask(request_id="the-same-one") for _ in range(3)]
    answers = await asyncio.gather(*same, service.ask())
    assert answers[0] == answers[1] == answers[2]
    assert answers[3].trials[0].number != answers[0].trials[0].number
    assert (await service.study()).stats.active == 5
    assert (await service.study()).stats.queued == 0


@asynchronous
async def test_a_new_server_goes_on_where_the_log_ends() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    trials = [(await service.ask()).trials[0] for _ in range(7)]
    again = Service(store=service.store, compute=EngineCompute())
    trials += [(await again.ask()).trials[0] for _ in range(7)]
    assert [trial.number for trial in trials] == list(range(1, 15))
    assert len(set(parameters(trials))) == 14
    assert await mismatches(again) == []


@asynchronous
async def test_a_study_with_the_name_of_a_deleted_one_has_its_own_series() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    old = await service.study()
    for _ in range(5):
        await service.ask()
    await service.call("DeleteStudy", pb.DeleteStudyRequest(name=STUDY, request_id=new_id()))
    with refused(NotFoundError):
        await service.ask()
    await service.create(quadratic(strategy="sobol"))
    for number in range(1, 6):
        assert [each.number for each in (await service.ask()).trials] == [number]
        with refused(NotFoundError):
            await service.ask(study_uid=old.uid)


@asynchronous
async def test_compute_that_fails_ahead_of_an_ask_fails_no_ask_while_points_last() -> None:
    service = engine()
    await service.create(quadratic(strategy="sobol"))
    for _ in range(20):
        await service.ask()
    await settle()
    service.compute.suggest = _broken  # type: ignore[method-assign]
    for _ in range(5):
        assert len((await service.ask()).trials) == 1
        await settle()


def test_what_was_computed_during_a_commit_outlives_it() -> None:
    table, name = SeriesTable(), StudyName("default", "s")
    old = Series(1, name, next_number=5, found=found(8, revision=10))
    new = Series(1, name, next_number=7, found=found(8, revision=20))
    table.keep(old)
    table.extend(new)  # While the commit of trials 5 to 8 is on its way.
    rest = old.at(9)
    assert rest is not None
    table.keep(rest)
    kept = table.of(name)
    assert kept == new.at(9)
    assert kept is not None
    assert len(kept) == 6


def found(n: int, *, revision: int) -> Suggestions:
    points = tuple(bytes([each]) for each in range(n))
    return Suggestions(points, points[-1], False, revision, 0.0, points)


async def _broken(*_: object, **__: object) -> Suggestions:
    raise RuntimeError("broken")


@asynchronous
async def test_points_ahead_take_little_memory_where_they_are_long() -> None:
    service = engine()
    spec = quadratic(strategy="random")
    spec.parameters.extend(
        study_pb2.ParameterSpec(
            id=f"x{i}", double_domain=study_pb2.DoubleDomain(min=0.0, max=1.0)
        )
        for i in range(400)
    )
    await service.create(spec)
    trials: list[trial_pb2.Trial] = []
    for _ in range(30):
        trials += (await service.ask()).trials
        await settle()
    n_bytes = max(trial.ByteSize() for trial in trials)
    largest = max(count for _, count, _ in service.compute.jobs)
    assert 1 < largest < MOST_POINTS
    assert largest * n_bytes < 2 * MOST_BYTES
