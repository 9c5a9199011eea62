"""The service as its clients see it: throughput, latency, start, recovery, memory.

A real server process on loopback with its database on disk (``--folder`` says where: what a
commit costs is the disk's), real compute behind it, and this process as all of its clients. On
a small machine the clients' own work is a good part of what is measured, so the CPU time of
each process is printed beside it. What gRPC itself can do is measured in the same run, just
before and after each row, because a machine that others use is not the same a minute later::

    python -m benchmarks.service                  # everything, about five minutes
    python -m benchmarks.service --only pairs gp  # some of it

A part is one table of the report. ``--records`` keeps what each of them found once it is done.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.rpc.v1 import trial_pb2
from bbopt.specs import GPSpec, RandomSpec, SobolSpec, StrategySpec
from benchmarks.recording import Recorder, about_run, add_argument, open_records, show
from benchmarks.service_clients import (
    N_PARAMETERS,
    Samples,
    ask,
    create_study,
    expect,
    outcome_at,
    record,
    request_id,
    tell,
    tell_and_ask,
)
from benchmarks.service_processes import EchoServer, Server, echoing, serving
from benchmarks.service_report import PARTS, report

Row = dict[str, float | str | None]
"""A line of a table, by its columns."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients of one row of the table do."""

    strategy: StrategySpec
    n_clients: int
    n_studies: int
    is_joined: bool = False
    """Whether a result is told and the next trial asked for in one call."""

    @property
    def generator(self) -> str:
        """What the strategy's trials say of where they come from."""
        return "random" if isinstance(self.strategy, RandomSpec) else "sobol"


_LOADS = (
    *(
        Load(strategy, n_clients, n_studies)
        for strategy in (RandomSpec(), SobolSpec())
        for n_clients, n_studies in ((1, 1), (16, 1), (16, 16))
    ),
    Load(SobolSpec(), 1, 1, is_joined=True),
    Load(SobolSpec(), 16, 1, is_joined=True),
)


async def pairs(folder: Path, duration_s: float) -> AsyncIterator[Row]:
    """Ask and tell as fast as the clients can, every pair durable."""
    async with serving(folder / "pairs.db") as server, echoing() as echo:
        await server.until_compute_is_ready()
        for load in _LOADS:
            studies = [await create_study(server, load.strategy) for _ in range(load.n_studies)]
            before = await echo.calls_per_s(load.n_clients, 0.2 * duration_s)
            n_per_s, figures = await _run_pairs(server, studies, load, duration_s)
            after = await echo.calls_per_s(load.n_clients, 0.2 * duration_s)
            n_echo = (before + after) / 2
            about: Row = {
                "strategy": load.generator,
                "calls": "one" if load.is_joined else "two",
                "clients": load.n_clients,
                "studies": load.n_studies,
            }
            speed = {"pairs/s": n_per_s, "echo/s": n_echo, "of echo": n_per_s / n_echo}
            yield about | speed | figures


async def _run_pairs(
    server: Server, studies: Sequence[str], load: Load, duration_s: float
) -> tuple[float, Row]:
    """Return pairs a second, then latencies and CPU times of a pair."""
    asks, tells = Samples(), Samples()
    end_at = time.perf_counter() + duration_s
    n_pairs = 0

    async def client(study: str) -> None:
        nonlocal n_pairs
        while time.perf_counter() < end_at:
            trial = await asks.time(ask(server, study))
            expect(trial, load.generator)
            await tells.time(tell(server, study, trial))
            n_pairs += 1

    async def joined_client(study: str) -> None:
        nonlocal n_pairs
        trial = await ask(server, study)
        while time.perf_counter() < end_at:
            trial = await asks.time(tell_and_ask(server, study, trial))
            expect(trial, load.generator)
            n_pairs += 1

    run = joined_client if load.is_joined else client
    before, own_before = server.cpu_s(), time.process_time()
    start = time.perf_counter()
    await asyncio.gather(*(run(studies[i % len(studies)]) for i in range(load.n_clients)))
    took_s = time.perf_counter() - start
    front_s, compute_s = (new - old for new, old in zip(server.cpu_s(), before, strict=True))
    own_s = time.process_time() - own_before
    return n_pairs / took_s, {
        "ask p50": asks.ms(0.5),
        "ask p99": asks.ms(0.99),
        "tell p50": None if load.is_joined else tells.ms(0.5),
        "tell p99": None if load.is_joined else tells.ms(0.99),
        "front": 1e3 * front_s / n_pairs,
        "compute": 1e3 * compute_s / n_pairs,
        "clients' own": 1e3 * own_s / n_pairs,
    }


