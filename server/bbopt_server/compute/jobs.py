"""The jobs of one compute process: how long each may take, and which is next."""

import asyncio
from collections import deque
from dataclasses import dataclass

from bbopt.errors import ExhaustedError
from bbopt.rpc.v1 import compute_pb2
from bbopt_server.compute.compute import StudyLog
from bbopt_server.compute.line import Line


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a process may take, and how much may wait for it."""

    start_s: float = 120.0
    """From spawning to hello."""
    job_s: float = 30.0
    """A job with a deadline gets at least this long before its process counts as hung."""
    deadline_factor: float = 3.0
    """It also gets this many times the time that its deadline left."""
    unhurried_s: float = 120.0
    """A job without a deadline gets this; everything else in the lane waits as long."""
    n_waiting: int = 256
    n_of_study: int = 64
    """Of those, the most for one study."""
    n_ahead: int = 16
    """Jobs ahead of an ask that may wait; more would only get old."""

    def of_job(self, time_left_s: float | None, *, is_ahead: bool = False) -> float:
        """Say after how many seconds a job counts as hung."""
        if is_ahead:
            return self.job_s
        if time_left_s is None:
            return self.unhurried_s
        return max(self.job_s, self.deadline_factor * time_left_s)


@dataclass(slots=True)
class Job:
    """Something to compute for a study."""

    study: StudyLog
    task: compute_pb2.ComputeRequest
    """With its task set and nothing else."""
    deadline: float | None
    """When the answer becomes worthless, by the lane's clock."""
    answer: "asyncio.Future[compute_pb2.ComputeReply]"
    is_ahead: bool = False
    """Whether nobody has asked yet."""
    n_attempts: int = 0

    @property
    def uid(self) -> str:
        """Of the study."""
        return self.study.uid

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless nobody waits any more."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Waiting:
    """The jobs that wait: those of callers, the studies in turn, then those ahead of an ask."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._called: Line[Job] = Line()
        self._ahead: deque[Job] = deque()

    def __bool__(self) -> bool:
        return bool(self._called or self._ahead)

    def n_called(self, uid: str) -> int:
        """Count the jobs of a study that a caller waits for."""
        return self._called.n_of(uid)

    def append(self, job: Job) -> None:
        """Add a job, the last one of its study.

        Raises:
            ExhaustedError: Too many jobs wait.
        """
        if job.is_ahead:
            # Most were overtaken by events, and given up, before it was their turn.
            self._ahead = deque(each for each in self._ahead if not each.answer.done())
        queue = self._ahead if job.is_ahead else self._called
        if len(queue) >= (self._limits.n_ahead if job.is_ahead else self._limits.n_waiting):
            raise ExhaustedError(f"{len(queue)} jobs wait for compute")
        if (n := self._called.n_of(job.uid)) >= self._limits.n_of_study:
            raise ExhaustedError(f"{n} jobs of this study wait for compute")
        queue.append(job)

    def push_front(self, job: Job) -> None:
        """Add a job of a caller that is next."""
        self._called.push_front(job)

    def pop(self) -> Job:
        """Take out the job whose turn it is; there must be one."""
        return self._called.pop() if self._called else self._ahead.popleft()
