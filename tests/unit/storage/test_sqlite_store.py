import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bbopt.errors import DataLossError, UnavailableError
from bbopt_server.storage import sqlite_batch
from bbopt_server.storage.schema import load_migrations
from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.sqlite_connection import connect
from bbopt_server.storage.store import Transaction
from tests.contract.store_contract import event_row, study_row, trial_row


class Points:
    """Counts the points that a store passes, and fails at one when told to."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failure: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, point: str) -> None:
        self.passed.append(point)
        if point == "before_commit":
            assert self.gate.wait(timeout=30)
            if self.failure is not None:
                raise self.failure


def disk_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def adding(number: int) -> Callable[[Transaction], int]:
    def work(t: Transaction) -> int:
        t.insert_trial(trial_row(1, number))
        return number

    return work


def numbers(t: Transaction) -> list[int]:
    return [row.number for row in t.trials(1, limit=1000)]


async def with_study(path: Path, points: Points) -> SqliteStore:
    store = SqliteStore.open(str(path / "studies.db"), on_point=points)
    await store.transact(lambda t: t.insert_study(study_row()))
    return store


def test_works_beside_one_that_is_undone_are_run_again_at_most_once(tmp_path: Path) -> None:
    n_calls = dict.fromkeys(range(1, 13), 0)

    def counted(number: int) -> Callable[[Transaction], int]:
        def work(t: Transaction) -> int:
            n_calls[number] += 1
            if number % 4 == 1:
                raise LookupError("before it wrote")
            t.insert_trial(trial_row(1, number))
            if number % 4 == 0:
                raise LookupError("after it wrote")
            return number

        return work

    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.passed.clear()
        jobs = [store.transact(counted(number)) for number in n_calls]
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        good = [number for number in n_calls if number % 4 in (2, 3)]
        assert [each for each in answers if not isinstance(each, LookupError)] == good
        assert await store.read(numbers) == good
        if points.passed.count("before_commit") == 1:  # A slow machine may end a batch early.
            assert n_calls == {number: 1 + (number in (2, 3)) for number in n_calls}
        await store.close()

    asyncio.run(scenario())


def test_work_that_waits_for_a_commit_shares_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.gate.clear()
        first = asyncio.ensure_future(store.transact(adding(1)))
        while points.passed[-1] != "before_commit":
            await asyncio.sleep(0.001)
        n_before = points.passed.count("before_commit")
        others = [asyncio.ensure_future(store.transact(adding(n))) for n in range(2, 12)]
        await asyncio.sleep(0)
        points.gate.set()
        assert await asyncio.gather(first, *others) == list(range(1, 12))
        # Ten works need far fewer than ten commits; a slow machine may end a batch early.
        assert points.passed.count("before_commit") - n_before < 10
        await store.close()

    asyncio.run(scenario())


def test_nobody_is_told_before_the_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.gate.clear()
        job = asyncio.ensure_future(store.transact(adding(1)))
        while points.passed[-1] != "before_commit":
            await asyncio.sleep(0.001)
        assert not job.done()
        points.gate.set()
        assert await job == 1
        await store.close()

    asyncio.run(scenario())


def test_a_failed_commit_fails_the_whole_batch_and_leaves_no_trace(tmp_path: Path) -> None:
    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.failure = disk_error(sqlite3.SQLITE_FULL)
        jobs = [store.transact(adding(number)) for number in range(1, 9)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(each) for each in results] == [UnavailableError] * 8
        points.failure = None
        assert await store.read(numbers) == []
        assert store.failure is None
        assert await store.transact(adding(1)) == 1
        await store.close()

    asyncio.run(scenario())


def test_after_a_failed_sync_no_more_work_is_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.failure = disk_error(sqlite3.SQLITE_IOERR_FSYNC)
        with pytest.raises(UnavailableError):
            await store.transact(adding(1))
        points.failure = None
        for _ in range(2):
            with pytest.raises(UnavailableError, match="stopped"):
                await store.transact(adding(2))
            with pytest.raises(UnavailableError, match="stopped"):
                await store.read(numbers)
        assert store.failure is not None
        assert "disk" in store.failure
        await store.close()

    asyncio.run(scenario())


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "studies.db")
        connection = connect(path, load_migrations("sqlite"))
        (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {n_pages + 8}")
        store = SqliteStore(connection, path=path, on_point=lambda _: None)
        await store.transact(lambda t: t.insert_study(study_row()))

        def too_much(t: Transaction) -> None:
            t.append_event(event_row(1, 1, payload=bytes(100_000)))

        jobs = [store.transact(adding(1)), store.transact(too_much), store.transact(adding(2))]
        first, second, third = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(second, UnavailableError)
        kept = [each for each in (first, third) if not isinstance(each, BaseException)]
        assert await store.read(numbers) == kept
        assert await store.transact(adding(3)) == 3
        await store.close()

    asyncio.run(scenario())


def test_a_cancelled_caller_disturbs_nobody_and_what_had_not_begun_is_not_done(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.gate.clear()
        running = asyncio.ensure_future(store.transact(adding(100)))
        while points.passed[-1] != "before_commit":
            await asyncio.sleep(0.001)
        jobs = [asyncio.ensure_future(store.transact(adding(n))) for n in range(1, 21)]
        await asyncio.sleep(0)
        for job in (running, *jobs[::2]):
            job.cancel()
        points.gate.set()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        for number, result in enumerate(results, 1):
            cancelled = isinstance(result, asyncio.CancelledError)
            assert cancelled if number % 2 else result == number
        # The one that was in the middle of its commit is kept all the same.
        assert await store.read(numbers) == [*range(2, 21, 2), 100]
        await store.close()

    asyncio.run(scenario())


def test_a_study_whose_change_was_undone_reads_as_before(tmp_path: Path) -> None:
    def change(t: Transaction) -> None:
        t.update_study(study_row()._replace(key=1, revision=9, n_trials=9))

    def change_and_fail(t: Transaction) -> None:
        change(t)
        raise ValueError

    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        before = await store.read(lambda t: t.study_by_key(1))
        for n_others in (0, 1):  # The first of a transaction, and one of several.
            others = [store.transact(adding(n)) for n in range(1, n_others + 1)]
            jobs = [*others, store.transact(change_and_fail)]
            *_, failed = await asyncio.gather(*jobs, return_exceptions=True)
            assert isinstance(failed, ValueError)
            assert await store.read(lambda t: t.study_by_key(1)) == before
        points.failure = disk_error(sqlite3.SQLITE_FULL)
        with pytest.raises(UnavailableError):
            await store.transact(change)
        points.failure = None
        assert await store.read(lambda t: t.study_by_key(1)) == before
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_quick", [False, True])
def test_a_lone_callers_commits_are_the_threads_unless_the_disk_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_quick: bool
) -> None:
    monkeypatch.setattr(sqlite_batch, "_QUICK_S", float("inf") if is_quick else 0.0)
    path = str(tmp_path / "studies.db")
    connection = connect(path, load_migrations("sqlite"))
    of_thread: list[bool] = []

    def note(statement: str) -> None:
        if statement == "COMMIT":
            of_thread.append(threading.current_thread().name == "bbopt-store")

    connection.set_trace_callback(note)

    async def scenario() -> None:
        store = SqliteStore(connection, path=path, checkpoint_writes=40)
        await store.transact(lambda t: t.insert_study(study_row()))
        for number in range(1, 100):
            await store.transact(adding(number))
        n_alone = len(of_thread)
        assert all(of_thread[:8])
        assert any(of_thread[8:])  # Somebody has to checkpoint.
        assert all(of_thread) is not is_quick
        jobs = [store.transact(adding(number)) for number in range(100, 110)]
        await asyncio.gather(*jobs)
        assert of_thread[n_alone:] == [True]  # Others wait: their works go on meanwhile.
        await store.close()
        reopened = SqliteStore.open(path)
        assert await reopened.read(numbers) == list(range(1, 110))
        await reopened.close()

    asyncio.run(scenario())


def test_callers_do_not_wait_until_the_log_is_written_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "studies.db")
    connection = connect(path, load_migrations("sqlite"))
    is_answered = threading.Event()
    checkpoint, found = sqlite_batch.Batches.checkpoint, []

    def wait_for_the_answer(batches: sqlite_batch.Batches) -> None:
        found.append(is_answered.wait(10.0))
        checkpoint(batches)

    monkeypatch.setattr(sqlite_batch.Batches, "checkpoint", wait_for_the_answer)

    async def scenario() -> None:
        store = SqliteStore(connection, path=path, checkpoint_writes=1)
        await store.transact(lambda t: t.insert_study(study_row()))
        is_answered.set()
        await store.transact(adding(1))
        assert await store.read(numbers) == [1]
        await store.close()

    asyncio.run(scenario())
    assert found[0]
    assert len(found) == 2


def test_the_log_has_its_blocks_before_it_needs_them(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    log, copied = tmp_path / "studies.db-wal", tmp_path / "copy"
    copied.mkdir()

    async def scenario() -> None:
        store = SqliteStore.open(str(path))
        n_bytes = log.stat().st_size
        await store.transact(lambda t: t.insert_study(study_row()))
        for number in range(1, 100):
            await store.transact(adding(number))
        assert log.stat().st_size == n_bytes
        for each in (path, log):  # As a kill leaves them: the log ends with zeros.
            (copied / each.name).write_bytes(each.read_bytes())
        await store.close()
        assert not log.exists()
        reopened = SqliteStore.open(str(copied / path.name))
        assert await reopened.read(numbers) == list(range(1, 100))
        await reopened.transact(adding(100))
        await reopened.close()

    asyncio.run(scenario())


def test_a_file_is_refused_without_the_log_that_its_server_had(tmp_path: Path) -> None:
    path, alone, ended = (tmp_path / name for name in ("studies.db", "alone.db", "ended.db"))

    async def scenario() -> None:
        store = SqliteStore.open(str(path))
        await store.transact(lambda t: t.insert_study(study_row()))
        await store.transact(adding(1))
        alone.write_bytes(path.read_bytes())
        await store.close()
        ended.write_bytes(path.read_bytes())
        with pytest.raises(DataLossError, match=r"its log alone\.db-wal is not beside it"):
            SqliteStore.open(str(alone))
        reopened = SqliteStore.open(str(ended))
        assert await reopened.read(numbers) == [1]
        await reopened.close()

    asyncio.run(scenario())


def test_nothing_is_read_for_who_has_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_study(tmp_path, Points())
        n_read = 0

        def count(_: Transaction) -> None:
            nonlocal n_read
            n_read += 1

        left = asyncio.ensure_future(store.read(count, is_long=True))
        await asyncio.sleep(0)
        left.cancel()
        await store.read(count, is_long=True)
        assert n_read == 1
        await store.close()

    asyncio.run(scenario())


def test_a_loop_that_ended_disturbs_nobody(tmp_path: Path) -> None:
    points = Points()
    store = asyncio.run(with_study(tmp_path, points))
    points.gate.clear()

    async def leave() -> None:
        asyncio.ensure_future(store.transact(adding(1))).cancel()
        job = asyncio.ensure_future(store.transact(adding(2)))
        await asyncio.sleep(0.01)
        job.cancel()

    asyncio.run(leave())
    points.gate.set()

    async def go_on() -> int:
        return await store.transact(adding(3))

    assert asyncio.run(go_on()) == 3
    asyncio.run(store.close())


def test_what_is_long_is_done_on_the_thread_with_what_came_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_study(tmp_path, Points())
        ran_on: dict[int, str] = {}

        def noting(number: int) -> Callable[[Transaction], int]:
            def work(t: Transaction) -> int:
                ran_on[number] = threading.current_thread().name
                return adding(number)(t)

            return work

        here = threading.current_thread().name
        await asyncio.gather(
            store.transact(noting(1)),
            store.transact(noting(2), is_long=True),
            store.transact(noting(3)),
        )
        assert ran_on == {1: here, 2: "bbopt-store", 3: "bbopt-store"}
        both = [store.read(numbers), store.read(numbers, is_long=True)]
        assert await asyncio.gather(*both) == [[1, 2, 3]] * 2
        await store.close()

    asyncio.run(scenario())


def test_a_long_work_does_not_stop_the_loop(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_study(tmp_path, Points())
        has_passed = threading.Event()

        def work(t: Transaction) -> bool:
            t.insert_trial(trial_row(1, 1))
            return has_passed.wait(timeout=30)

        job = asyncio.ensure_future(store.transact(work, is_long=True))
        await asyncio.sleep(0.01)
        has_passed.set()
        assert await job
        await store.close()

    asyncio.run(scenario())


def test_works_that_take_too_long_together_go_on_on_the_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_study(tmp_path, Points())
        ran_on: list[str] = []

        def slow(number: int) -> Callable[[Transaction], int]:
            def work(t: Transaction) -> int:
                ran_on.append(threading.current_thread().name)
                time.sleep(0.005)
                return adding(number)(t)

            return work

        jobs = [store.transact(slow(number)) for number in range(1, 5)]
        assert await asyncio.gather(*jobs) == [1, 2, 3, 4]
        assert ran_on[0] == threading.current_thread().name
        assert ran_on[1] == "bbopt-store"
        assert await store.read(numbers) == [1, 2, 3, 4]
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error", [StopIteration(), KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()]
)
def test_no_exception_of_a_work_ends_the_store(tmp_path: Path, error: BaseException) -> None:
    def work(_: Transaction) -> None:
        raise error

    async def scenario() -> None:
        store = await with_study(tmp_path, Points())
        with pytest.raises(RuntimeError, match=type(error).__name__):
            await store.transact(work)
        assert await store.transact(adding(1)) == 1
        await store.close()

    asyncio.run(scenario())


def test_a_bug_at_a_point_fails_the_batch_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        points = Points()
        store = await with_study(tmp_path, points)
        points.failure = SystemExit()
        with pytest.raises(UnavailableError):
            await store.transact(adding(1))
        points.failure = None
        assert await store.transact(adding(1)) == 1
        await store.close()

    asyncio.run(scenario())


def test_closing_writes_everything_into_one_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_study(tmp_path, Points())
        await store.transact(adding(1))
        await store.close()

    asyncio.run(scenario())
    assert [each.name for each in tmp_path.iterdir()] == ["studies.db"]
    connection = sqlite3.connect(tmp_path / "studies.db")
    assert connection.execute("SELECT number FROM trial").fetchall() == [(1,)]
    connection.close()


def test_what_was_kept_is_there_after_reopening(tmp_path: Path) -> None:
    async def first() -> None:
        store = await with_study(tmp_path, Points())
        await asyncio.gather(*(store.transact(adding(number)) for number in range(1, 30)))
        await store.close()

    async def second() -> list[int]:
        store = SqliteStore.open(str(tmp_path / "studies.db"))
        found = await store.read(numbers)
        await store.close()
        return found

    asyncio.run(first())
    assert asyncio.run(second()) == list(range(1, 30))


CHILD = """
import asyncio, sys
from bbopt_server.storage.sqlite import SqliteStore
from tests.contract.store_contract import event_row, study_row, trial_row

