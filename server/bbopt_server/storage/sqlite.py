"""``Store`` in one SQLite file: works run on the event loop, commits on a thread.

Handing a work to a thread costs more than the work, so short ones run on the loop that they
come from; only what waits for the disk or takes long goes to the thread. The connection is with
one of the two at a time. Works that come while a commit is on its way share the next one
(group commit), so throughput grows with load and a lone caller pays one sync. Where the disk
has shown to be quick, a lone caller's commit does not go to the thread either. Callers hear of
success only after the commit. Reads run between two commits, so they never see what could
still be lost.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any, Self, TypeVar

from bbopt.errors import UnavailableError
from bbopt_server.storage.schema import load_migrations
from bbopt_server.storage.sqlite_batch import CHECKPOINT_WRITES, TURN_S, Batch, Batches, Job
from bbopt_server.storage.sqlite_connection import allocate_log, connect
from bbopt_server.storage.store import Transaction

T = TypeVar("T")

_MAX_BATCH = 256
_log = logging.getLogger(__name__)


class SqliteStore:
    """Studies in a SQLite file that no other process may open meanwhile.

    Serves one event loop at a time.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        path: str,
        on_point: Callable[[str], None] | None = None,
        checkpoint_writes: int = CHECKPOINT_WRITES,
    ) -> None:
        self._batches = Batches(
            connection, path=path, on_point=on_point, checkpoint_writes=checkpoint_writes
        )
        self._reads: list[Job] = []
        self._writes: deque[Job] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_turn = False
        self._is_away = False  # The thread has the connection.
        self._passing = threading.Lock()  # Held while it changes hands.
        self._orders: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="bbopt-store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str, *, on_point: Callable[[str], None] | None = None) -> Self:
        """Open or create a database file, check it and bring its schema up to date.

        Args:
            path: The file; its folder must exist.
            on_point: For tests of faults: called on the store's thread with
                ``before_commit`` and ``after_commit``; raising counts as a failed commit.
                With it every commit is the thread's.

        Raises:
            UnavailableError: Another server has the file, or it cannot be opened durably.
            PreconditionError: It belongs to another application or to a newer version.
            DataLossError: It is damaged, or lacks its log.
        """
        connection = connect(path, load_migrations("sqlite"), serves=True)
        allocate_log(path)
        return cls(connection, path=path, on_point=on_point)

    @property
    def failure(self) -> str | None:
        """Why the store takes no more work (the disk failed), or ``None``.

        Nothing but a new process helps: after a failed sync nobody knows what is on the
        disk. End this one with ``os._exit``, so that SQLite writes nothing on the way out.
        """
        return self._batches.failure

    @property
    def n_written(self) -> int:
        """Rows that were written since the database was opened."""
        return self._batches.n_written

    def back_up(self, path: Path, *, is_over: Event) -> None:
        """Copy the database to a new file while it is served; must end before ``close``.

        Blocks for as long as it takes: for a thread of its own.

        Args:
            path: Does not exist; its folder does.
            is_over: Gives the copy up once set.

        Raises:
            InterruptedBackupError: ``is_over`` was set; the file is of no use.
            UnavailableError: The store has failed.
            OSError: The file cannot be written.
            sqlite3.Error: As well, or the database cannot be read.
        """
        self._batches.back_up(path, is_over=is_over)

    async def transact(
        self,
        work: Callable[[Transaction], T],
        *,
        then: Callable[[], None] | None = None,
        is_long: bool = False,
    ) -> T:
        """See ``Store``."""
        job = self._submit(work, then, is_write=True, is_long=is_long)
        result: T = await job.future
        return result

    async def read(self, work: Callable[[Transaction], T], *, is_long: bool = False) -> T:
        """See ``Store``."""
        if not (is_long or self._is_away or self._is_closing):
            return self._batches.read_now(work)
        job = self._submit(work, None, is_write=False, is_long=is_long)
        result: T = await job.future
        return result

    async def close(self) -> None:
        """See ``Store``."""
        if not self._is_closing:
            last = self._submit(lambda _: None, None, is_write=True, is_long=False)
            self._is_closing = True
            with contextlib.suppress(UnavailableError):
                await last.future
            self._orders.put(None)
        await asyncio.to_thread(self._thread.join)

    def _submit(
        self,
        work: Callable[[Transaction], Any],
        then: Callable[[], None] | None,
        *,
        is_write: bool,
        is_long: bool,
    ) -> Job:
        if self._is_closing:
            raise UnavailableError("the store is closing")
        loop = asyncio.get_running_loop()
        job = Job(work, then, is_long, loop.create_future())
        with self._passing:
            (self._writes if is_write else self._reads).append(job)
            if loop is not self._loop:  # The one before has ended, and its turn with it.
                self._loop, self._has_turn = loop, False
            self._call_turn(loop)
        return job

    def _call_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if not (self._is_away or self._has_turn):
            self._has_turn = True
            loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Do on the loop what is short; pass the connection to the thread for the rest."""
        self._has_turn = False
        reads = [job for job in self._reads if not job.future.cancelled()]
        self._reads = []
        self._batches.read([job for job in reads if not job.is_long])
        batch = Batch([job for job in reads if job.is_long], self._next_writes())
        if batch.writes and not batch.reads:
            self._batches.run_short(batch, limit_s=TURN_S)
            if not self._writes and self._batches.may_commit_here(batch):
                self._batches.commit_here(batch)
        if batch.is_over:
            self._end(batch)
        else:
            self._is_away = True
            self._orders.put(batch)
        for job in reads:
            if not job.is_long:
                job.settle()
        if self._writes:
            self._call_turn(asyncio.get_running_loop())

    def _next_writes(self) -> deque[Job]:
        n = min(len(self._writes), _MAX_BATCH)
        return deque(self._writes.popleft() for _ in range(n))

    def _come_back(self, batch: Batch) -> None:
        """Take the connection back to the loop."""
        self._is_away = False
        self._end(batch)
        if self._reads or self._writes:  # After those who were told have gone on.
            self._call_turn(asyncio.get_running_loop())

    def _end(self, batch: Batch) -> None:
        """Tell the callers of a batch how it went; what is left over goes first next time."""
        self._writes.extendleft(reversed(batch.writes))
        for job in (*batch.reads, *batch.ran):
            job.settle()

    # Everything below runs on the store's thread.

    def _run(self) -> None:
        while (batch := self._orders.get()) is not None:
            self._batches.finish(batch)
            if self._batches.is_checkpoint_due:
                self._tell(self._end, batch)  # First: nobody need wait for the rest.
                self._batches.checkpoint()
                batch = Batch((), deque())
            with self._passing:
                if not self._tell(self._come_back, batch):
                    self._is_away = False
        self._batches.release()

    def _tell(self, callback: Callable[[Batch], None], batch: Batch) -> bool:
        """Have the loop do something with a batch; false if the loop is gone."""
        assert self._loop is not None  # noqa: S101 - batches come from a loop.
        try:
            self._loop.call_soon_threadsafe(callback, batch)
        except RuntimeError:
            _log.debug("the loop of %d callers is gone", len(batch.ran))
            return False
        return True
