"""What an ask takes through the server, beside Optuna's and Ax's in process, in one run.

A real server with its database on disk, the client that users have, everything on this machine
and on one thread each. Run ``benchmarks/peers/install optuna ax`` once, then::

    python -m benchmarks.through_server             # minutes, most of them Ax's
    python -m benchmarks.through_server --records FILE

*Fresh*: all tools start from the same n results of Hartmann-6, 70 % uniform and 30 % around the
best of them, and take turns with rounds of their own: tell, and at once ask for one point. Only
the ask counts. Through the server it is sent when the tell has been answered, so that nothing
can have been computed for it; that it may join what the ready queue has just begun is part of
it. The peers' asks are timed inside their own processes, and so are ours in process.

*Ready*: an ask a while after the tell, when its point has been computed, beside a call of a
bare gRPC server that echoes 100 bytes; every round does one of each, the first in turns.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import grpc
import numpy as np
import torch

from bbopt import Optimizer
from bbopt.problems import hartmann6
from bbopt.specs import GPSpec, StudySpec
from bbopt_client import Client
from benchmarks.echo_server import METHOD
from benchmarks.latency import Data, make_data
from benchmarks.peers.environments import environment_of
from benchmarks.peers.process import running
from benchmarks.recording import (
    NOT_MEASURED,
    Recorded,
    Recorder,
    about_run,
    add_argument,
    fenced,
    open_records,
    show,
    table,
    verdict,
    versions_line,
)
from benchmarks.service_processes import EchoServer, Server, echoing, serving

SERVED = "bbopt through the server"
IN_PROCESS = "bbopt in process"
PEERS = {"optuna": "Optuna GPSampler in process", "ax": "Ax in process"}
READY, ECHO = "ask, point ready", "bare echo"
NEEDED = ((100, "optuna", 4.0), (100, "ax", 30.0), (1000, "optuna", 8.0))
"""Results, peer, and how many times faster ours has to be."""
MOST_ECHOES = 1.5
N_ROUNDS = 25
N_SLOW = {("ax", 100): 12, ("optuna", 1000): 10, ("ax", 1000): 0}
"""Fewer rounds where an ask takes seconds. Of Ax at 1,000, 40 s and more, nothing is needed."""
PAUSE_S = 0.2
"""Longer than it takes to compute a point."""
COMPUTED_MS = 2.0
"""With so much CPU time of compute in an ask, its point was not ready."""

T = TypeVar("T")
Took = tuple[float, float]
"""Wall and CPU milliseconds."""
Rounds = Generator[Took, None, None]


@dataclass(frozen=True, slots=True)
class Record:
    """What one tool took in each of its rounds; one JSON line."""

    tool: str
    n: int
    wall_ms: Sequence[float]
    cpu_ms: Sequence[float]
    versions: Mapping[str, str] = field(default_factory=dict)

    def wall(self, quantile: float) -> float:
        """Return a quantile of the wall time."""
        return float(np.quantile(self.wall_ms, quantile))

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        walls = (self.wall(0.5), self.wall(0.95), max(self.wall_ms))
        times = [f"{each:.1f}" for each in (*walls, float(np.mean(self.cpu_ms)))]
        return [str(self.n), self.tool, str(len(self.wall_ms)), *times]


# Fresh ---------------------------------------------------------------------------------------


def rounds_of_server(server: Server, data: Data) -> Rounds:
    """Go on through the server; CPU is that of front, compute and client, tell included."""
    known = data.known
    with Client(server.address, outbox=False) as client:
        spec = StudySpec(known.problem, GPSpec(), seed=1)
        study = client.create_study_from(f"fresh-{len(data.X)}", spec)
        for x, y in zip(data.X, data.y, strict=True):
            study.add(data.codec.decode(x), {"value": -float(y)})
        (trial,) = study.ask()
        while True:
            value = known.evaluate(trial.parameters)
            others_s, own_s = server.all_cpu_s(), time.process_time()
            trial.tell(value)
            start = time.perf_counter()  # At once: a pause would be a start for the queue.
            asked = study.ask(allow_fallback=False)
            wall_s = time.perf_counter() - start
            cpu_s = time.process_time() - own_s + server.all_cpu_s() - others_s
            trial = asked[0]
            assert trial.provenance.generator == "gp", trial.provenance
            yield 1e3 * wall_s, 1e3 * cpu_s


def rounds_of_optimizer(data: Data) -> Rounds:
    """Go on with ``Optimizer`` in this process."""
    optimizer = Optimizer(data.known.problem, "gp", seed=1)
    for x, y in zip(data.X, data.y, strict=True):
        trial = optimizer.enqueue(data.codec.decode(x))
        optimizer.ask()
        optimizer.tell(trial, -float(y))
    while True:
        asked, took = timed(optimizer.ask, lambda: 0.0)
        yield took
        trial = asked[0]
        optimizer.tell(trial, data.known.evaluate(trial.parameters))


def rounds_of_peer(name: str, data: Data, versions: dict[str, str]) -> Rounds:
    """Go on with a peer in its own interpreter, and note its versions."""
    with running(name) as peer:
        data.hand_over(peer)
        versions.update(peer.versions)
        while True:
            answer = peer.ask()
            yield 1e3 * answer.wall_s, 1e3 * answer.cpu_s
            peer.tell(data.known.evaluate(answer.parameters)["value"])


def measure_fresh(server: Server, n: int, n_rounds: int) -> list[Record]:
    """Let every tool take its rounds in turn; the first is cold, and dropped."""
    data = make_data(hartmann6(), n)
    versions: dict[str, dict[str, str]] = {name: {} for name in PEERS}
    with ExitStack() as stack:
        sources = {
            SERVED: stack.enter_context(closing(rounds_of_server(server, data))),
            IN_PROCESS: stack.enter_context(closing(rounds_of_optimizer(data))),
        }
        n_wanted = dict.fromkeys(sources, n_rounds)
        for name, title in PEERS.items():
            n_wanted[title] = min(n_rounds, N_SLOW.get((name, n), n_rounds))
            if environment_of(name).is_installed and n_wanted[title] > 0:
                source = rounds_of_peer(name, data, versions[name])
                sources[title] = stack.enter_context(closing(source))
        rounds: dict[str, list[Took]] = {tool: [] for tool in sources}
        for index in range(n_rounds + 1):
            for tool in rotated(list(sources), index):
                if index <= n_wanted[tool]:
                    rounds[tool].append(next(sources[tool]))
    found = {PEERS[name]: each for name, each in versions.items()}
    return [_record(tool, n, each[1:], found.get(tool, {})) for tool, each in rounds.items()]


def rotated(tools: Sequence[T], index: int) -> Sequence[T]:
    """Begin with another one each time: whoever runs after its like finds caches filled."""
    first = index % len(tools)
    return [*tools[first:], *tools[:first]]


def _record(
    tool: str, n: int, rounds: Sequence[Took], versions: Mapping[str, str] | None = None
) -> Record:
    walls, cpus = zip(*rounds, strict=True)
    return Record(
        tool,
        n,
        [round(each, 3) for each in walls],
        [round(each, 3) for each in cpus],
        versions or {},
    )


# Ready ---------------------------------------------------------------------------------------


def measure_ready(
    server: Server, echo: EchoServer, n_rounds: int, *, n: int = 100
) -> list[Record]:
    """Ask when the point has been computed, and echo; one of each a round."""
    data = make_data(hartmann6(), n)
    with (
        Client(server.address, outbox=False) as client,
        grpc.insecure_channel(echo.address) as channel,
    ):
        study = client.create_study_from(
            "ready", StudySpec(data.known.problem, GPSpec(), seed=1)
        )
        for x, y in zip(data.X, data.y, strict=True):
            study.add(data.codec.decode(x), {"value": -float(y)})
        (trial,) = study.ask()
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        asks: list[Took] = []
        echoes: list[Took] = []
        n_missed = 0
        for index in range(n_rounds):
            trial.tell(data.known.evaluate(trial.parameters))
            time.sleep(PAUSE_S)
            if index % 2:
                echoes.append(timed(lambda: call(b"x" * 100), echo.cpu_s)[1])
            computed_s = server.cpu_s()[1]
            asked, took = timed(study.ask, lambda: server.cpu_s()[0])
            trial = asked[0]
            if 1e3 * (server.cpu_s()[1] - computed_s) > COMPUTED_MS:
                n_missed += 1
            else:
                asks.append(took)
            if not index % 2:
                echoes.append(timed(lambda: call(b"x" * 100), echo.cpu_s)[1])
    if n_missed:
        print(f"{n_missed} of {n_rounds} points were not ready, and are left out")
    return [_record(READY, n, asks), _record(ECHO, 0, echoes)]


def timed(call: Callable[[], T], cpu_s: Callable[[], float]) -> tuple[T, Took]:
    """Return what a call returns, and what it took.

    Args:
        call: Is timed.
        cpu_s: Reads the CPU time of the other processes that take part.
    """
    others_s = cpu_s()  # Reading it is not part of what is measured.
    own_s, start = time.process_time(), time.perf_counter()
    answer = call()
    wall_s = time.perf_counter() - start
    own_s = time.process_time() - own_s
    return answer, (1e3 * wall_s, 1e3 * (cpu_s() - others_s + own_s))


# Report --------------------------------------------------------------------------------------


def report(recorded: Recorded) -> list[str]:
    """Lay out the tables and the verdicts, in Markdown."""
    records = [Record(**row) for row in recorded.rows]
    fresh = [each for each in records if each.tool not in (READY, ECHO)]
    ready = [each for each in records if each.tool in (READY, ECHO)]
    head = ["n", "tool", "rounds", "ask p50", "ask p95", "slowest", "CPU, mean"]
    lines = table(head, (each.cells() for each in fresh))
    head = ["n", "call", "calls", "p50", "p95", "slowest", "CPU, mean"]
    lines += ["", *table(head, (each.cells() for each in ready))]
    return [*lines, *fenced(verdicts(records)), *versions_line(recorded)]


def verdicts(records: Sequence[Record]) -> list[str]:
    """Compare median and 95th percentile with what is wanted."""
    found = {(each.tool, each.n): each for each in records}
    lines = []
    for n, peer, wanted in NEEDED:
        ours, theirs = found.get((SERVED, n)), found.get((PEERS[peer], n))
        if ours is None or theirs is None:
            lines.append(f"{NOT_MEASURED} n={n}: {PEERS[peer]} was not measured")
            continue
        for name, quantile in (("p50", 0.5), ("p95", 0.95)):
            ratio = theirs.wall(quantile) / ours.wall(quantile)
            text = f"n={n} {name}: {ratio:.1f} times faster than {PEERS[peer]}, "
            lines.append(verdict(ratio >= wanted, f"{text}wanted {wanted:g}"))
    ready = next((each for each in records if each.tool == READY), None)
    echo = next((each for each in records if each.tool == ECHO), None)
    if ready is None or echo is None:
        return [*lines, f"{NOT_MEASURED} the ready queue was not measured"]
    ratio = ready.wall(0.5) / echo.wall(0.5)
    cpu = float(np.mean(ready.cpu_ms)) / float(np.mean(echo.cpu_ms))
    text = f"ready p50: {ratio:.2f} times a bare echo ({cpu:.1f} times its CPU), "
    return [*lines, verdict(ratio <= MOST_ECHOES, f"{text}wanted {MOST_ECHOES:g}")]


async def measure(folder: Path, settings: argparse.Namespace, recorder: Recorder) -> None:
    """Run what has no record; a server for each part."""
    for n in settings.n:
        if recorder.has(tool=SERVED, n=n):
            continue
        async with serving(folder / f"fresh-{n}.db") as server:
            await server.until_compute_is_ready()
            for each in measure_fresh(server, n, settings.rounds):
                recorder.add(asdict(each))
    if settings.ready and not recorder.has(tool=READY):
        async with serving(folder / "ready.db") as server, echoing() as echo:
            await server.until_compute_is_ready()
            for each in measure_ready(server, echo, settings.ready):
                recorder.add(asdict(each))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 1 if something is missed or was not measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--ready", type=int, default=60, help="rounds of asks that are ready")
    add_argument(parser)
    settings = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about = about_run("torch", "grpcio", rounds=settings.rounds, ready=settings.ready)
    recorder = open_records(parser, settings.records, about)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), settings, recorder))
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
