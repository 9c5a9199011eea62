import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bbopt.errors import ExhaustedError, PreconditionError, UnavailableError, UnsupportedError
from bbopt.space import ParamValue
from bbopt_server.compute import (
    ComputeFailedError,
    ComputePool,
    ComputeUnavailableError,
    Limits,
    Suggestions,
)
from tests.unit.compute.pools import FAKE, order, play, points, until
from tests.unit.compute.recorded import RecordedStudy, run_round
from tests.waiting import Clock, is_running


def undisturbed(orders: Path, n_rounds: int) -> list[list[Mapping[str, ParamValue]]]:
    """Return what a study whose process never dies is suggested."""
    found: list[Suggestions] = []

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        for _ in range(n_rounds):
            found.append(await run_round(pool, study, 2))

    play(orders, scenario)
    return [[each.parameters for each in answer.suggestions] for answer in found]


# Answers -----------------------------------------------------------------------------------


def test_suggestions_carry_the_revision_and_the_state(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        study.record(2)
        answer = await pool.suggest(study.log(), 3, time_left_s=None)
        assert len(answer.suggestions) == 3
        assert answer.revision == study.revision
        assert {s.provenance.data_revision for s in answer.suggestions} == {study.revision}
        assert answer.state is not None
        assert answer.state.scalars == {"n_asked": 3}
        assert not answer.space_exhausted
        assert answer.elapsed_s > 0.0

    play(tmp_path, scenario)


def test_only_events_that_the_process_has_not_seen_are_read(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        seen = []
        for _ in range(3):
            seen.append(study.revision)
            await run_round(pool, study)
        assert study.reads == [0, *seen[:2]]

    play(tmp_path, scenario)


def test_nothing_is_read_when_nothing_happened(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        first = await pool.suggest(study.log(), 1, time_left_s=None)
        second = await pool.suggest(study.log(), 1, time_left_s=None)
        assert study.reads == [0]
        assert first.suggestions[0].parameters == second.suggestions[0].parameters

    play(tmp_path, scenario)


def test_predictions_come_in_the_order_of_the_points(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        study.record(1)
        answer = await pool.predict(study.log(), points(0.2, 0.9, 0.4))
        assert [row.metrics["loss"].mean for row in answer.rows] == [0.2, 0.9, 0.4]
        assert [row.probability_feasible for row in answer.rows] == [0.75] * 3
        assert answer.data_revision == study.revision

    play(tmp_path, scenario)


def test_a_recommendation_names_a_trial_once_there_is_one(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        assert (await pool.recommend(study.log())).number is None
        study.record(2)
        assert (await pool.recommend(study.log())).number == 2

    play(tmp_path, scenario)


def test_the_time_left_reaches_the_strategy_less_the_waiting(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        slow, quick = RecordedStudy("slow"), RecordedStudy("quick", seed=2)
        _, answer = await asyncio.gather(
            pool.suggest(slow.log(), 1, time_left_s=None),
            pool.suggest(quick.log(), 1, time_left_s=20.0),
        )
        reason = answer.suggestions[0].provenance.reason
        left_s = float(reason.partition(": ")[2].partition(";")[0])
        assert 1.0 < left_s < 19.6

    play(tmp_path, scenario)


def test_what_is_loaded_is_left_out_of_garbage_collections(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        answer = await pool.suggest(RecordedStudy("study").log(), 1, time_left_s=None)
        assert "frozen: 0;" not in answer.suggestions[0].provenance.reason

    play(tmp_path, scenario)


def test_a_forgotten_study_is_read_from_the_start(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        await run_round(pool, study)
        pool.forget(study.uid)
        pool.forget("never seen")
        await run_round(pool, study)
        assert study.reads == [0, 0]

    play(tmp_path, scenario)


def test_a_study_stays_with_its_process(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        studies = [RecordedStudy(f"study {i}") for i in range(8)]
        pids: dict[str, set[str]] = {}
        for _ in range(2):
            for study in studies:
                answer = await pool.suggest(study.log(), 1, time_left_s=None)
                reason = answer.suggestions[0].provenance.reason
                pids.setdefault(study.uid, set()).add(reason.rpartition(" ")[2])
        assert {len(each) for each in pids.values()} == {1}
        assert len(set.union(*pids.values())) == 2

    play(tmp_path, scenario, n_processes=2)


# Refusals ----------------------------------------------------------------------------------


def test_what_a_strategy_refuses_arrives_as_its_own_error(tmp_path: Path) -> None:
    order(tmp_path, "refuse")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        with pytest.raises(UnsupportedError, match="cannot do this"):
            await pool.suggest(study.log(), 1, time_left_s=None)
        with pytest.raises(PreconditionError, match="no model"):
            await pool.predict(study.log(), points(0.5))
        assert (await run_round(pool, study)).suggestions
        assert pool.counters[0].n_lost_busy == 0

    play(tmp_path, scenario)


def test_a_bug_shows_a_reference_and_no_details(tmp_path: Path) -> None:
    order(tmp_path, "break")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        with pytest.raises(ComputeFailedError) as caught:
            await pool.suggest(study.log(), 1, time_left_s=None)
        assert "secret" not in str(caught.value)
        assert (await run_round(pool, study)).suggestions
        assert pool.counters[0].n_starts == 1

    play(tmp_path, scenario)


def test_an_error_of_the_store_reaches_the_caller(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")

        async def broken(_: int) -> list[bytes]:
            raise UnavailableError("disk full")

        log = replace(study.log(), events=broken)
        with pytest.raises(UnavailableError, match="disk full"):
            await pool.suggest(log, 1, time_left_s=None)
        assert (await run_round(pool, study)).suggestions

    play(tmp_path, scenario)


def test_a_full_queue_is_said_at_once(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        asks = [
            asyncio.create_task(pool.suggest(study.log(), 1, time_left_s=None))
            for _ in range(3)
        ]
        await until(lambda: study.reads == [0])
        asks += [
            asyncio.create_task(pool.suggest(study.log(), 1, time_left_s=None))
            for _ in range(2)
        ]
        answers = await asyncio.gather(*asks, return_exceptions=True)
        kinds = [type(each).__name__ for each in answers]
        assert kinds.count("ExhaustedError") == 1
        assert kinds.count("Suggestions") == 4
        assert isinstance(answers[-1], ExhaustedError)

    play(tmp_path, scenario, limits=Limits(n_waiting=3))


# Ahead -------------------------------------------------------------------------------------


def ahead(pool: ComputePool, study: RecordedStudy) -> "asyncio.Task[Suggestions]":
    """Compute what nobody has asked for yet."""
    job = pool.suggest(study.log(), 1, time_left_s=None, is_ahead=True)
    return asyncio.create_task(job)


def test_an_ask_goes_before_what_nobody_has_asked_for(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        busy = RecordedStudy("busy")
        studies = [RecordedStudy(name, seed=2) for name in ("early", "late", "asks")]
        running = asyncio.create_task(pool.suggest(busy.log(), 1, time_left_s=None))
        await until(lambda: busy.reads == [0])
        jobs = [ahead(pool, study) for study in studies[:2]]
        await asyncio.sleep(0)
        jobs += [asyncio.create_task(pool.suggest(studies[2].log(), 1, time_left_s=None))]
        await running
        await jobs[2]
        assert not studies[1].reads
        await asyncio.gather(*jobs)
        assert pool.counters[0].n_ahead == 2
        assert pool.counters[0].n_jobs == 4

    play(tmp_path, scenario)


def test_few_wait_that_nobody_has_asked_for(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        running = asyncio.create_task(pool.suggest(study.log(), 1, time_left_s=None))
        await until(lambda: study.reads == [0])
        jobs = [ahead(pool, study) for _ in range(3)]
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        assert [isinstance(each, ExhaustedError) for each in answers] == [False, False, True]
        assert (await running).suggestions

    play(tmp_path, scenario, limits=Limits(n_ahead=2))


def test_what_was_given_up_takes_no_place(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        running = asyncio.create_task(pool.suggest(study.log(), 1, time_left_s=None))
        await until(lambda: study.reads == [0])
        for _ in range(3):
            job = ahead(pool, study)
            await asyncio.sleep(0)
            job.cancel()
        last = ahead(pool, study)
        assert (await last).suggestions
        assert (await running).suggestions
        assert pool.counters[0].n_ahead == 1

    play(tmp_path, scenario, limits=Limits(n_ahead=1))


def test_what_nobody_has_asked_for_is_not_tried_again(tmp_path: Path) -> None:
    order(tmp_path, "crash")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        with pytest.raises(ComputeFailedError):
            await ahead(pool, study)
        assert (await run_round(pool, study)).suggestions
        assert pool.counters[0].n_lost_busy == 1

    play(tmp_path, scenario)


# Deaths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["crash", "spoil", "babble"])
def test_a_job_whose_process_is_lost_is_answered_by_the_next(tmp_path: Path, what: str) -> None:
    expected = undisturbed(tmp_path, 4)

    async def scenario(pool: ComputePool) -> None:
        study, found = RecordedStudy("study"), []
        for i in range(4):
            if i == 2:
                order(tmp_path, what)
            answer = await run_round(pool, study, 2)
            found.append([each.parameters for each in answer.suggestions])
        assert found == expected
        assert pool.counters[0].n_lost_busy == 1
        assert pool.counters[0].n_starts == 2

    play(tmp_path, scenario)


def test_a_process_killed_while_it_computes_is_replaced(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path, 1)

    async def scenario(pool: ComputePool) -> None:
        order(tmp_path, "hang")
        study = RecordedStudy("study")
        ask = asyncio.create_task(pool.suggest(study.log(), 2, time_left_s=None))
        await until(lambda: not any(tmp_path.iterdir()))
        assert pool.pids[0] is not None
        os.kill(pool.pids[0], signal.SIGKILL)
        assert [[each.parameters for each in (await ask).suggestions]] == expected

    play(tmp_path, scenario)


def test_a_process_that_hangs_is_killed(tmp_path: Path) -> None:
    order(tmp_path, "hang")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        await until(lambda: pool.is_ready)
        first = pool.pids[0]
        assert first is not None
        answer = await pool.suggest(study.log(), 1, time_left_s=0.05)
        assert answer.suggestions
        assert pool.pids[0] != first
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)

    play(tmp_path, scenario, limits=Limits(job_s=0.3))


def test_a_job_far_beyond_its_deadline_counts_as_hung() -> None:
    limits = Limits()
    assert limits.of_job(1.0) == 30.0
    assert limits.of_job(20.0) == 60.0
    assert limits.of_job(None) == 120.0
    assert limits.of_job(None, is_ahead=True) == 30.0


def test_a_job_that_loses_two_processes_fails(tmp_path: Path) -> None:
    order(tmp_path, "crash", times=2)

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        with pytest.raises(ComputeFailedError, match="twice in a row"):
            await pool.suggest(study.log(), 1, time_left_s=None)
        assert (await run_round(pool, study)).suggestions

    play(tmp_path, scenario)


def test_a_study_that_kills_three_times_is_set_aside_for_ten_minutes(tmp_path: Path) -> None:
    order(tmp_path, "crash", times=3)
    clock = Clock()

    async def scenario(pool: ComputePool) -> None:
        bad, good = RecordedStudy("bad"), RecordedStudy("good", seed=2)
        for message in ("twice in a row", "set aside", "set aside"):
            with pytest.raises(ComputeFailedError, match=message):
                await pool.suggest(bad.log(), 1, time_left_s=None)
        assert pool.set_aside_s("bad") == 600.0
        assert pool.set_aside_s("good") == 0.0
        assert pool.counters[0].n_lost_busy == 3
        assert (await run_round(pool, good)).suggestions
        clock.now_s += 601.0
        assert (await run_round(pool, bad)).suggestions
        assert pool.set_aside_s("bad") == 0.0

    play(tmp_path, scenario, clock=clock)


def test_a_study_that_is_set_aside_does_not_wait_behind_others(tmp_path: Path) -> None:
    order(tmp_path, "crash", times=3)

    async def scenario(pool: ComputePool) -> None:
        bad, good = RecordedStudy("bad"), RecordedStudy("good", seed=2)
        for _ in range(2):
            with pytest.raises(ComputeFailedError):
                await pool.suggest(bad.log(), 1, time_left_s=None)
        assert pool.set_aside_s("bad") == pytest.approx(600.0, abs=60.0)
        assert pool.set_aside_s("good") == 0.0
        await until(lambda: pool.is_ready)
        order(tmp_path, "hang", seed=2)
        hanging = asyncio.create_task(pool.suggest(good.log(), 1, time_left_s=None))
        await until(lambda: not any(tmp_path.iterdir()))
        with pytest.raises(ComputeFailedError, match="set aside"):
            await pool.suggest(bad.log(), 1, time_left_s=None)
        assert not hanging.done()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)

    play(tmp_path, scenario)


def test_a_process_lost_while_idle_is_replaced_and_nobody_blamed(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        await run_round(pool, study)
        first = pool.pids[0]
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: pool.is_ready and pool.pids[0] != first)
        assert pool.counters[0].n_lost_idle == 1
        assert pool.counters[0].n_lost_busy == 0
        await run_round(pool, study)
        assert study.reads == [0, 0]

    play(tmp_path, scenario)


def test_a_caller_that_gives_up_does_not_stop_the_job(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        await until(lambda: pool.is_ready)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await pool.suggest(study.log(), 1, time_left_s=0.1)
        assert (await run_round(pool, study)).suggestions
        assert study.reads == [0]  # The first job folded the log; nobody was killed.
        assert pool.counters[0].n_jobs == 2

    play(tmp_path, scenario)


def test_a_caller_that_gives_up_while_waiting_costs_nothing(tmp_path: Path) -> None:
    order(tmp_path, "sleep")

    async def scenario(pool: ComputePool) -> None:
        slow, other = RecordedStudy("slow"), RecordedStudy("other", seed=2)
        ask = asyncio.create_task(pool.suggest(slow.log(), 1, time_left_s=None))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await pool.suggest(other.log(), 1, time_left_s=0.1)
        await ask
        await pool.recommend(slow.log())
        assert other.reads == []

    play(tmp_path, scenario)


# Start and end -----------------------------------------------------------------------------


def test_a_pool_is_ready_once_its_process_said_hello(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        assert not pool.is_ready
        await until(lambda: pool.is_ready)

    play(tmp_path, scenario)


def test_missing_packages_are_said_once_and_for_all(tmp_path: Path) -> None:
    (tmp_path / "missing").touch()

    async def scenario(pool: ComputePool) -> None:
        for _ in range(2):
            with pytest.raises(ComputeUnavailableError, match=r"pip install 'bbopt\[server\]'"):
                await pool.suggest(RecordedStudy("study").log(), 1, time_left_s=None)
        assert not pool.is_ready

    play(tmp_path, scenario)


def test_a_process_that_does_not_start_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "stillborn").touch()

    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        with pytest.raises(ComputeUnavailableError, match="does not start"):
            await pool.suggest(study.log(), 1, time_left_s=None)
        (tmp_path / "stillborn").unlink()
        await until(lambda: pool.is_ready)
        assert (await run_round(pool, study)).suggestions

    play(tmp_path, scenario)


def test_a_program_that_is_not_there_is_unavailable() -> None:
    async def run() -> None:
        pool = ComputePool(command=["/nonexistent/python"])
        with pytest.raises(ComputeUnavailableError, match="cannot be started"):
            await pool.suggest(RecordedStudy("study").log(), 1, time_left_s=None)
        await pool.stop()

    asyncio.run(run())


def test_stopping_fails_what_runs_and_what_waits(tmp_path: Path) -> None:
    order(tmp_path, "hang")

    async def scenario(pool: ComputePool) -> None:
        studies = [RecordedStudy("a"), RecordedStudy("b", seed=2)]
        asks = [
            asyncio.create_task(pool.suggest(study.log(), 1, time_left_s=None))
            for study in studies
        ]
        await until(lambda: not any(tmp_path.iterdir()))
        pid = pool.pids[0]
        await pool.stop()
        for ask in asks:
            with pytest.raises(ComputeUnavailableError, match="stopping"):
                await ask
        with pytest.raises(ComputeUnavailableError, match="stopping"):
            await pool.suggest(studies[0].log(), 1, time_left_s=None)
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    play(tmp_path, scenario)


def test_interrupts_are_left_to_the_front(tmp_path: Path) -> None:
    async def scenario(pool: ComputePool) -> None:
        study = RecordedStudy("study")
        await run_round(pool, study)
        assert pool.pids[0] is not None
        assert os.getsid(pool.pids[0]) != os.getsid(0)
        for each in (signal.SIGINT, signal.SIGTERM):
            os.kill(pool.pids[0], each)
        await run_round(pool, study)
        assert pool.counters[0].n_starts == 1

    play(tmp_path, scenario)


PARENT = """
import asyncio, sys
from bbopt_server.compute import ComputePool
from tests.unit.compute.recorded import RecordedStudy

async def main():
    pool = ComputePool(command=[sys.executable, *sys.argv[1:3]])
    await pool.start()
    while not pool.is_ready:
        await asyncio.sleep(0.01)
    print(pool.pids[0], flush=True)
    await pool.suggest(RecordedStudy("study").log(), 1, time_left_s=None)

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["hang", "nothing"])
def test_no_process_outlives_a_parent_that_was_killed(tmp_path: Path, what: str) -> None:
    if what == "hang":
        order(tmp_path, "hang")

    async def run() -> None:
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PARENT, FAKE, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        child = int(await parent.stdout.readline())
        if what == "hang":
            await until(lambda: not any(tmp_path.iterdir()))
            parent.kill()
        await parent.wait()
        async with asyncio.timeout(5):
            await until(lambda: not is_running(child))

    asyncio.run(run())


def test_the_front_never_imports_torch(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from bbopt_server.compute import ComputePool\n"
        "from tests.unit.compute.recorded import RecordedStudy, run_round\n"
        "async def main():\n"
        "    pool = ComputePool(command=[sys.executable, *sys.argv[1:3]])\n"
        "    await run_round(pool, RecordedStudy('study'))\n"
        "    await pool.stop()\n"
        "asyncio.run(main())\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules\n"
    )

    async def run() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, FAKE, str(tmp_path)
        )
        return await process.wait()

    started = time.monotonic()
    assert asyncio.run(run()) == 0
    assert time.monotonic() - started < 20.0
