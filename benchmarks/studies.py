"""Many studies on one server: who waits how long, and what a study costs in memory.

A real server with its compute processes, and clients that go through all studies in turn: ask,
tell, on to the next one. The studies begin with observations of their own: a few are worked
out by asking and telling, and their rows in the database are copied under new names while no
server has the file. So the first lap finds what a server finds after a restart: logs with
everything in them and nothing in memory. ``--large`` adds a study of that many observations
that is asked all the time meanwhile::

    python -m benchmarks.studies                                   # 1,000 studies, two minutes
    python -m benchmarks.studies --studies 100 --templates 2       # a look
    python -m benchmarks.studies --large 1000                      # a big one among them

Prints a table, lines that say PASS or FAIL, and, with ``--out``, the figures as JSON lines.
"""

import argparse
import asyncio
import itertools
import json
import shlex
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np

from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.specs import GPSpec
from benchmarks.service import row
from benchmarks.service_clients import ask, create_study, expect, record, tell
from benchmarks.service_processes import Memory, Server, serving

MOST_WAIT = 20.0
"""Medians that no ask may take."""
MOST_MEMORY_KIB = 64.0
"""Memory that a study may take beyond its data at rest."""
_N_WARM_UP = 8
"""Studies that are asked before memory is first looked at: what a process takes for its first
asks is no study's.
"""
_TIDY_S = 25.0
"""Within which a process without requests has given back what idle studies took."""
_TABLES = ("study", "trial", "event", "measurement")
_KEY_OF = "SELECT key FROM study WHERE study_id = ?"


@dataclass(slots=True)
class Lap:
    """What happened while the clients went once through all studies."""

    name: str
    asks: list[float] = field(default_factory=list)
    """Seconds of each ask, one for each study."""
    tells: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)
    """Seconds of the asks of the large study meanwhile."""
    took_s: float = 0.0
    cpu_s: tuple[float, float] = (0.0, 0.0)
    """Of the front and of compute."""

    @property
    def worst(self) -> float:
        """The longest wait for an ask, in medians."""
        return max(self.asks) / float(np.median(self.asks))

    def cells(self) -> list[str]:
        """Lay the lap out for a table, times in ms."""
        quantiles = [1e3 * float(np.quantile(self.asks, q)) for q in (0.5, 0.9, 0.99, 1.0)]
        tells = [1e3 * float(np.quantile(self.tells, q)) for q in (0.5, 1.0)]
        cpu = [1e3 * each / len(self.asks) for each in self.cpu_s]
        shown = [f"{each:.1f}" for each in (*quantiles, self.worst, *tells, *cpu)]
        return [self.name, f"{self.took_s:.0f}", *shown]


_TITLES = ("lap", "s", "ask p50", "p90", "p99", "max", "max/p50", "tell p50", "max")
_CPU = ("front", "compute")
_WIDTHS = (14, 5, *(8,) * 9)


async def _templates(db: Path, arguments: argparse.Namespace) -> list[str]:
    """Work out some studies by asking and telling; return their names."""
    async with serving(db) as server:
        await server.until_compute_is_ready()
        studies = [
            await create_study(server, GPSpec(), n_parameters=arguments.parameters)
            for _ in range(arguments.templates)
        ]
        for study in studies:
            for _ in range(arguments.observations):
                await tell(server, study, await ask(server, study))
        return studies


def _copy(db: Path, names: Sequence[str], n: int, *, name: str = "copy") -> list[str]:
    """Copy studies until there are ``n`` more; return the names of the copies."""
    with closing(sqlite3.connect(db)) as connection, connection:
        columns = {
            table: [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
            for table in _TABLES
        }
        ids = [each.rpartition("/")[2] for each in names]
        keys = [
            connection.execute("SELECT key FROM study WHERE study_id = ?", (each,)).fetchone()[
                0
            ]
            for each in ids
        ]
        (last,) = connection.execute("SELECT max(key) FROM study").fetchone()
        copies = [f"{name}-{i}" for i in range(n)]
        for index, (copy, old) in enumerate(zip(copies, itertools.cycle(keys), strict=False)):
            new = {"key": last + 1 + index, "uid": uuid.uuid4().hex, "study_id": copy}
            _copy_rows(connection, columns["study"], "study", ("key", old), new)
            for table in _TABLES[1:]:
                moved = {"study_key": new["key"]}
                _copy_rows(connection, columns[table], table, ("study_key", old), moved)
    parent = names[0].rpartition("/")[0]
    return [f"{parent}/{each}" for each in copies]


def _copy_rows(
    connection: sqlite3.Connection,
    columns: Sequence[str],
    table: str,
    where: tuple[str, int],
    changed: dict[str, object],
) -> None:
    shown = ", ".join(f":{name}" if name in changed else name for name in columns)
    key, value = where
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 - names of our own schema
        f"SELECT {shown} FROM {table} WHERE {key} = {value}",
        changed,
    )


