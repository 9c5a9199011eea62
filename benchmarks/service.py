"""The service as its clients see it: throughput, latency, start, recovery.

A real server process on loopback with its database on disk (``--folder`` says where: what a
commit costs is the disk's), real compute behind it, and this process as all of its clients. On
a small machine the clients' own work is a good part of what is measured, so the CPU time of
each process is printed beside it::

    python -m benchmarks.service                  # everything, about three minutes
    python -m benchmarks.service --only pairs gp  # some of it
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bbopt import Float, Metric, MetricKind, Problem, Space
from bbopt.problem import Goal
from bbopt.rpc.study import study_spec_to_message
from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.rpc.v1 import optimization_service_pb2_grpc as service_grpc
from bbopt.rpc.v1 import study_pb2, trial_pb2
from bbopt.specs import GPSpec, RandomSpec, SobolSpec, StrategySpec, StudySpec

T = TypeVar("T")

PROJECT = "projects/default"
N_PARAMETERS = 20
_TIMEOUT_S = 60.0


# The server --------------------------------------------------------------------------------


@dataclass(slots=True)
class Server:
    """A running server process."""

    process: subprocess.Popen[bytes]
    channel: grpc.aio.Channel
    started_at: float
    listening_s: float
    """From the start of the process to the line that says where it listens."""

    @property
    def stub(self) -> "service_grpc.OptimizationServiceAsyncStub":
        """What calls the server."""
        return service_grpc.OptimizationServiceStub(self.channel)

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
        """CPU seconds used so far by the front and by its compute process."""
        front = self.process.pid
        children = Path(f"/proc/{front}/task/{front}/children").read_text().split()
        return _cpu_s(front), sum(_cpu_s(int(pid)) for pid in children)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def serving(db: Path, *, is_killed: bool = False) -> AsyncIterator[Server]:
    """Run a server; at the end stop it in order, or kill it."""
    command = [sys.executable, "-m", "bbopt_server", "--db", str(db)]
    command += ["--listen", "127.0.0.1:0", "--device", "cpu", "--log-level", "error"]
    started_at = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603 - our own module
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    listening_s = time.perf_counter() - started_at
    address = json.loads(line)["address"]
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            yield Server(process, channel, started_at, listening_s)
        finally:
            process.send_signal(signal.SIGKILL if is_killed else signal.SIGTERM)
            await asyncio.to_thread(process.wait)
            process.stdout.close()


# Clients -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Samples:
    """Durations of one kind of call, in seconds."""

    seconds: list[float] = field(default_factory=list)

    async def time(self, call: Awaitable[T]) -> T:
        """Wait for a call and note how long it took."""
        start = time.perf_counter()
        answer = await call
        self.seconds.append(time.perf_counter() - start)
        return answer

    def ms(self, quantile: float) -> str:
        """Show a quantile in milliseconds."""
        return f"{1e3 * float(np.quantile(self.seconds, quantile)):.1f}"


def _request_id() -> str:
    return uuid.uuid4().hex


async def create_study(
    server: Server, strategy: StrategySpec, *, n_parameters: int = N_PARAMETERS
) -> str:
    """Create a study of real parameters on [0, 1] and return its name."""
    parameters = [Float(f"x{i}", 0.0, 1.0) for i in range(n_parameters)]
    metrics = (Metric("loss", MetricKind.OBJECTIVE, Goal.MINIMIZE),)
    spec = StudySpec(Problem(Space(tuple(parameters)), metrics), strategy, seed=1)
    study = await server.stub.CreateStudy(
        service_pb2.CreateStudyRequest(
            parent=PROJECT,
            study_id=f"study-{_request_id()[:12]}",
            study=study_pb2.Study(spec=study_spec_to_message(spec)),
            request_id=_request_id(),
        )
    )
    return study.name


def loss_at(parameters: Mapping[str, study_pb2.ParamValue]) -> float:
    """A bowl with ripples: a model has something to learn and never finishes."""
    x = np.array([parameters[name].double_value for name in sorted(parameters)])
    return float(((x - 0.4) ** 2).sum() + 0.1 * np.sin(12.0 * x).sum())


def _outcome(parameters: Mapping[str, study_pb2.ParamValue]) -> trial_pb2.Outcome:
    loss = trial_pb2.Value(value=loss_at(parameters))
    return trial_pb2.Outcome(completed=trial_pb2.Measurement(metrics={"loss": loss}))


async def ask(server: Server, study: str) -> trial_pb2.Trial:
    """Ask for one trial."""
    answer = await server.stub.AskTrials(
        service_pb2.AskTrialsRequest(
            parent=study, count=1, worker_id="benchmark", request_id=_request_id()
        ),
        timeout=_TIMEOUT_S,
    )
    (trial,) = answer.trials
    return trial


async def tell(server: Server, study: str, trial: trial_pb2.Trial) -> None:
    """Tell what a trial measured."""
    item = service_pb2.Tell(
        trial=str(trial.number),
        lease_token=trial.lease.token,
        outcome=_outcome(trial.parameters),
    )
    answer = await server.stub.TellTrials(
        service_pb2.TellTrialsRequest(parent=study, tells=[item], request_id=_request_id())
    )
    assert answer.results[0].status.code == 0, answer


async def record(server: Server, study: str, n: int, *, n_parameters: int, seed: int) -> None:
    """Give a study finished observations at random points."""
    rng = np.random.default_rng(seed)
    for row in rng.random((n, n_parameters)):
        parameters = {
            f"x{i}": study_pb2.ParamValue(double_value=float(x)) for i, x in enumerate(row)
        }
        await server.stub.CreateTrial(
            service_pb2.CreateTrialRequest(
                parent=study,
                parameters=parameters,
                outcome=_outcome(parameters),
                request_id=_request_id(),
            )
        )


def expect(trial: trial_pb2.Trial, generator: str) -> None:
    """Refuse to time a fallback as if it were a model's answer."""
    found = trial.provenance
    assert found.generator == generator, found
    assert not found.degraded_from, found


