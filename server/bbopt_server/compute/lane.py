"""A queue of jobs in front of one compute process, which is replaced whenever it is lost.

One task does everything in order, so there is nothing to lock: it keeps a process running,
takes the next job, sends the events that the process has not seen, waits for the answer.
Studies take turns, so that many jobs of one do not hold up another. A job whose process is lost
is tried once more on the next one. Jobs that compute ahead of an ask run when nothing else
waits.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bbopt.errors import ExhaustedError
from bbopt.rpc.v1 import compute_pb2
from bbopt_server.compute.compute import StudyLog
from bbopt_server.compute.connection import Connection, NotInstalledError, ProcessLostError
from bbopt_server.compute.errors import ComputeFailedError, ComputeUnavailableError
from bbopt_server.compute.frames import FrameError, with_events
from bbopt_server.compute.jobs import Job, Limits, Waiting
from bbopt_server.compute.quarantine import Quarantine

_MAX_ATTEMPTS = 2
_MAX_ROUNDS = 3
"""Exchanges a job may need: the events since the last one, then all of them, and one more."""
_SHORTEST_S = 1e-3
"""What a deadline that has passed is sent as: 0 means none."""
_MAX_KNOWN = 4096
"""Studies whose folded revision is remembered; a forgotten one is sent whole."""
_LATE_S = 60.0
"""So long after its last job, a study no longer counts as one that uses a process too."""
_RETRY_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Between starts that fail, so that a machine out of memory is not kept busy by us."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What has happened so far."""

    n_jobs: int = 0
    n_ahead: int = 0
    """Jobs among them that nobody had asked for yet."""
    n_starts: int = 0
    n_lost_busy: int = 0
    n_lost_idle: int = 0
    n_reloads: int = 0
    """Times a process asked for events that it should have had."""


