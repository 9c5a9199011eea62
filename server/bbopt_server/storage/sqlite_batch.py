"""Works on one connection: each undone by itself when it fails, many in one commit.

Runs on whichever thread has the connection; which one that is, ``SqliteStore`` decides.
"""

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from bbopt.errors import DataLossError, UnavailableError
from bbopt_server.crash_points import reach
from bbopt_server.storage.sqlite_backup import back_up
from bbopt_server.storage.sqlite_connection import write_back
from bbopt_server.storage.sqlite_rows import StudyRows, TrialRows
from bbopt_server.storage.sqlite_transaction import SqliteTransaction
from bbopt_server.storage.store import Transaction

T = TypeVar("T")

TURN_S = 0.002
"""How long works run without a break: at most on a loop, at least on a thread."""
_QUICK_S = 0.001
"""A loop may wait so long for a commit: the way to a thread and back takes a third of it."""
_N_QUICK = 8
"""Commits in a row that were quick before the next one is expected to be."""
CHECKPOINT_WRITES = 400
"""Rows to write before the log is written back: about a thousand pages."""
_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Job:
    """One work, and who waits for it."""

    work: Callable[[Transaction], Any]
    then: Callable[[], None] | None
    is_long: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Do what follows from success, and tell the caller; for the caller's loop."""
        if self.error is None and self.then is not None:
            try:
                self.then()
            except Exception as error:
                _log.exception("what follows from a commit went wrong")
                self.error = error
        if self.future.done():  # Cancelled meanwhile.
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass(eq=False, slots=True)
class Batch:
    """Reads, and then works that share a commit."""

    reads: Sequence[Job]
    writes: deque[Job]
    """Not run yet."""
    ran: list[Job] = field(default_factory=list)
    """Those whose callers can be told once the batch has ended."""
    is_open: bool = False
    """Whether its transaction has begun, and neither been committed nor failed."""
    has_savepoints: bool = False
    """Whether what a work did can be undone by itself."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.is_open or self.reads or self.writes)


class Batches:
    """Does the works of batches on a connection. Never raises for what a work does."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: str,
        on_point: Callable[[str], None] | None,
        checkpoint_writes: int,
    ) -> None:
        self._path = path
        self._connection = connection
        self._on_point = on_point
        self._known = studies, trials = StudyRows(), TrialRows()
        self._reader = SqliteTransaction(connection, studies, trials, is_writable=False)
        self._writer = SqliteTransaction(connection, studies, trials, is_writable=True)
        self._last_commit_s = 0.0
        self._n_quick = 0
        self._checkpoint_writes = checkpoint_writes
        self._n_written_back = 0
        self.failure: str | None = None
        """Why no more work is taken."""

    def read_now(self, work: Callable[[Transaction], T]) -> T:
        """Run one read; no transaction may be open."""
        try:
            self._refuse_if_failed()
            return work(self._reader)
        except BaseException as error:
            translated = self._translated(error)
            if translated is error:
                raise
            raise translated from error

    def read(self, jobs: Sequence[Job]) -> None:
        """Run reads; no transaction may be open."""
        for job in jobs:
            try:
                job.result = self.read_now(job.work)
            except Exception as error:
                job.error = error

    def run_short(self, batch: Batch, *, limit_s: float) -> None:
        """Begin the transaction and run its works until one is long or the time is up."""
        if batch.writes[0].is_long:
            return
        try:
            self._begin(batch)
            self._run(batch, time.monotonic() + limit_s, stops_at_long=True)
        except BaseException as error:
            self._fail(batch, error)

    def finish(self, batch: Batch) -> None:
        """Run the reads and more of the works, for about as long as a commit takes; commit.

        Works that are left over are still in ``batch.writes``.
        """
        self.read(batch.reads)
        if not batch.is_open and not batch.writes:
            return
        try:
            if not batch.is_open:
                self._begin(batch)
            self._run(batch, time.monotonic() + max(TURN_S, self._last_commit_s))
            self._commit(batch)
        except BaseException as error:
            self._fail(batch, error)

    def may_commit_here(self, batch: Batch) -> bool:
        """Say whether a loop may wait for the commit of a batch: for one caller's, on a disk
        that has been quick, unless the thread had better have a look at the log.
        """
        return (
            len(batch.ran) == 1
            and not batch.writes
            and batch.is_open
            and self._n_quick >= _N_QUICK
            and not self.is_checkpoint_due
            and self._on_point is None
        )

    def commit_here(self, batch: Batch) -> None:
        """Commit what has run, on a loop."""
        try:
            self._commit(batch)
        except BaseException as error:
            self._fail(batch, error)

    def _commit(self, batch: Batch) -> None:
        begin = time.monotonic()
        if self._on_point is not None:
            self._on_point("before_commit")
        reach("store.before_commit")
        self._connection.execute("COMMIT")
        batch.is_open = False
        self._last_commit_s = time.monotonic() - begin
        self._n_quick = self._n_quick + 1 if self._last_commit_s < _QUICK_S else 0
        if self._on_point is not None:
            self._on_point("after_commit")
        reach("store.after_commit")

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the log has grown so long that it should be written back."""
        n_since = self._writer.n_written - self._n_written_back
        return n_since >= self._checkpoint_writes and self.failure is None

    def checkpoint(self) -> None:
        """Write the log back into the file; no transaction may be open.

        SQLite would do it inside of a commit, whose callers would wait for it, and would say
        nothing of a sync that failed.
        """
        self._n_written_back = self._writer.n_written
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            _log.error("%s: a checkpoint failed: %s", self._path, error)
            self._translated(error)  # Stops where the disk failed.

    @property
    def n_written(self) -> int:
        """Rows that were written since the database was opened."""
        return self._writer.n_written

    def back_up(self, path: Path, *, is_over: Event) -> None:
        """Copy the database to a new file; from any thread, while works go on."""
        self._refuse_if_failed()
        back_up(self._connection, path, is_over=is_over)

    def stop(self, failure: str) -> None:
        """Take no more work."""
        if self.failure is None:
            _log.critical("%s: no more work is taken: %s", self._path, failure)
            self.failure = failure

    def release(self) -> None:
        """Write the log back into the file and let go of it.

        Not after a failure: closing copies pages into the file that the disk may have lost.
        The next start recovers from what is really there.
        """
        if self.failure is not None:
            return
        try:
            reach("store.before_checkpoint")
            write_back(self._connection)
            reach("store.after_checkpoint")
        except sqlite3.Error as error:
            _log.warning("%s: the last checkpoint failed: %s", self._path, error)
        finally:
            self._connection.close()

    def _begin(self, batch: Batch) -> None:
        self._refuse_if_failed()
        self._connection.execute("BEGIN IMMEDIATE")
        batch.is_open = True
        reach("store.after_begin")

    def _run(self, batch: Batch, until: float, *, stops_at_long: bool = False) -> None:
        """Run works until the time is up."""
        while batch.writes and not (stops_at_long and batch.writes[0].is_long):
            job = batch.writes.popleft()
            if job.future.cancelled():  # Nobody waits, and nothing was done yet.
                continue
            batch.ran.append(job)
            self._run_work(batch, job)
            if time.monotonic() > until:
                break

    def _run_work(self, batch: Batch, job: Job) -> None:
        """Run one work; what it raises undoes just this work.

        Raises:
            sqlite3.Error: SQLite gave up the whole transaction.
        """
        n_written, has_savepoint = self._writer.n_written, batch.has_savepoints
        if has_savepoint:
            self._connection.execute("SAVEPOINT work")
        try:
            job.result = job.work(self._writer)
            reach("store.after_work")
        except BaseException as error:
            job.error = self._translated(error)
            if not self._connection.in_transaction:
                raise sqlite3.OperationalError("the transaction was rolled back") from error
            if self._writer.n_written > n_written:
                self._undo_last(batch)
        if has_savepoint:
            self._connection.execute("RELEASE work")

    def _undo_last(self, batch: Batch) -> None:
        """Undo what the last work wrote.

        A savepoint for each work costs a tenth of it, and hardly any work raises after it has
        written. So without savepoints the transaction begins again, and the works before are
        to be run again, this time with savepoints.
        """
        self._forget()
        if batch.has_savepoints:
            self._connection.execute("ROLLBACK TO work")
            return
        self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN IMMEDIATE")
        again = [job for job in batch.ran if job.error is None]
        if again:
            batch.ran = [job for job in batch.ran if job.error is not None]
            batch.writes.extendleft(reversed(again))
            batch.has_savepoints = True

    def _fail(self, batch: Batch, error: BaseException) -> None:
        """Undo a batch whose commit failed: nobody in it is acknowledged."""
        _log.error("%s: a commit failed: %s", self._path, error)
        self._forget()
        failure = self._translated(error)
        if not isinstance(failure, UnavailableError):
            failure = UnavailableError(f"the store could not commit: {error}")
        batch.is_open = False
        if not batch.ran and batch.writes:  # It could not even begin.
            batch.ran.append(batch.writes.popleft())
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            self.stop(f"rollback failed: {second}")
        for job in batch.ran:
            # An error of the work itself stands: it would have been raised in any case.
            job.error = job.error or failure

    def _forget(self) -> None:
        """Forget rows that may have been undone."""
        for rows in self._known:
            rows.clear()

    def _translated(self, error: BaseException) -> BaseException:
        """Make an error of SQLite one of ours, and stop for good where the disk failed."""
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            # A future cannot carry the first, and the others would end the caller's loop.
            return RuntimeError(f"work raised {type(error).__name__}")
        if not isinstance(error, sqlite3.DatabaseError):
            return error
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_CORRUPT:
            return DataLossError(f"the store is damaged: {error}")
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB):
            self.stop(f"the disk failed: {error}")
        if isinstance(error, sqlite3.OperationalError):
            return UnavailableError(f"the store could not do its work: {error}")
        return error

    def _refuse_if_failed(self) -> None:
        if self.failure is not None:
            raise UnavailableError(f"the store has stopped ({self.failure})")