async def caller(store, first):
    for number in range(first, 10**6, 4):
        def work(t):
            t.insert_trial(trial_row(1, number))
            t.append_event(event_row(1, number, payload=bytes(900)))
        await store.transact(work)
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()

async def main():
    store = SqliteStore.open(sys.argv[1])
    await store.transact(lambda t: t.insert_study(study_row()))
    await asyncio.gather(*(caller(store, first) for first in (1, 2, 3, 4)))

asyncio.run(main())
"""


@pytest.mark.parametrize("n_lines", [1, 250])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, n_lines: int) -> None:
    path = tmp_path / "studies.db"
    root = Path(__file__).parents[3]
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and script.
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(n_lines)]
    child.kill()
    acknowledged += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    # The last line may have been cut by the kill; what ends in a newline was said whole.
    told = {int(line) for line in acknowledged if line.endswith("\n")}

    async def look() -> tuple[list[int], list[int]]:
        store = SqliteStore.open(str(path))
        trials = await store.read(lambda t: [row.number for row in t.trials(1, limit=10**6)])
        events = await store.read(lambda t: [row.revision for row in t.events(1, limit=10**6)])
        await store.close()
        return trials, events

    trials, events = asyncio.run(look())
    assert len(told) >= n_lines
    assert told <= {*trials}
    assert trials == events
