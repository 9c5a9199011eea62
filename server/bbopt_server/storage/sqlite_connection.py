"""Opening a SQLite file: the settings that durability stands on, and what is refused.

One connection both writes and checkpoints, and holds the file exclusively. SQLite before
3.51.3 may lose commits when a second connection checkpoints at the same instant, so nothing
else may open the file while it is served. POSIX locks are per process: even opening and
closing the file a second time *in this process* would release them.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from bbopt.errors import DataLossError, PreconditionError, UnavailableError
from bbopt_server.crash_points import reach
from bbopt_server.storage.schema import Migration, migrate

APPLICATION_ID = int.from_bytes(b"bbop", "big")
"""Tells a database of ours from any other SQLite file."""

_SERVED = 1
"""Version in the header of a file whose server has not ended: what is new is in its log."""
_LOG_BYTES = 1500 * (4096 + 24)
"""About as long as the log gets before it is written back: pages with their headers."""
_CHECK_LIMIT_S = 10.0
_CHECK_PERIOD = 100_000  # Virtual machine instructions between two looks at the clock.
_SYNCHRONOUS_FULL = 2
_log = logging.getLogger(__name__)

OpenFile: TypeAlias = Callable[[str], sqlite3.Connection]
"""Opens or creates a file without reading it, in autocommit mode and for any thread."""


def open_private(path: str) -> sqlite3.Connection:
    """Open a file on the disk, or create one that only its owner may read."""
    create_private(path)
    return sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)


def connect(
    path: str,
    migrations: Sequence[Migration],
    *,
    open_file: OpenFile = open_private,
    serves: bool = False,
) -> sqlite3.Connection:
    """Open a database file and make it ready: ours alone, durable, sound, up to date.

    Args:
        path: The file; its folder must exist.
        migrations: The schema that this version works with.
        open_file: For tests of faults: opens the file on a disk that fails.
        serves: Note in the file that it is of no use without its log, until ``write_back``.

    Returns:
        A connection in autocommit mode that may be handed to another thread.

    Raises:
        UnavailableError: Another process has the file, it cannot be opened, or the settings
            that durability needs cannot be had.
        PreconditionError: It is the file of another application or of a newer version.
        DataLossError: It is damaged, or lacks its log.
    """
    _check_writable(path)
    has_log = os.path.exists(f"{os.path.realpath(path)}-wal")  # Before SQLite makes one.
    try:
        connection = open_file(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise UnavailableError(f"{path} cannot be opened: {error}") from error
    try:
        _claim(connection, path)
        if not has_log and _is_served(connection):
            raise DataLossError(
                f"{path} was not closed by its server, and its log "
                f"{os.path.basename(path)}-wal is not beside it: the last results may be "
                "missing. Put the log there, or have the file served as it is by setting its "
                "user_version to 0 (see Backups in docs/cli.md)"
            )
        _set_up(connection, path)
        _check(connection, path)
        reach("open.before_migrating")
        migrate(connection, migrations, path=path)
        if serves:
            _mark_served(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _explained(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check_writable(path: str) -> None:
    """Say plainly what SQLite calls an I/O error."""
    if not path:
        raise PreconditionError("a database must have a name")
    if os.path.isdir(path):
        raise PreconditionError(f"{path} is a folder: name the file in it")
    for needed in (os.path.dirname(os.path.realpath(path)), path):
        if os.path.exists(needed) and not os.access(needed, os.W_OK):
            raise UnavailableError(
                f"{path} cannot be served: user {os.geteuid()} may not write {needed} "
                "(a server writes its database and files beside it)"
            )


def _mark_served(connection: sqlite3.Connection) -> None:
    """Note in the file itself, not only in its log, that it is of no use without its log."""
    if not _is_served(connection):
        connection.execute(f"PRAGMA user_version = {_SERVED}")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def write_back(connection: sqlite3.Connection) -> None:
    """Write the whole log back into the file, which then needs no log.

    The note that says so goes where the log has room already: a full disk must not leave a file
    that is whole and says that it is not.
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if _is_served(connection):
        connection.execute("PRAGMA user_version = 0")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _is_served(connection: sqlite3.Connection) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version == _SERVED)


def create_private(path: str) -> None:
    """Create a file that only its owner may read, unless there is one."""
    # O_EXCL: a file that exists must not be opened here, see the head of this module.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return


def allocate_log(path: str) -> None:
    """Give the log of a database that was just opened the blocks that it will need.

    A sync of a file that grows has to write down its new size and blocks too: on ext4, commits
    before the log was first written back took up to thirty times as long as later ones. SQLite
    ends a log at the first frame whose checksum is wrong, so zeros at its end say nothing.
    """
    try:
        log = os.open(f"{os.path.realpath(path)}-wal", os.O_WRONLY)
    except OSError:
        return  # There is none, or it has another name.
    try:
        n_bytes = os.fstat(log).st_size
        try:
            _append_zeros(log, n_bytes, _LOG_BYTES - n_bytes)
        except OSError as error:  # Whatever needs the room more shall have it.
            _log.warning("%s: no room for the log in advance: %s", path, error)
            os.ftruncate(log, n_bytes)
    finally:
        os.close(log)


def _append_zeros(file: int, at: int, n_bytes: int) -> None:
    while n_bytes > 0:
        written = os.pwrite(file, bytes(min(n_bytes, 1 << 20)), at)
        at, n_bytes = at + written, n_bytes - written
    os.fsync(file)


def _claim(connection: sqlite3.Connection, path: str) -> None:
    """Lock the file and make sure that it is ours before anything is written to it."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (n_objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != APPLICATION_ID and (application_id or n_objects):
        raise PreconditionError(f"{path} is the database of another application")


def _set_up(connection: sqlite3.Connection, path: str) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "cell_size_check = ON",
        "trusted_schema = OFF",
        "mmap_size = 0",
        "wal_autocheckpoint = 0",  # Commits are waited for: see ``Batches.checkpoint``.
        "journal_size_limit = 67108864",
        "temp_store = MEMORY",
        "cache_size = -16384",
        f"application_id = {APPLICATION_ID}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    (foreign_keys,) = connection.execute("PRAGMA foreign_keys").fetchone()
    if (mode, synchronous, foreign_keys) != ("wal", _SYNCHRONOUS_FULL, 1):
        raise UnavailableError(
            f"{path} cannot be kept durable: journal_mode={mode}, synchronous={synchronous}, "
            f"foreign_keys={foreign_keys}"
        )


def _check(connection: sqlite3.Connection, path: str) -> None:
    """Look for damage, for a bounded time."""
    deadline = time.monotonic() + _CHECK_LIMIT_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_PERIOD)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        _log.warning("%s: quick_check cut short after %g s", path, _CHECK_LIMIT_S)
        found = "ok"
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise DataLossError(f"{path} is damaged: {found}")


def _explained(error: sqlite3.DatabaseError, path: str) -> Exception:
    match error.sqlite_errorcode & 0xFF:  # The primary code, without what extends it.
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return UnavailableError(f"{path} is in use by another server")
        case sqlite3.SQLITE_NOTADB:
            return PreconditionError(f"{path} is not a database")
        case sqlite3.SQLITE_CORRUPT:
            return DataLossError(f"{path} is damaged: {error}")
        case _:
            return UnavailableError(f"{path} cannot be opened: {error}")
