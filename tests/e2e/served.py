"""A real server on a free port: in a thread of this process, or as a process of its own."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import psutil

from bbopt.rpc.errors import error_from_rpc
from bbopt.rpc.v1 import insight_service_pb2_grpc as insight_grpc
from bbopt.rpc.v1 import optimization_service_pb2 as pb
from bbopt.rpc.v1 import optimization_service_pb2_grpc as pb_grpc
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt_server.app import App
from bbopt_server.compute import Compute
from bbopt_server.rpc.server import Address
from bbopt_server.settings import MEMORY, Settings
from bbopt_server.storage import open_store
from tests.unit.server.service import FakeCompute

T = TypeVar("T")

PARENT = "projects/default"


def new_id() -> str:
    return uuid.uuid4().hex


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def loss_at(trial: trial_pb2.Trial) -> float:
    """Return what a trial of ``quadratic`` measures: a bowl round (0.3, 0.6)."""
    x, y = (trial.parameters[name].double_value for name in "xy")
    return (x - 0.3) ** 2 + (y - 0.6) ** 2


class ServerThread:
    """An ``App`` on an event loop in a thread."""

    def __init__(
        self, db: str = MEMORY, compute: Compute | None = None, *, has_ready_queue: bool = True
    ) -> None:
        self.db = db
        self.compute = compute
        self.has_ready_queue = has_ready_queue
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address = self.run(self._start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's loop."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60.0)

    async def _start(self) -> str:
        settings = Settings(
            db=self.db,
            listen=Address("127.0.0.1", 0),
            device="cpu",
            has_ready_queue=self.has_ready_queue,
        )
        compute = self.compute if self.compute is not None else FakeCompute()
        self.app = App(settings, open_store(self.db), compute)
        return str(await self.app.start())

    def stop(self, grace_s: float = 1.0) -> None:
        self.run(self.app.stop(grace_s))
        self.run(asyncio.sleep(0.05))  # gRPC's own tasks end a little later.
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()


@dataclass
class Caller:
    """Blocking calls of a server; errors are those of the library."""

    address: str
    worker: str = "w"
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.insecure_channel(self.address, options=options)
        self.optimization = pb_grpc.OptimizationServiceStub(self.channel)
        self.insight = insight_grpc.InsightServiceStub(self.channel)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: Callable[..., T], request: object, timeout_s: float = 20.0) -> T:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from None  # type: ignore[arg-type]

    def create(self, study_id: str, spec: study_pb2.StudySpec) -> study_pb2.Study:
        request = pb.CreateStudyRequest(
            parent=PARENT,
            study_id=study_id,
            study=study_pb2.Study(spec=spec),
            request_id=new_id(),
        )
        return self.call(self.optimization.CreateStudy, request)

    def ask(
        self, study: str, count: int = 1, *, timeout_s: float = 20.0, request_id: str = ""
    ) -> pb.AskTrialsResponse:
        request = pb.AskTrialsRequest(
            parent=study,
            count=count,
            worker_id=self.worker,
            request_id=request_id or new_id(),
        )
        return self.call(self.optimization.AskTrials, request, timeout_s)

    def tell(
        self, study: str, trial: trial_pb2.Trial, loss: float, *, request_id: str = ""
    ) -> pb.TellResult:
        measurement = trial_pb2.Measurement(metrics={"loss": trial_pb2.Value(value=loss)})
        tell = pb.Tell(
            trial=trial.name,
            lease_token=trial.lease.token,
            outcome=trial_pb2.Outcome(completed=measurement),
        )
        request = pb.TellTrialsRequest(
            parent=study, tells=[tell], request_id=request_id or new_id()
        )
        return self.call(self.optimization.TellTrials, request).results[0]

    def trials(self, study: str) -> list[trial_pb2.Trial]:
        """List every trial, page by page."""
        found: list[trial_pb2.Trial] = []
        request = pb.ListTrialsRequest(parent=study, page_size=1000)
        while True:
            page = self.call(self.optimization.ListTrials, request)
            found.extend(page.trials)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@contextmanager
def serving(
    db: str = MEMORY, compute: Compute | None = None, *, has_ready_queue: bool = True
) -> Iterator[Caller]:
    """Serve in a thread for as long as the block runs."""
    server = ServerThread(db, compute, has_ready_queue=has_ready_queue)
    try:
        with Caller(server.address) as caller:
            yield caller
    finally:
        server.stop()


class ServerProcess:
    """``python -m bbopt_server``, or another program for it, on a database file."""

    def __init__(
        self,
        db: str,
        *flags: str,
        listen: str = "127.0.0.1:0",
        environment: Sequence[str] = (),
        program: Sequence[str] = ("-m", "bbopt_server"),
    ) -> None:
        variables = dict(os.environ) | dict(each.split("=", 1) for each in environment)
        command = [sys.executable, *program, "--db", db, "--listen", listen]
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [*command, "--device", "cpu", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = json.loads(line)["address"] if line else ""

    @property
    def compute_processes(self) -> list[psutil.Process]:
        """Those that there are now."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def end(self, signal_number: int, *, timeout_s: float = 30.0) -> tuple[int, str]:
        """Send a signal, wait; return the exit status and what was written to stderr."""
        self.process.send_signal(signal_number)
        return self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float = 30.0) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, errors
