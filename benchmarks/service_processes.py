"""Server processes that a benchmark starts, and what it can read of them from outside."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bbopt.rpc.v1 import optimization_service_pb2_grpc as service_grpc
from benchmarks.echo_server import METHOD


@dataclass(slots=True)
class Server:
    """A running server process."""

    process: subprocess.Popen[bytes]
    address: str
    channel: grpc.aio.Channel
    started_at: float
    listening_s: float
    """From the start of the process to the line that says where it listens."""
    lags: Path
    """Where the probe of a probed server writes."""
    stub: "service_grpc.OptimizationServiceAsyncStub" = field(init=False)
    """What calls the server; made once, as a worker does."""

    def __post_init__(self) -> None:
        self.stub = service_grpc.OptimizationServiceStub(self.channel)

    async def until_compute_is_ready(self) -> float:
        """Return the seconds since the start at which asks are answered by strategies."""
        health = health_pb2_grpc.HealthStub(self.channel)
        while True:
            request = health_pb2.HealthCheckRequest(service="bbopt.Suggest")
            answer = await health.Check(request)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return time.perf_counter() - self.started_at
            await asyncio.sleep(0.01)

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds used so far by the front and by its compute processes."""
        return _cpu_s(self.process.pid), sum(map(_cpu_s, self._children()))

    def _children(self) -> list[int]:
        front = self.process.pid
        text = Path(f"/proc/{front}/task/{front}/children").read_text()
        return [int(pid) for pid in text.split()]

    def all_cpu_s(self) -> float:
        """CPU seconds used so far by both together."""
        return sum(self.cpu_s())

    def memory_mib(self) -> float:
        """Resident memory of the front that is its own: neither shared nor mapped files."""
        return _memory_mib(self.process.pid)

    def memory(self) -> "Memory":
        """The same of the front and of all compute processes."""
        return Memory(self.memory_mib(), sum(map(_memory_mib, self._children())))

    async def take_lags(self) -> list[float]:
        """Return by how many seconds the probe woke up late since the last time."""
        self.process.send_signal(signal.SIGUSR1)
        while not self.lags.exists():
            await asyncio.sleep(0.01)
        lags: list[float] = json.loads(self.lags.read_text())
        self.lags.unlink()
        return lags


def _cpu_s(pid: int) -> float:
    """Add up the threads that live, to the nanosecond: ``/proc/PID/stat`` counts hundredths."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


def _memory_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) / 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of processes that is their own, MiB."""

    front_mib: float = 0.0
    compute_mib: float = 0.0

    @property
    def total_mib(self) -> float:
        """Of all of them."""
        return self.front_mib + self.compute_mib


@asynccontextmanager
async def serving(
    db: Path,
    *flags: str,
    is_killed: bool = False,
    is_probed: bool = False,
) -> AsyncIterator[Server]:
    """Run a server; at the end stop it in order, or kill it."""
    lags = db.with_suffix(".lags")
    module = ["benchmarks.probed_server", str(lags)] if is_probed else ["bbopt_server"]
    command = [sys.executable, "-m", *module, "--db", str(db)]
    command += ["--listen", "127.0.0.1:0", "--device", "cpu", "--log-level", "error", *flags]
    started_at = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own module
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    listening_s = time.perf_counter() - started_at
    address = json.loads(line)["address"]
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            yield Server(process, address, channel, started_at, listening_s, lags)
        finally:
            process.send_signal(signal.SIGKILL if is_killed else signal.SIGTERM)
            await asyncio.to_thread(process.wait)
            process.stdout.close()


@dataclass(slots=True)
class EchoServer:
    """A running process that only echoes."""

    process: subprocess.Popen[bytes]
    address: str
    channel: grpc.aio.Channel

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        return _cpu_s(self.process.pid)

    async def call(self) -> bytes:
        """Send a hundred bytes and get them back."""
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        echo = self.channel.unary_unary(METHOD)
        return await echo(b"x" * 100)

    async def calls_per_s(self, n_clients: int, duration_s: float) -> float:
        """Call it as fast as some clients can."""
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        echo = self.channel.unary_unary(METHOD)
        end_at = time.perf_counter() + duration_s
        n_calls = 0

        async def client() -> None:
            nonlocal n_calls
            while time.perf_counter() < end_at:
                await echo(b"x" * 100)
                n_calls += 1

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(n_clients)))
        return n_calls / (time.perf_counter() - start)


@asynccontextmanager
async def echoing() -> AsyncIterator[EchoServer]:
    """Run a bare gRPC server."""
    command = [sys.executable, "-m", "benchmarks.echo_server"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own module
    assert process.stdout is not None
    port = int(await asyncio.to_thread(process.stdout.readline))
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            yield EchoServer(process, address, channel)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            process.stdout.close()