class Lane:
    """One compute process and what waits for it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        quarantine: Quarantine,
        *,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            connect: Starts a process.
            quarantine: Told which study lost a process, asked which is set aside.
            limits: Of time and queue.
            clock: Monotonic seconds.
        """
        self._connect = connect
        self._quarantine = quarantine
        self._limits = limits
        self._clock = clock
        self._waiting = Waiting(limits)
        self._has_news = asyncio.Event()
        self._connection: Connection | None = None
        self._folded: OrderedDict[str, int] = OrderedDict()
        self._current: str | None = None
        """The study of the job that is being done."""
        self._latest: OrderedDict[str, float] = OrderedDict()
        """When the last two studies had jobs."""
        self._jobs = itertools.count(1)
        self._refusal: ComputeUnavailableError | None = None
        self._running: asyncio.Task[None] | None = None
        self.counters = Counters()

    @property
    def is_ready(self) -> bool:
        """Whether a process is there."""
        return self._connection is not None and self._connection.is_open

    @property
    def takes_jobs(self) -> bool:
        """Whether a process is there or on its way."""
        return self._refusal is None

    def knows(self, uid: str) -> bool:
        """Whether the process has folded events of a study."""
        return uid in self._folded

    def is_shared(self, uid: str) -> bool:
        """Whether other studies than this one had jobs of late."""
        since = self._clock() - _LATE_S
        return any(at >= since for other, at in self._latest.items() if other != uid)

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._connection.pid if self._connection is not None else None

    def start(self) -> None:
        """Begin to load, in the background."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="compute lane")

    async def stop(self) -> None:
        """End the process and fail every job."""
        self._refuse(_stopping())
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        self._refuse(_stopping())
        await self._disconnect(grace_s=1.0)

    async def submit(
        self,
        study: StudyLog,
        task: compute_pb2.ComputeRequest,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> compute_pb2.ComputeReply:
        """Wait in line, and for the answer; ``is_ahead``: behind everybody else.

        Raises:
            ExhaustedError: Too many jobs wait.
            ComputeUnavailableError: There is no process and none is on its way.
            ComputeFailedError: The process was lost twice over this job, or the study is set
                aside: that is said at once, whatever else waits.
        """
        if (left_s := self._quarantine.time_left_s(study.uid)) > 0.0:
            raise _set_aside(left_s)
        job = self._enqueue(study, task, time_left_s, is_ahead=is_ahead)
        return await job.answer

    def forget(self, uid: str) -> None:
        """Have the process drop a study when it gets to it; no answer is waited for."""
        is_coming = self._waiting.n_called(uid) > 0 or uid == self._current
        if is_coming or uid in self._folded:
            study = StudyLog(uid, b"", False, 0, _no_events)
            task = compute_pb2.ComputeRequest(forget=compute_pb2.ComputeRequest.Forget())
            with contextlib.suppress(ExhaustedError, ComputeUnavailableError):
                self._enqueue(study, task, None)

    def _enqueue(
        self,
        study: StudyLog,
        task: compute_pb2.ComputeRequest,
        time_left_s: float | None,
        *,
        is_ahead: bool = False,
    ) -> Job:
        if self._refusal is not None:
            raise _again(self._refusal)
        deadline = None if time_left_s is None else self._clock() + time_left_s
        answer = asyncio.get_running_loop().create_future()
        job = Job(study, task, deadline, answer, is_ahead)
        self._waiting.append(job)
        self._has_news.set()
        return job

    # The one task --------------------------------------------------------------------------

    async def _run(self) -> None:
        n_failures = 0
        while True:
            try:
                self._connection = await self._connect()
            except NotInstalledError as error:
                _log.error("no compute: %s", error)
                self._refuse(error)
                return
            except ProcessLostError as error:
                delay_s = _RETRY_DELAYS_S[min(n_failures, len(_RETRY_DELAYS_S) - 1)]
                n_failures += 1
                _log.error("a compute process %s; next try in %.1f s", error, delay_s)
                message = f"the compute process does not start: it {error}"
                self._refuse(ComputeUnavailableError(message, retry_after_s=delay_s))
                await asyncio.sleep(delay_s)
                continue
            n_failures = 0
            self._refusal = None
            self.counters.n_starts += 1
            _log.info("compute process %d is ready", self._connection.pid)
            self._connection.when_lost(self._has_news.set)
            await self._work(self._connection)
            await self._disconnect()

    async def _work(self, connection: Connection) -> None:
        """Do jobs until the process is lost."""
        while await self._wait_for_work(connection):
            job = self._waiting.pop()
            if job.answer.done():  # Its caller gave up while it waited.
                continue
            if (left_s := self._quarantine.time_left_s(job.study.uid)) > 0.0:
                job.fail(_set_aside(left_s))
                continue
            self._current = job.uid
            try:
                reply = await self._exchange(connection, job)
            except asyncio.CancelledError:
                job.fail(_stopping())
                raise
            except ProcessLostError as error:
                self._lose(job, error)
                return
            except FrameError as error:
                job.fail(ComputeFailedError(f"the log is too long to be sent: {error}"))
            except Exception as error:  # Of the caller's own reading of events.
                job.fail(error)
            else:
                self.counters.n_jobs += 1
                self.counters.n_ahead += job.is_ahead
                if not job.answer.done():
                    job.answer.set_result(reply)
            finally:
                self._current = None

    async def _wait_for_work(self, connection: Connection) -> bool:
        """Wait for a job; false if the process is lost first."""
        while connection.is_open:
            if self._waiting:
                return True
            self._has_news.clear()
            await self._has_news.wait()
        _log.warning("compute process %d was lost while idle", connection.pid)
        self.counters.n_lost_idle += 1
        return False

    async def _exchange(self, connection: Connection, job: Job) -> compute_pb2.ComputeReply:
        """Send a job with the events it needs until the process has enough of them."""
        uid = job.study.uid
        for _ in range(_MAX_ROUNDS):
            since = self._folded.get(uid, 0)
            events = await job.study.events(since) if self._is_behind(job, since) else ()
            time_left_s = self._time_left_s(job)
            request = self._request(job, since, time_left_s)
            reply = await connection.call(
                request.job,
                with_events(request, events),
                limit_s=self._limits.of_job(time_left_s, is_ahead=job.is_ahead),
            )
            for dropped in reply.dropped:
                self._folded.pop(dropped, None)
            self._remember(uid, reply.revision)
            if not reply.HasField("need_events"):
                return reply
            self.counters.n_reloads += 1
        raise ProcessLostError("keeps asking for events that it was sent")

    def _is_behind(self, job: Job, since: int) -> bool:
        is_forgetting = job.task.HasField("forget")
        return not is_forgetting and (since == 0 or since < job.study.revision)

    def _request(
        self, job: Job, since: int, time_left_s: float | None
    ) -> compute_pb2.ComputeRequest:
        request = compute_pb2.ComputeRequest()
        request.CopyFrom(job.task)
        request.job = next(self._jobs)
        request.study_uid = job.study.uid
        request.since_revision = since
        if since == 0:
            request.spec.MergeFromString(job.study.spec)
        if request.HasField("suggest") and time_left_s is not None:
            request.suggest.time_left_s = time_left_s
        return request

    def _time_left_s(self, job: Job) -> float | None:
        if job.deadline is None:
            return None
        return max(_SHORTEST_S, job.deadline - self._clock())

    def _remember(self, uid: str, revision: int) -> None:
        self._latest[uid] = self._clock()
        self._latest.move_to_end(uid)
        if len(self._latest) > 2:
            self._latest.popitem(last=False)
        self._folded.pop(uid, None)
        if revision > 0:
            self._folded[uid] = revision
        if len(self._folded) > _MAX_KNOWN:
            self._folded.popitem(last=False)

    def _lose(self, job: Job, error: ProcessLostError) -> None:
        """Blame the job's study for a lost process, and put the job back or give it up."""
        uid = job.study.uid
        _log.error("a compute process %s; it worked for study %s", error, uid)
        self.counters.n_lost_busy += 1
        self._quarantine.record(uid)
        if (left_s := self._quarantine.time_left_s(uid)) > 0.0:
            _log.error(
                "study %s is set aside for %.0f s: no model answers its asks", uid, left_s
            )
        job.n_attempts += 1
        if job.is_ahead:
            job.fail(ComputeFailedError(f"a compute process {error}"))
        elif job.n_attempts < _MAX_ATTEMPTS:
            self._waiting.push_front(job)
        else:
            job.fail(ComputeFailedError(f"a compute process {error}, twice in a row"))

    def _refuse(self, error: ComputeUnavailableError) -> None:
        """Fail what waits and whatever comes, until a process is there."""
        self._refusal = error
        while self._waiting:
            self._waiting.pop().fail(_again(error))

    async def _disconnect(self, *, grace_s: float = 0.0) -> None:
        self._folded.clear()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close(grace_s=grace_s)


async def _no_events(_: int) -> tuple[bytes, ...]:
    return ()


def _stopping() -> ComputeUnavailableError:
    return ComputeUnavailableError("the server is stopping")


def _again(error: ComputeUnavailableError) -> ComputeUnavailableError:
    """Return an error like this one: an exception that is raised twice mixes its traces."""
    return type(error)(str(error), retry_after_s=error.retry_after_s)


def _set_aside(left_s: float) -> ComputeFailedError:
    return ComputeFailedError(
        "the study brought down compute too often and is set aside for "
        f"{left_s:.0f} s; its asks are answered without a model meanwhile",
        retry_after_s=left_s,
    )