def _size(db: Path) -> int:
    """Return the bytes of a database that nobody has open."""
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return db.stat().st_size


async def _go_round(server: Server, studies: Sequence[str], n_clients: int, name: str) -> Lap:
    """Have the clients ask and tell every study once."""
    lap, turns = Lap(name), iter(studies)
    before, start = server.cpu_s(), time.perf_counter()
    await asyncio.gather(*(_take_turns(server, turns, lap) for _ in range(n_clients)))
    lap.took_s = time.perf_counter() - start
    front, compute = (new - old for new, old in zip(server.cpu_s(), before, strict=True))
    lap.cpu_s = (front, compute)
    return lap


async def _take_turns(server: Server, turns: Iterator[str], lap: Lap) -> None:
    for study in turns:
        start = time.perf_counter()
        trial = await ask(server, study)
        asked = time.perf_counter()
        expect(trial, "gp")
        await tell(server, study, trial)
        lap.asks.append(asked - start)
        lap.tells.append(time.perf_counter() - asked)


async def _keep_busy(server: Server, study: str, asks: list[float]) -> None:
    """Ask and tell a study without a pause."""
    while True:
        start = time.perf_counter()
        trial = await ask(server, study)
        asks.append(time.perf_counter() - start)
        expect(trial, "gp")
        await tell(server, study, trial)


@dataclass(slots=True)
class Report:
    """What a run found."""

    laps: list[Lap] = field(default_factory=list)
    empty: Memory = field(default_factory=Memory)
    """After the warm-up."""
    busy: Memory = field(default_factory=Memory)
    """Right after the last lap."""
    at_rest: Memory = field(default_factory=Memory)
    """When nobody has asked for a while."""
    data_bytes: float = 0.0
    """Of one study in the database."""

    def memory_kib(self, memory: Memory, n_studies: int) -> float:
        """Return what a study takes."""
        return 1024.0 * (memory.total_mib - self.empty.total_mib) / n_studies


async def _measure(
    db: Path, names: Sequence[str], warm_up: Sequence[str], arguments: argparse.Namespace
) -> Report:
    report = Report()
    flags = ["--compute-processes", str(arguments.processes)]
    flags += ["--compute-idle", str(arguments.idle), *shlex.split(arguments.server)]
    async with serving(db, *flags) as server:
        await server.until_compute_is_ready()
        for study in (*warm_up, *warm_up):
            await tell(server, study, await ask(server, study))
        asks: list[float] = []
        busy: asyncio.Task[None] | None = None
        if arguments.large:
            large = await create_study(server, GPSpec(), n_parameters=arguments.parameters)
            n, dim = arguments.large, arguments.parameters
            await record(server, large, n, n_parameters=dim, seed=1)
            await tell(server, large, await ask(server, large))
            busy = asyncio.create_task(_keep_busy(server, large, asks))
        await asyncio.sleep(1.0)
        report.empty = server.memory()
        _say_memory("before the first lap", report.empty)
        print(row(*_TITLES, *_CPU, widths=_WIDTHS), flush=True)
        for n_clients in arguments.clients:
            for number in range(arguments.laps):
                n_before = len(asks)
                lap = await _go_round(
                    server, names, n_clients, f"{n_clients} clients, {number + 1}"
                )
                lap.large = asks[n_before:]
                report.laps.append(lap)
                print(row(*lap.cells(), widths=_WIDTHS), flush=True)
        if busy is not None:
            busy.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await busy
            _say_large(asks)
        report.busy = server.memory()
        _say_memory("after the last lap", report.busy)
        rest_s = arguments.idle + _TIDY_S
        await asyncio.sleep(rest_s)
        report.at_rest = server.memory()
        _say_memory(f"{rest_s:.0f} s later", report.at_rest)
        await server.stub.GetServerInfo(service_pb2.GetServerInfoRequest())
    return report