# What is measured --------------------------------------------------------------------------


async def pairs(folder: Path, duration_s: float) -> None:
    """Ask and tell as fast as the clients can, every pair durable."""
    print(f"\nAsk + tell, {N_PARAMETERS} parameters, {duration_s:.0f} s each, durable commits")
    print(row("strategy", "clients", "studies", "pairs/s", *_LATENCIES, *_CPU, widths=_PAIRS))
    cases = [
        (strategy, n_clients, n_studies)
        for strategy in (RandomSpec(), SobolSpec())
        for n_clients, n_studies in ((1, 1), (16, 1), (16, 16))
    ]
    async with serving(folder / "pairs.db") as server:
        await server.until_compute_is_ready()
        for strategy, n_clients, n_studies in cases:
            studies = [await create_study(server, strategy) for _ in range(n_studies)]
            name = "random" if isinstance(strategy, RandomSpec) else "sobol"
            figures = await _run_pairs(server, studies, n_clients, duration_s, name)
            print(row(name, n_clients, n_studies, *figures, widths=_PAIRS))


_LATENCIES = ("ask p50", "ask p99", "tell p50", "tell p99")
_CPU = ("front", "compute", "clients")
_PAIRS = (8, 7, 7, 8, *(8,) * 4, *(8,) * 3)


async def _run_pairs(
    server: Server, studies: Sequence[str], n_clients: int, duration_s: float, generator: str
) -> list[object]:
    asks, tells = Samples(), Samples()
    end_at = time.perf_counter() + duration_s

    async def client(study: str) -> None:
        while time.perf_counter() < end_at:
            trial = await asks.time(ask(server, study))
            expect(trial, generator)
            await tells.time(tell(server, study, trial))

    before, own_before = server.cpu_s(), time.process_time()
    start = time.perf_counter()
    await asyncio.gather(*(client(studies[i % len(studies)]) for i in range(n_clients)))
    took_s = time.perf_counter() - start
    used = [after - old for after, old in zip(server.cpu_s(), before, strict=True)]
    shares = [
        f"{100 * each / took_s:.0f} %" for each in (*used, time.process_time() - own_before)
    ]
    latencies = [asks.ms(0.5), asks.ms(0.99), tells.ms(0.5), tells.ms(0.99)]
    return [f"{len(tells.seconds) / took_s:.0f}", *latencies, *shares]


async def model(folder: Path, n_asks: int) -> None:
    """Asks that are answered by a Gaussian process which has seen the last tell."""
    print(f"\nAsk of a Gaussian process after each tell, {n_asks} asks each, ms")
    widths = (10, 12, 8, 8, 8)
    print(row("parameters", "observations", "ask p50", "ask p90", "tell p50", widths=widths))
    async with serving(folder / "gp.db") as server:
        await server.until_compute_is_ready()
        for n_parameters in (6, 20):
            for n in (50, 100):
                study = await create_study(server, GPSpec(), n_parameters=n_parameters)
                await record(server, study, n, n_parameters=n_parameters, seed=n)
                asks, tells = Samples(), Samples()
                expect(await ask(server, study), "gp")  # The first one folds the whole log.
                for _ in range(n_asks):
                    trial = await asks.time(ask(server, study))
                    expect(trial, "gp")
                    await tells.time(tell(server, study, trial))
                figures = (asks.ms(0.5), asks.ms(0.9), tells.ms(0.5))
                print(row(n_parameters, n, *figures, widths=widths))


