"""``ComputePool``: compute in child processes, each study always in the same one."""

import sys
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from bbopt.rpc.v1 import compute_pb2, insight_service_pb2
from bbopt_server.compute.compute import Recommendation, StudyLog, Suggestions
from bbopt_server.compute.connection import Connection
from bbopt_server.compute.errors import ComputeFailedError
from bbopt_server.compute.failures import error_of
from bbopt_server.compute.lane import Counters, Lane, Limits
from bbopt_server.compute.quarantine import Quarantine

Request = compute_pb2.ComputeRequest

PROCESS = (sys.executable, "-P", "-m", "bbopt_server.compute")
"""``-P``: nothing in the working directory may pass for a package."""


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
        command: Sequence[str] = PROCESS,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            n_processes: At least 1; each is single-threaded on a CPU.
            device: ``cpu``, ``cuda``, ``cuda:<index>`` or ``auto``.
            cores: Processor cores that the processes are bound to, in turn; none binds none.
            command: Program and first arguments of a process.
            limits: Of time and queues.
            clock: Monotonic seconds; for deadlines and for how long a study is set aside.
        """
        if n_processes < 1:
            raise ValueError(f"n_processes must be at least 1, got {n_processes}")
        self._quarantine = Quarantine(clock)
        limits = limits or Limits()

        def lane(index: int) -> Lane:
            flags = ["--device", device]
            if cores:
                flags += ["--core", str(cores[index % len(cores)])]
            connect = partial(Connection.open, [*command, *flags], limit_s=limits.start_s)
            return Lane(connect, self._quarantine, limits=limits, clock=clock)

        self._lanes = [lane(index) for index in range(n_processes)]

    @property
    def is_ready(self) -> bool:
        """Whether every process has loaded."""
        return all(lane.is_ready for lane in self._lanes)

    @property
    def counters(self) -> tuple[Counters, ...]:
        """What each process has done."""
        return tuple(lane.counters for lane in self._lanes)

    @property
    def pids(self) -> tuple[int | None, ...]:
        """Of the processes; ``None`` for one that is not there."""
        return tuple(lane.pid for lane in self._lanes)

    def set_aside(self) -> tuple[str, ...]:
        """Name the studies that brought down compute too often."""
        return self._quarantine.set_aside()

    def set_aside_s(self, uid: str) -> float:
        """Say how long a study that brought down compute gets no model; 0 if it is well."""
        return self._quarantine.time_left_s(uid)

    async def start(self) -> None:
        """Begin to load in the background; returns at once."""
        for lane in self._lanes:
            lane.start()

    async def stop(self) -> None:
        """Fail what waits with ``ComputeUnavailableError``, and end every process."""
        for lane in self._lanes:
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
        self._lane(uid).forget(uid)

    async def _submit(
        self,
        study: StudyLog,
        task: Request,
        expected: str,
        *,
        time_left_s: float | None = None,
        is_ahead: bool = False,
    ) -> compute_pb2.ComputeReply:
        lane = self._lane(study.uid)
        lane.start()
        reply = await lane.submit(study, task, time_left_s=time_left_s, is_ahead=is_ahead)
        match reply.WhichOneof("result"):
            case "failure":
                raise error_of(reply.failure)
            case result if result == expected:
                return reply
            case result:
                raise ComputeFailedError(f"compute answered {result!r} for {expected!r}")

    def _lane(self, uid: str) -> Lane:
        """Choose the process of a study: always the same, also after a restart."""
        return self._lanes[zlib.crc32(uid.encode()) % len(self._lanes)]
