import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bbopt.errors import DataLossError, PreconditionError, UnavailableError
from bbopt_server.storage import MemoryStore, SqliteStore, open_store
from bbopt_server.storage.schema import Migration, load_migrations, migrate
from bbopt_server.storage.sqlite_connection import APPLICATION_ID, connect
from bbopt_server.storage.store import (
    EventRow,
    MeasurementRow,
    ResponseRow,
    StudyRow,
    TrialRow,
)
from tests.contract.store_contract import study_row

MIGRATIONS = load_migrations("sqlite")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def created(path: Path) -> Path:
    """A database that was created and closed."""
    connect(str(path), MIGRATIONS).close()
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    opened = connect(str(path), MIGRATIONS)
    yield opened
    opened.close()


def test_a_file_or_a_folder_that_may_not_be_written_is_named(
    created: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in (created, created.parent):

        def may(path: object, _mode: int, needed: Path = needed) -> bool:
            return str(path) != str(needed)

        monkeypatch.setattr("os.access", may)  # Root may write anything.
        with pytest.raises(UnavailableError, match=f"may not write {needed} "):
            connect(str(created), MIGRATIONS)


@pytest.mark.parametrize(("name", "fault"), [("", "must have a name"), (".", "is a folder")])
def test_what_is_no_file_is_no_database(name: str, fault: str) -> None:
    with pytest.raises(PreconditionError, match=fault):
        connect(name, MIGRATIONS)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("locking_mode", "exclusive"),
        ("foreign_keys", 1),
        ("cell_size_check", 1),
        ("trusted_schema", 0),
        ("mmap_size", 0),
        ("application_id", APPLICATION_ID),
    ],
)
def test_the_settings_that_durability_needs_are_in_force(
    connection: sqlite3.Connection, pragma: str, value: object
) -> None:
    row = connection.execute(f"PRAGMA {pragma}").fetchone()
    assert row[0] == value


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("study", StudyRow),
        ("trial", TrialRow),
        ("event", EventRow),
        ("measurement", MeasurementRow),
        ("response", ResponseRow),
    ],
)
def test_columns_mirror_the_rows(
    connection: sqlite3.Connection, table: str, row: type[StudyRow]
) -> None:
    columns = [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
    assert columns == list(row._fields)


def test_a_new_file_is_for_its_owner_only(created: Path) -> None:
    assert stat.S_IMODE(created.stat().st_mode) == 0o600


def test_opening_again_applies_nothing(created: Path) -> None:
    connection = connect(str(created), MIGRATIONS)
    rows = connection.execute("SELECT version, name, sha256 FROM schema_version").fetchall()
    connection.close()
    assert rows == [(each.version, each.name, each.sha256) for each in MIGRATIONS]


def test_a_second_server_is_told_which_file_is_in_use(path: Path) -> None:
    connection = connect(str(path), MIGRATIONS)
    with pytest.raises(UnavailableError, match=r"studies\.db is in use by another server"):
        connect(str(path), MIGRATIONS)
    connection.execute("SELECT count(*) FROM study")
    connection.close()
    connect(str(path), MIGRATIONS).close()


def test_the_database_of_another_application_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA application_id = 42")
    other.execute("CREATE TABLE t (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(PreconditionError, match="another application"):
        connect(str(path), MIGRATIONS)
    assert path.read_bytes() == before


def test_a_database_without_a_name_tag_is_refused_if_it_holds_anything(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(PreconditionError, match="another application"):
        connect(str(path), MIGRATIONS)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"name: study\n" * 1000)
    with pytest.raises(PreconditionError, match="is not a database"):
        connect(str(path), MIGRATIONS)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="nowhere"):
        connect(str(tmp_path / "nowhere" / "s.db"), MIGRATIONS)


def test_a_newer_schema_is_refused(created: Path) -> None:
    with pytest.raises(PreconditionError, match="newer version"):
        connect(str(created), MIGRATIONS[:-1])


def test_a_migration_that_changed_after_it_was_applied_is_refused(created: Path) -> None:
    edited = Migration(1, "initial", MIGRATIONS[0].sql + "\n-- edited")
    with pytest.raises(DataLossError, match="migration 1"):
        connect(str(created), [edited, *MIGRATIONS[1:]])


def test_a_later_migration_is_applied_to_an_older_file(created: Path) -> None:
    version = len(MIGRATIONS) + 1
    later = Migration(version, "later", "ALTER TABLE study ADD COLUMN extra TEXT;")
    for _ in range(2):
        connection = connect(str(created), [*MIGRATIONS, later])
        (n_applied,) = connection.execute("SELECT count(*) FROM schema_version").fetchone()
        connection.close()
        assert n_applied == version


def test_a_file_of_the_first_schema_keeps_what_is_in_it(path: Path) -> None:
    old = connect(str(path), MIGRATIONS[:1])
    insert = "INSERT INTO response VALUES ('p', 'm', ?, x'', x'', ?)"
    old.executemany(insert, [("first", 2.0), ("second", 1.0)])
    old.close()
    connection = connect(str(path), MIGRATIONS)
    kept = connection.execute("SELECT request_id FROM response ORDER BY rowid").fetchall()
    connection.close()
    assert kept == [("first",), ("second",)]


def test_a_migration_that_fails_leaves_nothing_behind(created: Path) -> None:
    sql = "CREATE TABLE half (x); CREATE TABLE study (x);"
    connection = connect(str(created), MIGRATIONS)
    broken = Migration(len(MIGRATIONS) + 1, "broken", sql)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, [*MIGRATIONS, broken], path=str(created))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    connection.close()
    assert "half" not in tables


def test_a_damaged_file_is_refused(path: Path) -> None:
    store = SqliteStore.open(str(path))

    async def fill() -> None:
        for number in range(50):
            row = study_row(f"s{number}", spec=bytes(2000))
            await store.transact(lambda t, row=row: t.insert_study(row))  # type: ignore[misc]
        await store.close()

    asyncio.run(fill())
    data = bytearray(path.read_bytes())
    page = 4096
    for begin in range(page, len(data), page):
        data[begin : begin + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(DataLossError, match="damaged"):
        connect(str(path), MIGRATIONS)


def test_a_store_is_named_by_its_file_or_memory(path: Path) -> None:
    stores = [open_store(":memory:"), open_store(str(path))]
    assert [type(each) for each in stores] == [MemoryStore, SqliteStore]
    for each in stores:
        asyncio.run(each.close())
    assert path.exists()
