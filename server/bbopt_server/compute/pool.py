"""``ComputePool``: compute in child processes, each study always in the same one.

But for a study that has grown large: its fits take long, and cannot be interrupted. While other
studies use the same process, it moves to one for such studies, which starts when it is needed.
"""

import sys
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from bbopt.rpc.v1 import compute_pb2, insight_service_pb2
from bbopt_server.compute.compute import (
    IDLE_S,
    MEMORY_MIB,
    Recommendation,
    StudyLog,
    Suggestions,
)
from bbopt_server.compute.connection import Connection
from bbopt_server.compute.errors import ComputeFailedError
from bbopt_server.compute.failures import error_of
from bbopt_server.compute.jobs import Limits
from bbopt_server.compute.lane import Counters, Lane
from bbopt_server.compute.quarantine import Quarantine

Request = compute_pb2.ComputeRequest

PROCESS = (sys.executable, "-P", "-m", "bbopt_server.compute")
"""``-P``: nothing in the working directory may pass for a package."""
LARGE_FROM = 600
"""Events, of which an evaluated trial makes two: with 300 results, a fit takes a tenth of a
second and the first one half a second; with 1,000, half a second and three.
"""


class ComputePool:
    """A ``Compute`` over child processes.

    Belongs to the event loop that it was started in.
    """

    def __init__(
        self,
        *,
        n_processes: int = 1,
        device: str = "cpu",
        cores: Sequence[int] = (),
        memory_mib: int = MEMORY_MIB,
        idle_s: float = IDLE_S,
        command: Sequence[str] = PROCESS,
        limits: Limits | None = None,
        large_from: int | None = LARGE_FROM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            n_processes: At least 1; each is single-threaded on a CPU.
            device: ``cpu``, ``cuda``, ``cuda:<index>`` or ``auto``.
            cores: Processor cores that the processes are bound to, in turn; none binds none.
            memory_mib: What the studies in a process may take, roughly; then those used longest
                ago make room. One study may need more.
            idle_s: How long a study keeps its models without being asked.
            command: Program and first arguments of a process.
            limits: Of time and queues.
            large_from: Events from which on a study may move to a process of its own kind;
                ``None``: there is no such process.
            clock: Monotonic seconds; for deadlines and for how long a study is set aside.
        """
        if n_processes < 1:
            raise ValueError(f"n_processes must be at least 1, got {n_processes}")
        self._quarantine = Quarantine(clock)
        limits = limits or Limits()

        options = ["--device", device, "--max-bytes", str(memory_mib << 20)]
        options += ["--idle-seconds", str(idle_s)]

        def lane(index: int) -> Lane:
            core = ["--core", str(cores[index % len(cores)])] if cores else []
            whole = [*command, *options, *core]
            connect = partial(Connection.open, whole, limit_s=limits.start_s)
            return Lane(connect, self._quarantine, limits=limits, clock=clock)

        self._lanes = [lane(index) for index in range(n_processes)]
        self._large = lane(n_processes)
        self._has_large = False
        self._large_from = large_from

    @property
    def is_ready(self) -> bool:
        """Whether every process has loaded, but for the one for large studies."""
        return all(lane.is_ready for lane in self._lanes)

    @property
    def counters(self) -> tuple[Counters, ...]:
        """What each process has done."""
        return tuple(lane.counters for lane in self._running())

    @property
    def pids(self) -> tuple[int | None, ...]:
        """Of the processes; ``None`` for one that is not there."""
        return tuple(lane.pid for lane in self._running())

    def _running(self) -> list[Lane]:
        return [*self._lanes, self._large] if self._has_large else self._lanes

    def set_aside_s(self, uid: str) -> float:
        """Say how long a study that brought down compute gets no model; 0 if it is well."""
        return self._quarantine.time_left_s(uid)

    async def start(self) -> None:
        """Begin to load in the background; returns at once."""
        for lane in self._lanes:
            lane.start()

    async def stop(self) -> None:
        """Fail what waits with ``ComputeUnavailableError``, and end every process."""
        for lane in self._running():
            await lane.stop()

    async def suggest(
        self,
        study: StudyLog,
        count: int,
        *,
        time_left_s: float | None,
        is_ahead: bool = False,
    ) -> Suggestions:
        """Compute points for an ask; see ``Compute``."""
        task = Request(suggest=Request.Suggest(count=count))
        reply = await self._submit(
            study, task, "suggestions", time_left_s=time_left_s, is_ahead=is_ahead
        )
        found = reply.suggestions
        return Suggestions(
            tuple(found.points),
            found.state if found.HasField("state") else None,
            found.space_exhausted,
            reply.revision,
            reply.elapsed_s,
            tuple(found.states),
        )

    async def predict(
        self, study: StudyLog, points: Sequence[insight_service_pb2.Point]
    ) -> insight_service_pb2.PredictResponse:
        """Predict every metric at points; see ``Compute``."""
        task = Request(predict=Request.Predict(points=points))
        return (await self._submit(study, task, "prediction")).prediction

    async def recommend(self, study: StudyLog) -> Recommendation:
        """Name the trial to deploy; see ``Compute``."""
        task = Request(recommend=Request.Recommend())
        found = (await self._submit(study, task, "recommendation")).recommendation
        return Recommendation(found.number or None, found.reason)

    def forget(self, uid: str) -> None:
        """Drop what is held for a study; returns at once."""
        for lane in (self._lane(uid), self._large):
            lane.forget(uid)

    async def _submit(
        self,
        study: StudyLog,
        task: Request,
        expected: str,
        *,
        time_left_s: float | None = None,
        is_ahead: bool = False,
    ) -> compute_pb2.ComputeReply:
        lane = self._lane_now(study)
        lane.start()
        reply = await lane.submit(study, task, time_left_s=time_left_s, is_ahead=is_ahead)
        match reply.WhichOneof("result"):
            case "failure":
                raise error_of(reply.failure)
            case result if result == expected:
                return reply
            case result:
                raise ComputeFailedError(f"compute answered {result!r} for {expected!r}")

    def _lane_now(self, study: StudyLog) -> Lane:
        """Choose the process for a job of a study."""
        lane, large = self._lane(study.uid), self._large
        if not self._is_large(study) or not large.takes_jobs:
            return lane
        if not large.knows(study.uid):
            if not lane.is_shared(study.uid):
                return lane
            self._has_large = True
            large.start()
            if lane.knows(study.uid) and not large.is_ready:
                return lane  # Which is quicker than to wait.
        lane.forget(study.uid)
        return large

    def _is_large(self, study: StudyLog) -> bool:
        is_long = self._large_from is not None and study.revision >= self._large_from
        return is_long and study.has_model

    def _lane(self, uid: str) -> Lane:
        """Choose the process of a study: always the same, also after a restart."""
        return self._lanes[zlib.crc32(uid.encode()) % len(self._lanes)]
