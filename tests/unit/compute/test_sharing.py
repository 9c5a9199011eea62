"""Studies that share compute: nobody is held up by what another asks for."""

import asyncio
from pathlib import Path

import pytest

from bbopt.errors import ExhaustedError
from bbopt.specs import GPSpec, StrategySpec
from bbopt_server.compute import ComputePool, Limits, Suggestions
from tests.unit.compute.pools import Scenario, order, play, points, until
from tests.unit.compute.recorded import RecordedStudy, run_round


def large_study(strategy: StrategySpec | None = None, *, seed: int = 1) -> RecordedStudy:
    study = RecordedStudy("large", strategy or GPSpec(), seed=seed)
    study.record(10)
    return study


def pid_of(answer: Suggestions) -> int:
    return int(answer.suggestions[0].provenance.reason.rpartition(" ")[2])


def test_many_jobs_of_one_study_do_not_hold_up_another(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        greedy, modest = RecordedStudy("greedy"), RecordedStudy("modest", seed=2)
        greedy.record(1)
        ended: list[str] = []

        async def predict(name: str) -> None:
            await pool.predict(greedy.log(), points(0.5))
            ended.append(name)

        running = asyncio.create_task(pool.suggest(greedy.log(), 1, time_left_s=None))
        await until(lambda: greedy.reads == [0])
        jobs = [asyncio.create_task(predict(f"greedy {i}")) for i in range(3)]
        await asyncio.sleep(0)
        await pool.suggest(modest.log(), 1, time_left_s=None)
        ended.append("modest")
        await asyncio.gather(running, *jobs)
        assert ended == ["greedy 0", "modest", "greedy 1", "greedy 2"]

    play(tmp_path, scenario)


def test_a_study_may_fill_only_its_part_of_the_queue(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        greedy, modest = RecordedStudy("greedy"), RecordedStudy("modest", seed=2)
        greedy.record(1)
        running = asyncio.create_task(pool.suggest(greedy.log(), 1, time_left_s=None))
        await until(lambda: greedy.reads == [0])
        jobs = [asyncio.create_task(pool.predict(greedy.log(), points(0.5))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ExhaustedError, match="of this study"):
            await pool.predict(greedy.log(), points(0.5))
        assert (await pool.suggest(modest.log(), 1, time_left_s=None)).suggestions
        await asyncio.gather(running, *jobs)

    play(tmp_path, scenario, limits=Limits(n_of_study=3))


def test_a_study_that_is_deleted_while_it_waits_leaves_nothing_behind(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        busy, gone = RecordedStudy("busy"), RecordedStudy("gone", seed=2)
        running = asyncio.create_task(pool.suggest(busy.log(), 1, time_left_s=None))
        await until(lambda: busy.reads == [0])
        waiting = asyncio.create_task(pool.suggest(gone.log(), 1, time_left_s=None))
        await asyncio.sleep(0)
        pool.forget(gone.uid)
        assert (await waiting).suggestions
        await running
        await pool.suggest(gone.log(), 1, time_left_s=None)
        assert gone.reads == [0, 0]

    play(tmp_path, scenario)


def test_a_study_that_is_deleted_while_it_is_computed_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        running = asyncio.create_task(pool.suggest(study.log(), 1, time_left_s=None))
        await until(lambda: study.reads == [0])
        pool.forget(study.uid)
        await running
        await pool.suggest(study.log(), 1, time_left_s=None)
        assert study.reads == [0, 0]

    play(tmp_path, scenario)


# Large studies -----------------------------------------------------------------------------


def test_a_large_study_does_not_hold_up_small_ones(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        large, small = large_study(), RecordedStudy("small", seed=2)
        first = await run_round(pool, small)
        await run_round(pool, large)
        order(tmp_path, "hang")
        hanging = asyncio.create_task(run_round(pool, large))
        await until(lambda: len(large.reads) == 2)
        for _ in range(3):
            assert pid_of(await run_round(pool, small)) == pid_of(first)
        hanging.cancel()
        assert len(pool.pids) == 2

    play(tmp_path, scenario, large_from=20)


def test_a_large_study_alone_needs_no_process_of_its_own(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        large = large_study()
        pids = {pid_of(await run_round(pool, large)) for _ in range(3)}
        assert pids == set(pool.pids)
        assert len(pool.pids) == 1

    play(tmp_path, scenario, large_from=20)


def test_a_large_study_without_a_model_stays_where_it_is(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        sobol, small = RecordedStudy("sobol"), RecordedStudy("small", seed=2)
        sobol.record(10)
        await run_round(pool, small)
        await run_round(pool, sobol)
        assert len(pool.pids) == 1

    play(tmp_path, scenario, large_from=20)


def test_a_study_that_moves_goes_on_as_if_nothing_happened(tmp_path: Path) -> None:
    answers: dict[bool, list[Suggestions]] = {False: [], True: []}

    def scenario_with(is_shared: bool) -> Scenario:
        async def scenario(pool: ComputePool) -> None:
            study, small = RecordedStudy("grows", GPSpec()), RecordedStudy("small", seed=2)
            for _ in range(8):
                if is_shared:
                    await run_round(pool, small)
                answers[is_shared].append(await run_round(pool, study))
                if len(pool.pids) == 2:
                    await until(lambda: pool.pids[1] is not None)
            pids = {pid_of(each) for each in answers[is_shared]}
            assert len(pids) == len(pool.pids) == 1 + is_shared

        return scenario

    for is_shared in (False, True):
        play(tmp_path, scenario_with(is_shared), large_from=10)
    alone, shared = (
        [(each.suggestions[0].parameters, each.state) for each in answers[is_shared]]
        for is_shared in (False, True)
    )
    assert alone == shared


def test_a_moved_study_is_forgotten_by_both_processes(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        large, small = large_study(), RecordedStudy("small", seed=2)
        await run_round(pool, small)
        await run_round(pool, large)
        pool.forget(large.uid)
        await run_round(pool, small)
        await run_round(pool, large)
        assert large.reads == [0, 0]

    play(tmp_path, scenario, large_from=20)