def _say_memory(when: str, memory: Memory) -> None:
    print(f"front {memory.front_mib:.1f} MiB, compute {memory.compute_mib:.1f} MiB {when}")


def _say_large(asks: Sequence[float]) -> None:
    if asks:
        p50, most = 1e3 * float(np.median(asks)), 1e3 * max(asks)
        print(f"large study: {len(asks)} asks, p50 {p50:.1f} ms, max {most:.1f} ms")


def _judge(report: Report, arguments: argparse.Namespace) -> None:
    for lap in report.laps:
        verdict = "PASS" if lap.worst <= MOST_WAIT else "FAIL"
        print(
            f"{verdict} {lap.name}: the longest wait is {lap.worst:.1f} medians, "
            f"wanted <= {MOST_WAIT:.0f}"
        )
    data_kib = report.data_bytes / 1024
    print(f"a study's data at rest: {data_kib:.1f} KiB in the database")
    if arguments.large:
        return  # Whose memory is in the sums.
    busy_kib = report.memory_kib(report.busy, arguments.studies)
    print(f"memory of a study with its models, after the last lap: {busy_kib:.1f} KiB")
    kib = report.memory_kib(report.at_rest, arguments.studies)
    verdict = "PASS" if kib - data_kib <= MOST_MEMORY_KIB else "FAIL"
    print(
        f"{verdict} memory of a study at rest: {kib:.1f} KiB, {kib - data_kib:.1f} beyond its "
        f"data, wanted <= {MOST_MEMORY_KIB:.0f}"
    )


def _write(report: Report, arguments: argparse.Namespace) -> None:
    settings = {
        key: value for key, value in vars(arguments).items() if key not in ("folder", "out")
    }
    with Path(arguments.out).open("a", encoding="utf-8") as out:
        for lap in report.laps:
            line = {"kind": "lap", **settings, **asdict(lap), "worst": lap.worst}
            out.write(json.dumps(line) + "\n")
        memory = {name: asdict(getattr(report, name)) for name in ("empty", "busy", "at_rest")}
        line = {"kind": "memory", **settings, **memory, "data_bytes": report.data_bytes}
        out.write(json.dumps(line) + "\n")


async def main(arguments: argparse.Namespace) -> None:
    """Make the studies, go round, judge."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        db = Path(folder) / "studies.db"
        start = time.perf_counter()
        templates = await _templates(db, arguments)
        warm_up = _copy(db, templates, _N_WARM_UP, name="warm")
        small = _size(db)
        names = _copy(db, templates, arguments.studies)
        data_bytes = (_size(db) - small) / arguments.studies
        took_s = time.perf_counter() - start
        print(
            f"{arguments.studies} studies of {arguments.observations} observations and "
            f"{arguments.parameters} parameters, made in {took_s:.0f} s; times in ms"
        )
        report = await _measure(db, names, warm_up, arguments)
        report.data_bytes = data_bytes
        _judge(report, arguments)
        if arguments.out:
            _write(report, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where the database goes; a temporary folder in it")
    parser.add_argument("--out", help="file that the figures are appended to, as JSON lines")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--observations", type=int, default=30, help="of each study")
    parser.add_argument("--parameters", type=int, default=6)
    parser.add_argument("--templates", type=int, default=10, help="studies that are copied")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8], help="that go round")
    parser.add_argument("--laps", type=int, default=2, help="of each number of clients")
    parser.add_argument("--large", type=int, default=0, help="observations of a big study")
    parser.add_argument("--processes", type=int, default=1, help="that compute")
    parser.add_argument(
        "--idle", type=float, default=30.0, help="seconds a study that rests keeps its models"
    )
    parser.add_argument("--server", default="", help="more flags for it, as --server=...")
    asyncio.run(main(parser.parse_args()))
