"""The front's end of one compute process, from its start to its death."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError

from bbopt.rpc.v1 import compute_pb2
from bbopt_server.compute.errors import ComputeUnavailableError
from bbopt_server.compute.failures import NOT_INSTALLED
from bbopt_server.compute.frames import FrameError, frame, read_frame

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Set to 1 in every compute process: two BLAS threads on two busy cores took 18 times as long
as one, waiting for each other.
"""
_STDERR = 2

_log = logging.getLogger(__name__)


class ProcessLostError(Exception):
    """The process died, hung or spoke nonsense, and is of no more use."""


class NotInstalledError(ComputeUnavailableError):
    """The packages of the engine are missing; no use in trying again."""


class Connection:
    """A running process and the socket to it; one request at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Take over a process that has just been started; use ``open``."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._answer: asyncio.Future[compute_pb2.ComputeReply] | None = None
        self._reading = asyncio.create_task(self._read())
        self._lost = ""

    @classmethod
    async def open(cls, command: Sequence[str], *, limit_s: float) -> "Connection":
        """Start a process and wait until it has loaded.

        Args:
            command: Program and arguments; ``--fd N`` is added.
            limit_s: How long loading may take.

        Raises:
            NotInstalledError: The process says that packages are missing.
            ProcessLostError: It ended, hung or said something else.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            try:
                process = _spawn([*command, "--fd", str(fd)], fd)
            except OSError as error:
                ours.close()
                raise ProcessLostError(f"cannot be started: {error}") from error
        reader, writer = await asyncio.open_connection(sock=ours)
        connection = cls(process, reader, writer)
        try:
            hello = await connection._next(limit_s)
        except BaseException:
            await connection.close()
            raise
        match hello.WhichOneof("result"):
            case "done":
                return connection
            case "failure" if hello.failure.reason == NOT_INSTALLED:
                await connection.close()
                raise NotInstalledError(hello.failure.message)
            case other:
                await connection.close()
                raise ProcessLostError(f"said {other!r} instead of hello")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_open(self) -> bool:
        """Whether the process still speaks: the end of one ends its socket."""
        return not self._reading.done()

    def when_lost(self, notify: Callable[[], None]) -> None:
        """Have ``notify`` called once the process is gone."""
        self._reading.add_done_callback(lambda _: notify())

    async def call(
        self, job: int, request: bytes, *, limit_s: float
    ) -> compute_pb2.ComputeReply:
        """Send a request and wait for its answer.

        Args:
            job: Number in the request, which the answer must repeat.
            request: A serialised ``ComputeRequest``.
            limit_s: How long the answer may take.

        Raises:
            ProcessLostError: There is none; close the connection.
        """
        with contextlib.suppress(ConnectionError):  # The reader says why.
            self._writer.write(frame(request))
        reply = await self._next(limit_s)
        if reply.job != job:
            raise ProcessLostError(f"answered job {reply.job} instead of {job}")
        return reply

    async def close(self, *, grace_s: float = 0.0) -> None:
        """End the process.

        Args:
            grace_s: How long it may take to leave by itself; then, or at once, it is killed.
        """
        self._writer.close()
        if grace_s > 0.0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, grace_s)
        if (status := self._process.poll()) is not None:
            _log.info("compute process %d had ended with status %d", self.pid, status)
        self._process.kill()  # Does nothing to one that has ended.
        await asyncio.to_thread(self._process.wait)
        self._reading.cancel()
        await asyncio.wait([self._reading])
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _next(self, limit_s: float) -> compute_pb2.ComputeReply:
        if self._reading.done():
            raise ProcessLostError(self._lost)
        loop = asyncio.get_running_loop()
        self._answer = answer = loop.create_future()
        timer = loop.call_later(limit_s, _time_out, answer, limit_s)
        try:
            reply: compute_pb2.ComputeReply = await answer
        finally:
            timer.cancel()
            self._answer = None
        return reply

    async def _read(self) -> None:
        """Hand answers over until there are no more; notice a death even when idle."""
        self._lost = "ended"
        try:
            while (message := await read_frame(self._reader)) is not None:
                reply = compute_pb2.ComputeReply.FromString(message)
                if self._answer is None or self._answer.done():
                    self._lost = "spoke without being asked"
                    break
                self._answer.set_result(reply)
        except (FrameError, DecodeError) as error:
            self._lost = f"spoke nonsense: {error}"
        finally:
            if self._answer is not None and not self._answer.done():
                self._answer.set_exception(ProcessLostError(self._lost))


def _time_out(answer: "asyncio.Future[compute_pb2.ComputeReply]", limit_s: float) -> None:
    if not answer.done():
        answer.set_exception(ProcessLostError(f"gave no answer in {limit_s:.0f} s"))


def _spawn(command: Sequence[str], fd: int) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C is the front's alone.

    It gets the socket, nothing on standard input, and standard error for all it prints.
    """
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        pass_fds=(fd,),
        start_new_session=True,
        env=os.environ | dict.fromkeys(_THREADS, "1"),
    )