async def memory(folder: Path, n_tells: int) -> AsyncIterator[Row]:
    """What the front keeps of tells: nothing, once its caches are full."""
    async with serving(folder / "memory.db") as server:
        await server.until_compute_is_ready()
        study = await create_study(server, SobolSpec())
        n_told = 0
        for n in (0, n_tells // 6, *(n_tells // 6 * part for part in range(2, 7))):
            await _ask_and_tell_batches(server, study, n - n_told)
            n_told = n
            yield {"tells": n, "front": server.memory_mib()}


async def _ask_and_tell_batches(server: Server, study: str, n: int, size: int = 100) -> None:
    async def client() -> None:
        for _ in range(n // size // 4):
            wanted = service_pb2.AskTrialsRequest(
                parent=study, count=size, worker_id="benchmark", request_id=request_id()
            )
            asked = await server.stub.AskTrials(wanted)
            tells = [
                service_pb2.Tell(
                    trial=str(trial.number),
                    lease_token=trial.lease.token,
                    outcome=outcome_at(trial.parameters),
                )
                for trial in asked.trials
            ]
            told = await server.stub.TellTrials(
                service_pb2.TellTrialsRequest(
                    parent=study, tells=tells, request_id=request_id()
                )
            )
            assert all(result.status.code == 0 for result in told.results)

    await asyncio.gather(*(client() for _ in range(4)))


async def model(folder: Path, n_asks: int) -> AsyncIterator[Row]:
    """Asks that are answered by a Gaussian process which has seen the last tell."""
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
                yield {
                    "parameters": n_parameters,
                    "observations": n,
                    "asks": n_asks,
                    "ask p50": asks.ms(0.5),
                    "ask p90": asks.ms(0.9),
                    "tell p50": tells.ms(0.5),
                }


async def ready_queue(folder: Path, n_asks: int) -> AsyncIterator[Row]:
    """Asks that come a while after the tell, when their points have been computed."""
    for switch in ("on", "off"):
        async with (
            serving(folder / f"ready-{switch}.db", "--ready-queue", switch) as server,
            echoing() as echo,
        ):
            await server.until_compute_is_ready()
            for n_parameters in (6, 20):
                study = await create_study(server, GPSpec(), n_parameters=n_parameters)
                await record(server, study, 100, n_parameters=n_parameters, seed=7)
                figures = await _ask_later(server, echo, study, n_asks)
                about: Row = {"queue": switch, "parameters": n_parameters, "asks": n_asks}
                yield about | figures


_PAUSE_S = 0.25
"""Longer than it takes to compute a point."""


async def _ask_later(server: Server, echo: EchoServer, study: str, n_asks: int) -> Row:
    """Return latencies of asks whose points had time to be computed, and of other calls."""
    asks, tells, echoes, infos = Samples(), Samples(), Samples(), Samples()
    info = service_pb2.GetServerInfoRequest()
    trial = await ask(server, study)
    for _ in range(n_asks):
        await tells.time(tell(server, study, trial))
        await asyncio.sleep(_PAUSE_S)
        await infos.time(server.stub.GetServerInfo(info))
        await echoes.time(echo.call())
        trial = await asks.time(ask(server, study))
        expect(trial, "gp")
    ratio = float(np.median(asks.seconds) / np.median(echoes.seconds))
    return {
        "ask p50": asks.ms(0.5),
        "ask p95": asks.ms(0.95),
        "echo p50": echoes.ms(0.5),
        "GetServerInfo p50": infos.ms(0.5),
        "tell p50": tells.ms(0.5),
        "of echo": ratio,
    }


async def interference(folder: Path, n_probes: int) -> AsyncIterator[Row]:
    """What other calls notice while compute fits: the front's event loop must stay free."""
    async with serving(folder / "busy.db", is_probed=True) as server:
        await server.until_compute_is_ready()
        busy = await create_study(server, GPSpec())
        other = await create_study(server, SobolSpec())
        await record(server, busy, 200, n_parameters=N_PARAMETERS, seed=3)
        await ask(server, busy)

        async def fit_for_ever() -> None:
            while True:
                trial = await ask(server, busy)
                expect(trial, "gp")
                await tell(server, busy, trial)

        for row in await _probe(server, other, n_probes):
            yield {"while": "idle", **row}
        fitting = asyncio.create_task(fit_for_ever())
        try:
            rows = await _probe(server, other, n_probes)
        finally:
            fitting.cancel()
            await asyncio.wait([fitting])
        for row in rows:
            yield {"while": "a model is fitted", **row}


async def _probe(server: Server, study: str, n_probes: int) -> list[Row]:
    """Make calls 5 ms apart, and see how late the front's loop was meanwhile."""
    info = service_pb2.GetServerInfoRequest()
    infos, tells = Samples(), Samples()
    await server.take_lags()
    for _ in range(n_probes):
        await infos.time(server.stub.GetServerInfo(info))
        await asyncio.sleep(0.005)
    for trial in [await ask(server, study) for _ in range(n_probes)]:
        await tells.time(tell(server, study, trial))
        await asyncio.sleep(0.005)
    lags = Samples(await server.take_lags())
    named = {"GetServerInfo": infos, "tell": tells, "loop": lags}
    return [
        {"call": name, "p50": each.ms(0.5), "p99": each.ms(0.99), "max": each.ms(1.0)}
        for name, each in named.items()
    ]


async def recovery(folder: Path) -> AsyncIterator[Row]:
    """Kill the server of a study with 500 observations and ask again."""
    db, n = folder / "recovery.db", 500
    async with serving(db, is_killed=True) as server:
        first = [server.listening_s, await server.until_compute_is_ready()]
        study = await create_study(server, GPSpec())
        await record(server, study, n, n_parameters=N_PARAMETERS, seed=5)
        for _ in range(2):
            trial, took_s = await _timed_ask(server, study)
            await tell(server, study, trial)
            first.append(took_s)
    async with serving(db) as server:
        again = [server.listening_s, await server.until_compute_is_ready()]
        again.append((await _timed_ask(server, study))[1])
        trials = await server.stub.ListTrials(
            service_pb2.ListTrialsRequest(parent=study, page_size=1000)
        )
        assert len(trials.trials) == n + 3
    steps = ("listening, takes tells", "compute ready", "first ask: reads the log, fits")
    for step, before, after in zip(steps, first, again, strict=False):
        yield {"seconds": step, "first start": before, "after `kill -9`": after}
    yield {"seconds": "next ask", "first start": first[-1], "after `kill -9`": None}


async def _timed_ask(server: Server, study: str) -> tuple[trial_pb2.Trial, float]:
    samples = Samples()
    trial = await samples.time(ask(server, study))
    expect(trial, "gp")
    return trial, samples.seconds[0]


async def run_missing(
    recorder: Recorder, parts: Sequence[str], folder: Path, duration_s: float
) -> None:
    """Run the parts that have no record."""
    measured: Mapping[str, Callable[[], AsyncIterator[Row]]] = {
        "recovery": lambda: recovery(folder),
        "gp": lambda: model(folder, n_asks=20),
        "queue": lambda: ready_queue(folder, n_asks=40),
        "interference": lambda: interference(folder, n_probes=300),
        "memory": lambda: memory(folder, n_tells=60_000),
        "pairs": lambda: pairs(folder, duration_s),
    }
    for part, rows_of in measured.items():
        if part not in parts or recorder.has(part=part):
            continue
        rows = []
        async for row in rows_of():
            print(part, *row.values(), file=sys.stderr, flush=True)
            rows.append({"part": part, **row})
        for each in rows:  # All at once: a part that was broken off is run again.
            recorder.add(each)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no record and print the report; return 1 if something wanted is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where the databases go; a temporary folder in it")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row of ask + tell")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    add_argument(parser)
    settings = parser.parse_args(arguments)
    about = about_run("torch", "grpcio", seconds=settings.seconds)
    recorder = open_records(parser, settings.records, about)
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        asyncio.run(run_missing(recorder, settings.only, Path(folder), settings.seconds))
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
