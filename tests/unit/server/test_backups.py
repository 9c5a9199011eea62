import asyncio
import logging
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bbopt.errors import InvalidError, UnavailableError
from bbopt_server.backups import BackupPlan, Backups
from bbopt_server.settings import parse
from bbopt_server.storage import SqliteStore
from bbopt_server.storage.sqlite_backup import InterruptedBackupError
from bbopt_server.storage.store import Transaction
from tests.contract.store_contract import event_row, study_row, trial_row
from tests.waiting import wait_until


def adding(number: int) -> Callable[[Transaction], None]:
    """Write a trial and its event: in any whole database there are as many of both."""

    def work(t: Transaction) -> None:
        t.insert_trial(trial_row(1, number)._replace(point=bytes(20_000)))
        t.append_event(event_row(1, number))

    return work


async def with_trials(path: Path, n: int = 1) -> SqliteStore:
    store = SqliteStore.open(str(path / "studies.db"))
    await store.transact(lambda t: t.insert_study(study_row()))
    for number in range(1, n + 1):
        await store.transact(adding(number))
    return store


def made(store: SqliteStore, folder: Path, *, n_kept: int = 24) -> Backups:
    backups = Backups(store, BackupPlan(folder, n_kept=n_kept), name="studies")
    backups.start()
    return backups


def read(path: Path) -> tuple[list[int], list[int]]:
    """Open a copy as a server does; return its trials and revisions."""

    async def scenario() -> tuple[list[int], list[int]]:
        store = SqliteStore.open(str(path))
        rows = await store.read(lambda t: t.trials(1, limit=10_000))
        events = await store.read(lambda t: t.events(1, limit=10_000))
        await store.close()
        return [row.number for row in rows], [row.revision for row in events]

    return asyncio.run(scenario())


def test_a_copy_made_while_results_come_in_is_whole_and_needs_no_log(tmp_path: Path) -> None:
    async def scenario() -> Path:
        store = await with_trials(tmp_path, 200)  # 4 MB.
        backups = made(store, tmp_path / "kept")
        copying = asyncio.create_task(asyncio.to_thread(backups.make))
        number = 200
        while not copying.done():
            number += 1
            await store.transact(adding(number))
        await backups.stop()
        await store.close()
        path = copying.result()
        assert path is not None
        return path

    path = asyncio.run(scenario())
    assert sorted(each.name for each in path.parent.iterdir()) == ["studies-000001.db"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    numbers, revisions = read(path)
    assert numbers == revisions == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 200
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_last_few_copies_stay_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    others = {"studies.db", "other-000001.db", "studies-000001.db.txt", "notes"}
    for name in others:
        (folder / name).touch()

    async def scenario() -> None:
        store = await with_trials(tmp_path)
        for number in range(2, 7):
            await store.transact(adding(number))
            backups = made(store, folder, n_kept=2)  # Each is of a server of its own.
            assert backups.make()
            await backups.stop()
        await store.close()

    asyncio.run(scenario())
    copies = {each.name for each in folder.iterdir()} - others
    assert copies == {"studies-000004.db", "studies-000005.db"}
    assert read(folder / "studies-000005.db")[0] == list(range(1, 7))


def test_nothing_is_copied_while_nothing_is_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_trials(tmp_path)
        backups = made(store, tmp_path)
        assert backups.make()
        await store.read(lambda t: t.trials(1))
        assert backups.make() is None
        await store.transact(adding(2))
        assert backups.make()
        await backups.stop()
        await store.close()

    asyncio.run(scenario())


def test_a_server_that_ends_does_not_wait_for_a_copy(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_trials(tmp_path, 20)
        backups = made(store, tmp_path / "kept")
        await backups.stop()
        assert backups.make() is None
        is_over = threading.Event()
        is_over.set()
        with pytest.raises(InterruptedBackupError):
            store.back_up(tmp_path / "part", is_over=is_over)
        await store.transact(adding(21))
        await store.close()

    asyncio.run(scenario())
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_copy_that_fails_is_logged_and_the_next_one_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "kept"

    async def scenario() -> None:
        store = await with_trials(tmp_path)
        backups = made(store, folder)
        folder.rmdir()
        with caplog.at_level(logging.ERROR):
            assert backups.make() is None
        folder.mkdir()
        assert backups.make()
        await backups.stop()
        await store.close()

    asyncio.run(scenario())
    assert "no backup in" in caplog.text


def test_what_a_broken_off_copy_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".studies.part").write_bytes(b"half")
    (tmp_path / ".studies.part-wal").write_bytes(b"a log")

    async def scenario() -> None:
        store = await with_trials(tmp_path)
        backups = made(store, tmp_path)
        assert not list(tmp_path.glob(".studies.part*"))
        await backups.stop()
        await store.close()

    asyncio.run(scenario())


def test_copies_are_made_from_time_to_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await with_trials(tmp_path)
        backups = Backups(store, BackupPlan(tmp_path / "kept", every_s=0.01), name="studies")
        backups.start()
        for number in (1, 2):
            path = tmp_path / "kept" / f"studies-{number:06d}.db"
            await asyncio.to_thread(wait_until, path.exists)
            await store.transact(adding(number + 1))
        await backups.stop()
        await store.close()

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_had_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def scenario() -> None:
        store = await with_trials(tmp_path)
        for folder in (tmp_path / "file", tmp_path / "no" / "such"):
            with pytest.raises(UnavailableError, match="no backups in"):
                made(store, folder)
        await store.close()

    asyncio.run(scenario())


def test_backups_are_off_until_a_folder_is_named() -> None:
    assert parse([], {}).backups is None
    given = ["--backups", "kept", "--backup-every", "60", "--backups-kept", "3"]
    assert parse(given, {}).backups == BackupPlan(Path("kept"), 60.0, 3)


@pytest.mark.parametrize(
    "given",
    [
        ["--db", ":memory:", "--backups", "kept"],
        ["--backup-every", "0"],
        ["--backups-kept", "0"],
    ],
)
def test_settings_of_backups_that_make_no_sense_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidError, match="backup"):
        parse(given, {})