async def interference(folder: Path, n_probes: int) -> None:
    """What other calls notice while compute fits: the front's event loop must stay free."""
    print(f"\nOther calls, {n_probes} each 5 ms apart, ms")
    widths = (30, 8, 8, 8)
    print(row("call", "p50", "p99", "max", widths=widths))
    async with serving(folder / "busy.db") as server:
        await server.until_compute_is_ready()
        busy = await create_study(server, GPSpec())
        other = await create_study(server, SobolSpec())
        await record(server, busy, 200, n_parameters=N_PARAMETERS, seed=3)
        await ask(server, busy)

        async def probe(label: str, call: Callable[[], Awaitable[object]]) -> None:
            samples = Samples()
            for _ in range(n_probes):
                await samples.time(call())
                await asyncio.sleep(0.005)
            figures = (samples.ms(0.5), samples.ms(0.99), samples.ms(1.0))
            print(row(label, *figures, widths=widths))

        async def probe_all(when: str) -> None:
            info = service_pb2.GetServerInfoRequest()
            await probe(f"GetServerInfo, {when}", lambda: server.stub.GetServerInfo(info))
            trials = [await ask(server, other) for _ in range(n_probes)]
            await probe(f"tell, {when}", lambda: tell(server, other, trials.pop()))

        async def fit_for_ever() -> None:
            while True:
                trial = await ask(server, busy)
                expect(trial, "gp")
                await tell(server, busy, trial)

        await probe_all("idle")
        fitting = asyncio.create_task(fit_for_ever())
        try:
            await probe_all("while a model is fitted")
        finally:
            fitting.cancel()
            await asyncio.wait([fitting])


async def recovery(folder: Path) -> None:
    """Kill the server of a study with 500 observations and ask again."""
    db, n = folder / "recovery.db", 500
    print(f"\nStart and recovery after kill -9, study of {n} observations, seconds")
    async with serving(db, is_killed=True) as server:
        _say("first start: listening (takes tells)", server.listening_s)
        _say("first start: compute ready", await server.until_compute_is_ready())
        study = await create_study(server, GPSpec())
        await record(server, study, n, n_parameters=N_PARAMETERS, seed=5)
        trial = await _say_ask(server, study, "first ask: reads the log, fits cold")
        await tell(server, study, trial)
        await tell(server, study, await _say_ask(server, study, "next ask: study is hot"))
    async with serving(db) as server:
        _say("after kill -9: listening", server.listening_s)
        _say("after kill -9: compute ready", await server.until_compute_is_ready())
        await _say_ask(server, study, "first ask: rebuilt from the log")
        trials = await server.stub.ListTrials(
            service_pb2.ListTrialsRequest(parent=study, page_size=1000)
        )
        assert len(trials.trials) == n + 3


async def _say_ask(server: Server, study: str, label: str) -> trial_pb2.Trial:
    samples = Samples()
    trial = await samples.time(ask(server, study))
    expect(trial, "gp")
    _say(label, samples.seconds[0])
    return trial


def _say(label: str, seconds: float) -> None:
    print(row(label, f"{seconds:.2f}", widths=(40, 8)))


def row(*cells: object, widths: Sequence[int]) -> str:
    """Lay out one line of a table."""
    return "  ".join(str(cell).rjust(width) for cell, width in zip(cells, widths, strict=True))


async def main(arguments: argparse.Namespace) -> None:
    """Run the parts that were asked for."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        parts: Mapping[str, Callable[[], Awaitable[None]]] = {
            "recovery": lambda: recovery(folder),
            "gp": lambda: model(folder, n_asks=20),
            "interference": lambda: interference(folder, n_probes=300),
            "pairs": lambda: pairs(folder, arguments.seconds),
        }
        for part in arguments.only or parts:
            await parts[part]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where the databases go; a temporary folder in it")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row of ask + tell")
    parser.add_argument(
        "--only", nargs="*", choices=("recovery", "gp", "interference", "pairs")
    )
    asyncio.run(main(parser.parse_args()))
