"""Copying a database while it is served, a few pages at a time.

SQLite's online backup reads through the very connection that writes, so whatever is written
meanwhile goes into the copy as well: it is the database as it was when its last page was read.
Between steps the connection is free; ``VACUUM INTO`` would hold it until the end, for seconds.
"""

import math
import os
import sqlite3
from pathlib import Path
from threading import Event

from bbopt_server.storage.sqlite_connection import create_private

_STEP_PAGES = 32
"""Copied in less time than a commit takes."""
_PAUSE_S = 0.004
_BUSY_S = 0.001
"""A transaction is open: until it may be over."""
_STEPS_PER_SYNC = 32
"""Syncs of commits may have to wait for what else is unwritten: at most 4 MiB of the copy."""


class InterruptedBackupError(Exception):
    """The copy was given up because the server ends."""


def back_up(source: sqlite3.Connection, path: Path, *, is_over: Event) -> None:
    """Copy a database that is in use to a new file, which then needs no log.

    Blocks for as long as it takes: for a thread of its own.

    Args:
        source: The connection that everything is written through.
        path: Does not exist.
        is_over: Gives the copy up once set.

    Raises:
        InterruptedBackupError: ``is_over`` was set; the file is of no use.
        OSError: The file cannot be written.
        sqlite3.Error: As well, or the database cannot be read.
    """
    create_private(str(path))
    file = os.open(path, os.O_RDWR)
    n_steps = 0
    least_left: float = math.inf

    def pause(status: int, n_left: int, n_pages: int) -> None:
        nonlocal n_steps, least_left
        del n_pages
        n_steps += 1
        if n_steps % _STEPS_PER_SYNC == 0:
            os.fsync(file)
        # Without a break where the database grows as fast as it is copied: it must end.
        may_rest = status == sqlite3.SQLITE_OK and n_left < least_left
        least_left = min(least_left, n_left)
        if is_over.wait(_PAUSE_S if may_rest else 0.0):
            raise InterruptedBackupError

    try:
        copy = sqlite3.connect(path, isolation_level=None)
        try:
            # A copy that is not finished is thrown away, and the sync is done here.
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
                "locking_mode = EXCLUSIVE",
            ):
                copy.execute(f"PRAGMA {pragma}").fetchone()
            source.backup(copy, pages=_STEP_PAGES, progress=pause, sleep=_BUSY_S)
            copy.execute("PRAGMA user_version = 0")  # The source says that it needs its log.
        finally:
            copy.close()
        os.fsync(file)
    finally:
        os.close(file)
