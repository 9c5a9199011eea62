"""Backups of the database while it is served: copies in a folder, the last few of them kept.

Only the operator names the folder, when the server is started; no call makes the server write
anywhere. A copy appears under its name, ``<database>-000012.db``, once it is whole and on the
disk. Copies are counted, not dated: a clock that is set back makes none older than another.
"""

import asyncio
import contextlib
import logging
import os
import re
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bbopt.errors import UnavailableError
from bbopt_server.storage.sqlite import SqliteStore
from bbopt_server.storage.sqlite_backup import InterruptedBackupError

EVERY_S = 3600.0
N_KEPT = 24
_FIRST_S = 60.0
"""A server that is started again more often than it backs up makes backups all the same."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """Where backups go, how often, and how many stay."""

    folder: Path
    every_s: float = EVERY_S
    n_kept: int = N_KEPT


class Backups:
    """Makes backups on a thread of its own for as long as the server runs."""

    def __init__(self, store: SqliteStore, plan: BackupPlan, *, name: str) -> None:
        """Make ready; nothing happens before ``start``.

        Args:
            store: What to copy.
            plan: Where to, and when.
            name: Of the database; the copies are named after it.
        """
        self._store = store
        self._plan = plan
        self._name = name
        self._part = plan.folder / f".{name}.part"
        self._n_written = -1
        """Rows in the store when the last backup began."""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bbopt-backups", daemon=True)

    def start(self) -> None:
        """Begin; the first backup follows after a minute.

        Raises:
            UnavailableError: The folder cannot be had, or SQLite takes one thread at a time.
        """
        if sqlite3.threadsafety < 3:
            raise UnavailableError("this SQLite was built for one thread: no backups")
        folder = self._plan.folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._part.touch(mode=0o600)  # Rather fail now than in an hour.
            self._clear()
        except OSError as error:
            raise UnavailableError(f"no backups in {folder}: {error.strerror}") from error
        self._thread.start()

    async def stop(self) -> None:
        """End, in the middle of a backup if need be."""
        self._is_over.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def make(self) -> Path | None:
        """Make one backup unless nothing was written since the last one; return its path."""
        n_written = self._store.n_written
        if n_written == self._n_written:
            return None
        began = time.monotonic()
        try:
            self._clear()
            self._store.back_up(self._part, is_over=self._is_over)
            path = self._keep()
        except InterruptedBackupError:
            return None
        except (OSError, sqlite3.Error, UnavailableError) as error:
            _log.error("no backup in %s: %s", self._plan.folder, error)
            return None
        finally:
            with contextlib.suppress(OSError):
                self._clear()
        self._n_written = n_written
        _log.info("backed up to %s", path, extra={"seconds": time.monotonic() - began})
        return path

    def _clear(self) -> None:
        """Remove what a backup that came to nothing left, of this server or of one before."""
        for suffix in ("", "-wal", "-journal"):
            self._part.with_name(self._part.name + suffix).unlink(missing_ok=True)

    def _run(self) -> None:
        pause_s = min(_FIRST_S, self._plan.every_s)
        while not self._is_over.wait(pause_s):
            self.make()
            pause_s = self._plan.every_s

    def _keep(self) -> Path:
        """Give the new copy its name, and let the oldest go."""
        earlier = self._numbers()
        number = earlier[-1] + 1 if earlier else 1
        path = self._path(number)
        os.rename(self._part, path)
        folder = os.open(self._plan.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        for old in [*earlier, number][: -self._plan.n_kept]:
            self._path(old).unlink(missing_ok=True)
        return path

    def _numbers(self) -> list[int]:
        pattern = re.compile(re.escape(self._name) + r"-([0-9]{6,})\.db")
        found = (pattern.fullmatch(each.name) for each in self._plan.folder.iterdir())
        return sorted(int(each[1]) for each in found if each is not None)

    def _path(self, number: int) -> Path:
        return self._plan.folder / f"{self._name}-{number:06d}.db"
