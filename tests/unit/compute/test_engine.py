"""The real engine behind the pool: what a client is suggested must not depend on which
process answered, or on how often it had to begin again.
"""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
import torch

from bbopt.errors import UnsupportedError
from bbopt.optimizer import Optimizer
from bbopt.rpc.log import event_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import insight_service_pb2, log_pb2
from bbopt.specs import GPSpec, SobolSpec, StrategySpec
from bbopt_server.compute import ComputePool, Suggestions
from bbopt_server.compute.engine import estimate_bytes
from bbopt_server.compute.pool import PROCESS
from tests.unit.compute.recorded import PROBLEM, RecordedStudy, run_round

GP = GPSpec(n_initial=4)
N_ROUNDS = 9


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def pool(runner: asyncio.Runner) -> Iterator[ComputePool]:
    """One process for the module: it takes two seconds to load."""
    pool = ComputePool()
    yield pool
    runner.run(pool.stop())


@pytest.fixture(scope="module")
def forgetful(runner: asyncio.Runner) -> Iterator[ComputePool]:
    """A pool whose process keeps one study at a time."""
    pool = ComputePool(command=[*PROCESS, "--max-studies", "1"])
    yield pool
    runner.run(pool.stop())


async def play(pool: ComputePool, uid: str, strategy: StrategySpec) -> list[Suggestions]:
    study = RecordedStudy(uid, strategy)
    return [await run_round(pool, study, 1 + i % 2) for i in range(N_ROUNDS)]


def contents(answers: list[Suggestions]) -> list[object]:
    """Return all of the answers but how long they took."""
    return [(each.suggestions, each.space_exhausted, each.revision) for each in answers]


def assert_equal(answers: list[Suggestions], others: list[Suggestions]) -> None:
    assert contents(answers) == contents(others)
    for one, other in zip(answers, others, strict=True):
        assert one.state is not None
        assert other.state is not None
        assert one.state.equals(other.state)


def test_the_process_suggests_what_the_library_suggests(
    runner: asyncio.Runner, pool: ComputePool
) -> None:
    async def scenario() -> None:
        study = RecordedStudy("like the library", GP)
        spec = study_spec_from_message(study.spec)
        twin = Optimizer(spec.problem, spec.strategy, spec.drawn_seed)
        for _ in range(N_ROUNDS):
            fresh = map(log_pb2.LogEvent.FromString, study.events[twin.revision :])
            twin.fold(map(event_from_message, fresh))
            expected = twin.suggest(2)
            answer = await run_round(pool, study, 2)
            assert answer.suggestions == expected.suggestions
            assert answer.state is not None
            assert answer.state.equals(expected.state)
        assert answer.suggestions[0].provenance.generator == "gp"

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runner.run(scenario())
    finally:
        torch.set_num_threads(n_threads)


def test_studies_whose_process_was_killed_go_on_as_if_nothing_happened(
    runner: asyncio.Runner, pool: ComputePool
) -> None:
    strategies = (GP, SobolSpec())

    async def scenario() -> None:
        expected = [await play(pool, f"undisturbed {each}", each) for each in strategies]
        studies = [RecordedStudy(f"killed {each}", each) for each in strategies]
        answers: list[list[Suggestions]] = [[] for _ in studies]
        for i in range(N_ROUNDS):
            if i in (3, 7):
                pid = pool.pids[0]
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            for study, found in zip(studies, answers, strict=True):
                found.append(await run_round(pool, study, 1 + i % 2))
        for found, wanted in zip(answers, expected, strict=True):
            assert_equal(found, wanted)
        assert [study.reads.count(0) for study in studies] == [3, 3]

    runner.run(scenario())


def test_a_study_that_was_evicted_goes_on_as_if_nothing_happened(
    runner: asyncio.Runner, pool: ComputePool, forgetful: ComputePool
) -> None:
    async def scenario() -> None:
        expected = await play(pool, "one", GP)
        one, other = RecordedStudy("one", GP), RecordedStudy("other", GP, seed=2)
        answers = []
        for i in range(N_ROUNDS):
            answers.append(await run_round(forgetful, one, 1 + i % 2))
            await run_round(forgetful, other)
        assert_equal(answers, expected)
        assert one.reads.count(0) == N_ROUNDS
        assert forgetful.counters[0].n_reloads == 0

    runner.run(scenario())


def test_an_answer_that_was_never_committed_leaves_no_trace(
    runner: asyncio.Runner, pool: ComputePool
) -> None:
    async def scenario() -> None:
        expected = await play(pool, "decided", GP)
        study, answers = RecordedStudy("undecided", GP), []
        for i in range(N_ROUNDS):
            await pool.suggest(study.log(), 3, time_left_s=None)
            answers.append(await run_round(pool, study, 1 + i % 2))
        assert_equal(answers, expected)

    runner.run(scenario())


def test_predictions_pass_near_what_was_measured(
    runner: asyncio.Runner, pool: ComputePool
) -> None:
    async def scenario() -> None:
        study = RecordedStudy("predicted", GP)
        for _ in range(N_ROUNDS):
            await run_round(pool, study)
        told = [log_pb2.LogEvent.FromString(each) for each in study.events]
        trials = {t.number: t for each in told for t in each.asked.trials}
        losses = {
            each.told.number: each.told.outcome.completed.metrics["loss"].value
            for each in told
            if each.HasField("told")
        }
        answer = await pool.predict(
            study.log(),
            [
                insight_service_pb2.Point(parameters=trials[number].parameters)
                for number in losses
            ],
        )
        assert answer.data_revision == study.revision
        for row, loss in zip(answer.rows, losses.values(), strict=True):
            interval = row.metrics["loss"]
            assert interval.sd > 0.0
            assert abs(interval.mean - loss) < 0.2
        found = await pool.recommend(study.log())
        assert found.number in losses
        assert found.reason

    runner.run(scenario())


def test_a_strategy_without_a_model_refuses_to_predict(
    runner: asyncio.Runner, pool: ComputePool
) -> None:
    async def scenario() -> None:
        study = RecordedStudy("no model", SobolSpec())
        await run_round(pool, study)
        with pytest.raises(UnsupportedError):
            await pool.predict(study.log(), [])

    runner.run(scenario())


def test_a_study_of_100000_trials_leaves_room_for_others() -> None:
    optimizer = Optimizer(PROBLEM)
    optimizer.fold([None] * 300_000)
    assert estimate_bytes(optimizer) < 1 << 30
