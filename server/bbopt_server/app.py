"""The wiring: settings in, a running server out, and an orderly end.

Order of the start: store, listen, announce; compute loads in the background, so results are
taken within a second. Order of the end: no more asks, no more calls, store written back.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import bbopt
from bbopt.errors import UnavailableError
from bbopt_server.backups import Backups
from bbopt_server.compute import Compute, ComputePool
from bbopt_server.compute.pool import LARGE_FROM
from bbopt_server.lockfile import announced, holder_of
from bbopt_server.loop import new_loop
from bbopt_server.rpc.methods import Methods
from bbopt_server.rpc.server import SUGGEST_HEALTH, TELL_HEALTH, Address, RpcServer
from bbopt_server.settings import Settings
from bbopt_server.storage import SqliteStore, Store, open_store
from bbopt_server.studies import Studies
from bbopt_server.studies.outside import Outside
from bbopt_server.telemetry.logs import configure_logs

_WATCH_S = 0.2
"""How often the server looks at itself: compute ready, store well, clients gone."""
_EXIT_STORE_FAILED = 3

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class App:
    """One server and its parts; also what tests start in their own process."""

    settings: Settings
    store: Store
    compute: Compute
    outside: Outside = field(default_factory=Outside)
    studies: Studies = field(init=False)
    server: RpcServer = field(init=False)
    backups: Backups | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.studies = Studies(
            self.store,
            self.compute,
            self.outside,
            has_ready_queue=self.settings.has_ready_queue,
        )
        methods = Methods(self.studies, device=self.settings.device)
        self.server = RpcServer(methods.table())
        if self.settings.backups is not None and isinstance(self.store, SqliteStore):
            name = Path(self.settings.db).stem
            self.backups = Backups(self.store, self.settings.backups, name=name)

    async def start(self) -> Address:
        """Listen; compute goes on loading."""
        if self.backups is not None:
            self.backups.start()
        await self.studies.start()
        address = await self.server.start(self.settings.listen)
        await self.server.set_health("", is_serving=True)
        await self.server.set_health(TELL_HEALTH, is_serving=True)
        await self.server.set_health(SUGGEST_HEALTH, is_serving=False)
        await self.compute.start()
        return address

    async def watch_itself(self, ending: "Ending") -> None:
        """Report compute's health, and end when there is no reason to go on."""
        was_ready = False
        while True:
            await asyncio.sleep(_WATCH_S)
            is_ready = self.studies.is_ready_to_suggest
            if is_ready != was_ready:
                await self.server.set_health(SUGGEST_HEALTH, is_serving=is_ready)
                was_ready = is_ready
            if failure := getattr(self.store, "failure", None):
                # Whatever SQLite would still write now could be wrong.
                _log.critical("the store failed: %s", failure)
                os._exit(_EXIT_STORE_FAILED)
            limit_s = self.settings.exit_after_last_client_s
            if limit_s is not None and self.server.traffic.idle_s >= limit_s:
                _log.info("no client for %g s", limit_s)
                ending.begin()

    async def stop(self, grace_s: float) -> None:
        """End in order: asks, then calls, then the background, then the store."""
        for name in ("", TELL_HEALTH, SUGGEST_HEALTH):
            await self.server.set_health(name, is_serving=False)
        await self.studies.drain()
        await self.server.stop(grace_s)
        await self.studies.stop()
        await self.compute.stop()
        if self.backups is not None:
            await self.backups.stop()
        await self.store.close()


class Ending:
    """Whether the server is to end: a first signal asks for it, a second one hurries."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.is_urgent = asyncio.Event()

    def begin(self) -> None:
        """Ask the server to end."""
        if self.has_begun.is_set():
            self.is_urgent.set()
        self.has_begun.set()


async def serve(settings: Settings) -> None:
    """Run a server until a signal, or until its last client has been gone for long enough.

    Raises:
        BboptError: The store or the address cannot be had, or not be made known.
    """
    store = _opened(settings.db)
    compute = ComputePool(
        n_processes=settings.n_compute_processes,
        device=settings.device,
        cores=settings.compute_cores,
        memory_mib=settings.compute_memory_mib,
        idle_s=settings.compute_idle_s,
        large_from=LARGE_FROM if settings.has_large_process else None,
    )
    app = App(settings, store, compute)
    ending = Ending()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.begin)
    try:
        address = await app.start()
        # What is loaded by now stays, so no full collection need walk through it: that stops
        # the event loop for 17 ms.
        gc.freeze()
        with announced(settings.db, str(address), settings.port_file):
            _say_ready(settings, address)
            watcher = asyncio.create_task(app.watch_itself(ending))
            await ending.has_begun.wait()
            watcher.cancel()
            _log.info("stopping", extra={"drain_s": settings.drain_s})
            await _stop(app, ending)
    except BaseException:
        await app.stop(0.0)
        raise


def _opened(db: str) -> Store:
    try:
        return open_store(db)
    except UnavailableError as error:
        if holder := holder_of(db):
            raise UnavailableError(f"{error}: {holder}") from error
        raise


async def _stop(app: App, ending: Ending) -> None:
    stopping = asyncio.create_task(app.stop(app.settings.drain_s))
    urgent = asyncio.create_task(ending.is_urgent.wait())
    await asyncio.wait({stopping, urgent}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await app.server.stop(0.0)  # Ends the grace that the other one gives.
    await stopping
    urgent.cancel()


def _say_ready(settings: Settings, address: Address) -> None:
    """Write one line on standard output: for people, or JSON where nobody looks."""
    if sys.stdout.isatty():
        line = f"bbopt {bbopt.__version__} serves {settings.db} on {address}"
    else:
        fields = {"address": str(address), "db": settings.db, "pid": os.getpid()}
        line = json.dumps(fields)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(settings: Settings) -> int:
    """Serve; return the exit status of the process."""
    configure_logs(settings.log_level)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(settings))
    return 0
