"""Numbered SQL migrations, forward only: which there are, and applying those that lack."""

import hashlib
import logging
import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from bbopt.errors import DataLossError, PreconditionError
from bbopt_server.crash_points import reach

_FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    """From 1, without gaps."""
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Checksum that is recorded where the migration was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(dialect: str) -> tuple[Migration, ...]:
    """Read the migrations that ship with this version, in order.

    Raises:
        ValueError: A file is not named ``NNNN_name.sql``, or a number is missing.
    """
    folder = resources.files(__package__) / "migrations" / dialect
    migrations: list[Migration] = []
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        named = _FILE.fullmatch(file.name)
        if named is None or int(named[1]) != len(migrations) + 1:
            raise ValueError(f"{file.name} is not the migration {len(migrations) + 1:04d}")
        text = file.read_text(encoding="utf-8")
        migrations.append(Migration(int(named[1]), named[2], text))
    return tuple(migrations)


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Migration], *, path: str
) -> None:
    """Bring a database up to the last migration, each step in a transaction of its own.

    Raises:
        PreconditionError: The database was written by a newer version.
        DataLossError: A migration is not the one that was applied.
    """
    applied = _applied(connection)
    if len(applied) > len(migrations):
        raise PreconditionError(
            f"{path} has schema {len(applied)}, written by a newer version of bbopt; "
            f"this one knows {len(migrations)}"
        )
    for migration, sha256 in zip(migrations, applied, strict=False):
        if migration.sha256 != sha256:
            raise DataLossError(
                f"{path}: migration {migration.version} is not the one that was applied"
            )
    for migration in migrations[len(applied) :]:
        _apply(connection, migration)
        _log.info("%s: applied migration %04d_%s", path, migration.version, migration.name)


def _applied(connection: sqlite3.Connection) -> list[str]:
    """List the checksums of the applied migrations in order of version."""
    query = "SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'"
    if connection.execute(query).fetchone() is None:
        return []
    rows = connection.execute("SELECT sha256 FROM schema_version ORDER BY version")
    return [sha256 for (sha256,) in rows]


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    record = (
        "INSERT INTO schema_version (version, name, sha256, applied_at) VALUES (?, ?, ?, ?)"
    )
    try:
        connection.executescript("BEGIN IMMEDIATE;\n" + migration.sql)
        connection.execute(
            record, (migration.version, migration.name, migration.sha256, time.time())
        )
        reach("migration.before_commit")
        connection.execute("COMMIT")
        reach("migration.after_commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
