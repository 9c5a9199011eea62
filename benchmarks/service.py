"""The service as its clients see it: throughput, latency, start, recovery, memory.

A real server process on loopback with its database on disk (``--folder`` says where: what a
commit costs is the disk's), real compute behind it, and this process as all of its clients. On
a small machine the clients' own work is a good part of what is measured, so the CPU time of
each process is printed beside it. What gRPC itself can do is measured in the same run, just
before and after each row, because a machine that others use is not the same a minute later::

    python -m benchmarks.service                  # everything, about five minutes
    python -m benchmarks.service --only pairs gp  # some of it
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.rpc.v1 import trial_pb2
from bbopt.specs import GPSpec, RandomSpec, SobolSpec, StrategySpec
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


async def pairs(folder: Path, duration_s: float) -> None:
    """Ask and tell as fast as the clients can, every pair durable."""
    print(f"\nAsk + tell, {N_PARAMETERS} parameters, {duration_s:.0f} s each, durable commits.")
    print("Latencies and CPU per pair in ms. A pair is two calls, or one of TellAndAsk;")
    print("'of echo' is pairs a second as a share of the calls a second of a bare gRPC echo by")
    print("as many clients, before and after the row.")
    titles = ("strategy", "calls", "clients", "studies", "pairs/s", "echo/s", "of echo")
    print(row(*titles, *_LATENCIES, *_CPU, widths=_PAIRS))
    async with serving(folder / "pairs.db") as server, echoing() as echo:
        await server.until_compute_is_ready()
        for load in _LOADS:
            studies = [await create_study(server, load.strategy) for _ in range(load.n_studies)]
            before = await echo.calls_per_s(load.n_clients, 0.2 * duration_s)
            n_per_s, figures = await _run_pairs(server, studies, load, duration_s)
            after = await echo.calls_per_s(load.n_clients, 0.2 * duration_s)
            n_echo = (before + after) / 2
            shares = (f"{n_per_s:.0f}", f"{n_echo:.0f}", f"{100 * n_per_s / n_echo:.0f} %")
            calls = "one" if load.is_joined else "two"
            cells = (load.generator, calls, load.n_clients, load.n_studies)
            print(row(*cells, *shares, *figures, widths=_PAIRS))


_LATENCIES = ("ask p50", "ask p99", "tell p50", "tell p99")
_CPU = ("front", "compute", "clients")
_PAIRS = (8, *(7,) * 13)


async def _run_pairs(
    server: Server, studies: Sequence[str], load: Load, duration_s: float
) -> tuple[float, list[str]]:
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
    used = [after - old for after, old in zip(server.cpu_s(), before, strict=True)]
    used.append(time.process_time() - own_before)
    latencies = [asks.ms(0.5), asks.ms(0.99)]
    latencies += ["", ""] if load.is_joined else [tells.ms(0.5), tells.ms(0.99)]
    return n_pairs / took_s, [*latencies, *(f"{1e3 * each / n_pairs:.2f}" for each in used)]


async def memory(folder: Path, n_tells: int) -> None:
    """What the front keeps of tells: nothing, once its caches are full."""
    n_first = 10_000
    print(f"\nThe front's own memory over {n_tells} tells of one study, MiB")
    async with serving(folder / "memory.db") as server:
        await server.until_compute_is_ready()
        study = await create_study(server, SobolSpec())
        _say("at the start", server.memory_mib())
        await _ask_and_tell_batches(server, study, n_first)
        first = server.memory_mib()
        _say(f"after {n_first} tells (SQLite's cache has its 16)", first)
        for part in range(5):
            await _ask_and_tell_batches(server, study, n_tells // 5)
            _say(f"after {n_first + (part + 1) * n_tells // 5}", server.memory_mib())
        _say(f"grown by, over the last {n_tells}", server.memory_mib() - first)


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


async def ready_queue(folder: Path, n_asks: int) -> None:
    """Asks that come a while after the tell, when their points have been computed."""
    print(f"\nAsk {_PAUSE_S} s after each tell, Gaussian process, 100 observations,")
    print(f"{n_asks} asks each, ms. Beside it, called in turn by the same client: a bare gRPC")
    print(
        "echo, a call of this server that reads nothing (GetServerInfo), and the tell, which is"
    )
    print("a durable commit. 'of echo' is the ratio of the medians of ask and echo.")
    titles = ("queue", "parameters", "ask p50", "ask p95", "echo p50", "info p50", "tell p50")
    print(row(*titles, "of echo", widths=_READY))
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
                print(row(switch, n_parameters, *figures, widths=_READY))


_READY = (6, 10, 8, 8, 8, 8, 8, 8)
_PAUSE_S = 0.25
"""Longer than it takes to compute a point."""


async def _ask_later(server: Server, echo: EchoServer, study: str, n_asks: int) -> list[str]:
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
    shown = (asks.ms(0.5), asks.ms(0.95), echoes.ms(0.5), infos.ms(0.5), tells.ms(0.5))
    return [*shown, f"{ratio:.1f}"]


async def interference(folder: Path, n_probes: int) -> None:
    """What other calls notice while compute fits: the front's event loop must stay free."""
    print(f"\nOther calls, {n_probes} each 5 ms apart, and how late the front's loop is, ms")
    widths = (30, 8, 8, 8)
    print(row("call", "p50", "p99", "max", widths=widths))
    async with serving(folder / "busy.db", is_probed=True) as server:
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
            await server.take_lags()
            info = service_pb2.GetServerInfoRequest()
            await probe(f"GetServerInfo, {when}", lambda: server.stub.GetServerInfo(info))
            trials = [await ask(server, other) for _ in range(n_probes)]
            await probe(f"tell, {when}", lambda: tell(server, other, trials.pop()))
            lags = Samples(await server.take_lags())
            figures = (lags.ms(0.5), lags.ms(0.99), lags.ms(1.0))
            print(row(f"loop, {when}", *figures, widths=widths))

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


def _say(label: str, figure: float) -> None:
    print(row(label, f"{figure:.2f}", widths=(44, 8)))


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
            "queue": lambda: ready_queue(folder, n_asks=40),
            "interference": lambda: interference(folder, n_probes=300),
            "memory": lambda: memory(folder, n_tells=50_000),
            "pairs": lambda: pairs(folder, arguments.seconds),
        }
        for part in arguments.only or parts:
            await parts[part]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where the databases go; a temporary folder in it")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row of ask + tell")
    parts = ("recovery", "gp", "queue", "interference", "memory", "pairs")
    parser.add_argument("--only", nargs="*", choices=parts)
    asyncio.run(main(parser.parse_args()))
