"""``Store`` in one SQLite file: a single thread owns it and commits many works at once.

Work that waits while a commit is on its way to the disk shares the next one (group commit), so
throughput grows with load and a lone caller pays one sync. Each work has a savepoint: one
that raises is undone alone. Callers hear of success only after the commit. Reads run on the
same thread between two commits, so they never see what could still be lost.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from bbopt.errors import DataLossError, UnavailableError
from bbopt_server.crash_points import reach
from bbopt_server.storage.schema import load_migrations
from bbopt_server.storage.sqlite_connection import connect
from bbopt_server.storage.sqlite_transaction import SqliteTransaction
from bbopt_server.storage.store import Transaction

T = TypeVar("T")

_MAX_BATCH = 256
_MIN_BATCH_S = 0.002
_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Job:
    """One work, and who waits for it."""

    work: Callable[[Transaction], Any]
    is_write: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell the caller; runs on its loop."""
        if self.future.done():  # Cancelled meanwhile.
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SqliteStore:
    """Studies in a SQLite file that no other process may open meanwhile."""

    def __init__(
        self, connection: sqlite3.Connection, *, path: str, on_point: Callable[[str], None]
    ) -> None:
        self._path = path
        self._connection = connection
        self._on_point = on_point
        self._reader = SqliteTransaction(connection, is_writable=False)
        self._writer = SqliteTransaction(connection, is_writable=True)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._submitting = threading.Lock()
        self._is_closing = False
        self._failure: str | None = None
        self._last_commit_s = 0.0
        self._thread = threading.Thread(target=self._run, name="bbopt-store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str, *, on_point: Callable[[str], None] = lambda _: None) -> Self:
        """Open or create a database file, check it and bring its schema up to date.

        Args:
            path: The file; its folder must exist.
            on_point: For tests of faults: called on the store's thread with
                ``before_commit`` and ``after_commit``; raising counts as a failed commit.

        Raises:
            UnavailableError: Another server has the file, or it cannot be opened durably.
            PreconditionError: It belongs to another application or to a newer version.
            DataLossError: It is damaged.
        """
        connection = connect(path, load_migrations("sqlite"))
        return cls(connection, path=path, on_point=on_point)

    @property
    def failure(self) -> str | None:
        """Why the store takes no more work (the disk failed), or ``None``.

        Nothing but a new process helps: after a failed sync nobody knows what is on the
        disk. End this one with ``os._exit``, so that SQLite writes nothing on the way out.
        """
        return self._failure

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """See ``Store``."""
        return await self._submit(work, is_write=True)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """See ``Store``."""
        return await self._submit(work, is_write=False)

    async def close(self) -> None:
        """See ``Store``."""
        with self._submitting:
            if not self._is_closing:
                self._is_closing = True
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _submit(self, work: Callable[[Transaction], T], *, is_write: bool) -> T:
        loop = asyncio.get_running_loop()
        job = _Job(work, is_write, loop, loop.create_future())
        with self._submitting:  # So that nothing comes after the end of the queue.
            if self._is_closing:
                raise UnavailableError("the store is closing")
            self._queue.put(job)
        result: T = await job.future
        return result

    # Everything below runs on the store's thread.

    def _run(self) -> None:
        waiting: deque[_Job] = deque()
        is_open = True
        try:
            while is_open or waiting:
                is_open = self._take(waiting, block=is_open and not waiting) and is_open
                self._serve_reads(waiting)
                self._commit_some(waiting)
        except BaseException as error:
            _log.exception("%s: the store's thread died", self._path)
            self._stop(f"{type(error).__name__}: {error}")
            self._refuse_for_ever(waiting, is_open=is_open)
        finally:
            self._release()

    def _take(self, waiting: deque[_Job], *, block: bool) -> bool:
        """Move what is queued to ``waiting``; say whether more may come."""
        try:
            job = self._queue.get(block)
            while job is not None:
                if not job.future.cancelled():
                    waiting.append(job)
                if len(waiting) >= _MAX_BATCH:
                    return True
                job = self._queue.get_nowait()
        except queue.Empty:
            return True
        return False

    def _serve_reads(self, waiting: deque[_Job]) -> None:
        reads = [job for job in waiting if not job.is_write]
        if not reads:
            return
        writes = [job for job in waiting if job.is_write]
        waiting.clear()
        waiting.extend(writes)
        for job in reads:
            try:
                self._refuse_if_failed()
                job.result = job.work(self._reader)
            except BaseException as error:
                job.error = self._translated(error)
        _settle(reads)

    def _commit_some(self, waiting: deque[_Job]) -> None:
        """Run works until the batch is full or has taken its time, and commit them."""
        if not waiting:
            return
        batch: list[_Job] = []
        try:
            self._refuse_if_failed()
            self._connection.execute("BEGIN IMMEDIATE")
            reach("store.after_begin")
            end = time.monotonic() + max(_MIN_BATCH_S, self._last_commit_s)
            while waiting:
                job = waiting.popleft()
                if job.future.cancelled():  # Nobody waits, and nothing was done yet.
                    continue
                batch.append(job)
                self._run_in_savepoint(job)
                if time.monotonic() > end:
                    break
            begin = time.monotonic()
            self._on_point("before_commit")
            reach("store.before_commit")
            self._connection.execute("COMMIT")
            self._last_commit_s = time.monotonic() - begin
            self._on_point("after_commit")
            reach("store.after_commit")
        except BaseException as error:
            if not batch and waiting:  # It could not even begin.
                batch.append(waiting.popleft())
            self._fail(batch, error)
        _settle(batch)

    def _run_in_savepoint(self, job: _Job) -> None:
        """Run one work; what it raises undoes just this work.

        Raises:
            sqlite3.Error: SQLite gave up the whole transaction.
        """
        self._connection.execute("SAVEPOINT work")
        try:
            job.result = job.work(self._writer)
            reach("store.after_work")
        except BaseException as error:
            job.error = self._translated(error)
            if not self._connection.in_transaction:
                raise sqlite3.OperationalError("the transaction was rolled back") from error
            self._connection.execute("ROLLBACK TO work")
        self._connection.execute("RELEASE work")

    def _fail(self, batch: Sequence[_Job], error: BaseException) -> None:
        """Undo a batch whose commit failed: nobody in it is acknowledged."""
        _log.error("%s: a commit failed: %s", self._path, error)
        failure = self._translated(error)
        if not isinstance(failure, UnavailableError):
            failure = UnavailableError(f"the store could not commit: {error}")
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            self._stop(f"rollback failed: {second}")
        for job in batch:
            # An error of the work itself stands: it would have been raised in any case.
            job.error = job.error or failure

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
            self._stop(f"the disk failed: {error}")
        if isinstance(error, sqlite3.OperationalError):
            return UnavailableError(f"the store could not do its work: {error}")
        return error

    def _stop(self, failure: str) -> None:
        if self._failure is None:
            _log.critical("%s: no more work is taken: %s", self._path, failure)
            self._failure = failure

    def _refuse_if_failed(self) -> None:
        if self._failure is not None:
            raise UnavailableError(f"the store has stopped ({self._failure})")

    def _refuse_for_ever(self, waiting: deque[_Job], *, is_open: bool) -> None:
        """Answer everything with the failure until the store is closed."""
        while is_open or waiting:
            is_open = self._take(waiting, block=is_open and not waiting) and is_open
            for job in waiting:
                job.error = UnavailableError(f"the store has stopped ({self._failure})")
            _settle(waiting)
            waiting.clear()

    def _release(self) -> None:
        """Write the log back into the file and let go of it.

        Not after a failure: closing copies pages into the file that the disk may have lost.
        The next start recovers from what is really there.
        """
        if self._failure is not None:
            return
        try:
            reach("store.before_checkpoint")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            reach("store.after_checkpoint")
        except sqlite3.Error as error:
            _log.warning("%s: the last checkpoint failed: %s", self._path, error)
        finally:
            self._connection.close()


def _settle(jobs: Sequence[_Job] | deque[_Job]) -> None:
    """Tell the callers, with one wake-up for each of their loops."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, group)
        except RuntimeError:
            _log.debug("the loop of %d callers is gone", len(group))


def _settle_all(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.settle()
