"""Many studies on one server: who waits how long, and what a study costs in memory.

A real server with its compute processes, and clients that go through all studies in turn: ask,
tell, on to the next one. The studies begin with observations of their own: a few are worked
out by asking and telling, and their rows in the database are copied under new names while no
server has the file. So the first lap finds what a server finds after a restart: logs with
everything in them and nothing in memory. ``--large`` adds a study of that many observations
that is asked all the time meanwhile::

    python -m benchmarks.studies                                   # 1,000 studies, five minutes
    python -m benchmarks.studies --clients 1 --studies 100 --templates 2       # a look
    python -m benchmarks.studies --large 1000                      # a big one among them

Each number of clients is a run of its own, with a server and a database of its own, and a line
of ``--records``.
"""

import argparse
import asyncio
import itertools
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import grpc
import numpy as np

from bbopt.rpc.v1 import optimization_service_pb2 as service_pb2
from bbopt.specs import GPSpec
from benchmarks.recording import Recorder, about_run, add_argument, open_records, show
from benchmarks.service_clients import ask, create_study, expect, record, tell
from benchmarks.service_processes import Memory, Server, serving
from benchmarks.studies_report import Lap, Run, Setting, report

_N_WARM_UP = 8
"""Studies that are asked before memory is first looked at: what a process takes for its first
asks is no study's.
"""
_TIDY_S = 25.0
"""Within which a process without requests has given back what idle studies took."""
_SETTINGS = {
    "studies": "how many",
    "observations": "of each study",
    "parameters": "of each study",
    "templates": "studies that are copied",
    "laps": "how often the clients go round",
    "large": "observations of a big study",
    "processes": "that compute",
    "idle": "seconds a study that rests keeps its models",
    "server": "more flags for it, as --server=...",
}
_TABLES = ("study", "trial", "event", "measurement")


@dataclass(slots=True)
class Waits:
    """How long calls took while the clients went once through all studies, in seconds."""

    asks: list[float] = field(default_factory=list)
    tells: list[float] = field(default_factory=list)

    def lap(self, front_s: float, compute_s: float) -> Lap:
        """Sum up, with the CPU time of front and compute."""
        p50, p90, p99, most = (
            1e3 * float(np.quantile(self.asks, q)) for q in (0.5, 0.9, 0.99, 1.0)
        )
        front, compute = (1e3 * each / len(self.asks) for each in (front_s, compute_s))
        return Lap(p50, p90, p99, most, 1e3 * float(np.median(self.tells)), front, compute)


async def _templates(db: Path, setting: Setting) -> list[str]:
    """Work out some studies by asking and telling; return their names."""
    async with serving(db) as server:
        await server.until_compute_is_ready()
        studies = [
            await create_study(server, GPSpec(), n_parameters=setting.parameters)
            for _ in range(setting.templates)
        ]
        for study in studies:
            for _ in range(setting.observations):
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


async def _go_round(server: Server, studies: Sequence[str], n_clients: int) -> Lap:
    """Have the clients ask and tell every study once."""
    waits, turns = Waits(), iter(studies)
    before = server.cpu_s()
    await asyncio.gather(*(_take_turns(server, turns, waits) for _ in range(n_clients)))
    front_s, compute_s = (new - old for new, old in zip(server.cpu_s(), before, strict=True))
    return waits.lap(front_s, compute_s)


async def _take_turns(server: Server, turns: Iterator[str], waits: Waits) -> None:
    for study in turns:
        start = time.perf_counter()
        trial = await ask(server, study)
        asked = time.perf_counter()
        expect(trial, "gp")
        await tell(server, study, trial)
        waits.asks.append(asked - start)
        waits.tells.append(time.perf_counter() - asked)


async def _keep_busy(server: Server, study: str, asks_ms: list[float]) -> None:
    """Ask and tell a study without a pause."""
    while True:
        start = time.perf_counter()
        trial = await ask(server, study)
        asks_ms.append(round(1e3 * (time.perf_counter() - start), 3))
        expect(trial, "gp")
        await tell(server, study, trial)


@dataclass(frozen=True, slots=True)
class Made:
    """A database with its studies, of which every run has a copy."""

    names: Sequence[str]
    warm_up: Sequence[str]
    data_kib: float
    """Of one study."""


async def _begin_large(server: Server, setting: Setting) -> str:
    """Create the large study with its observations, and wait for its first ask."""
    large = await create_study(server, GPSpec(), n_parameters=setting.parameters)
    await record(server, large, setting.large, n_parameters=setting.parameters, seed=1)
    await tell(server, large, await ask(server, large))
    return large


async def _measure(db: Path, made: Made, setting: Setting) -> Run:
    """Start a server on a database of its own and go through its studies."""
    flags = ["--compute-processes", str(setting.processes)]
    flags += ["--compute-idle", str(setting.idle), *shlex.split(setting.server)]
    laps: list[Lap] = []
    large_ms: list[float] = []
    memory: dict[str, Memory] = {}
    async with serving(db, *flags) as server:
        await server.until_compute_is_ready()
        for study in (*made.warm_up, *made.warm_up):
            await tell(server, study, await ask(server, study))
        busy: asyncio.Task[None] | None = None
        if setting.large:
            large = await _begin_large(server, setting)
            busy = asyncio.create_task(_keep_busy(server, large, large_ms))
        await asyncio.sleep(1.0)
        memory["empty"] = server.memory()
        for number in range(1, setting.laps + 1):
            laps.append(await _go_round(server, made.names, setting.clients))
            print(*setting.cells(), number, *laps[-1].cells(), file=sys.stderr, flush=True)
        if busy is not None:
            busy.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await busy
        memory["busy"] = server.memory()
        await asyncio.sleep(setting.idle + _TIDY_S)
        memory["at_rest"] = server.memory()
        await server.stub.GetServerInfo(service_pb2.GetServerInfoRequest())
    return Run(setting, laps, large_ms, **memory, data_kib=made.data_kib)


async def _make(db: Path, setting: Setting) -> Made:
    templates = await _templates(db, setting)
    warm_up = _copy(db, templates, _N_WARM_UP, name="warm")
    small = _size(db)
    names = _copy(db, templates, setting.studies)
    return Made(names, warm_up, (_size(db) - small) / setting.studies / 1024)


async def run_missing(recorder: Recorder, settings: Sequence[Setting], folder: Path) -> None:
    """Run what has no record; all settings have the same studies."""
    missing = [each for each in settings if not recorder.has(setting=asdict(each))]
    if not missing:
        return
    db = folder / "made.db"
    made = await _make(db, missing[0])
    for index, setting in enumerate(missing):
        own = folder / f"studies-{index}.db"
        shutil.copy(db, own)
        recorder.add(asdict(await _measure(own, made, setting)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no record and print the report; return 1 if something wanted is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where the database goes; a temporary folder in it")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8], help="that go round")
    defaults = {each.name: each.default for each in fields(Setting)}
    for name, text in _SETTINGS.items():
        default = defaults[name]
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    add_argument(parser)
    chosen = parser.parse_args(arguments)
    recorder = open_records(parser, chosen.records, about_run("torch", "grpcio"))
    others = {name: getattr(chosen, name) for name in _SETTINGS}
    settings = [Setting(clients=n, **others) for n in chosen.clients]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        asyncio.run(run_missing(recorder, settings, Path(folder)))
    return show(report(recorder.recorded))


if __name__ == "__main__":
    sys.exit(main())
