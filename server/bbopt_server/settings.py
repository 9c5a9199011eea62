"""What an operator may set: flags, or ``BBOPT_*`` variables where a flag is not given."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bbopt.errors import InvalidError
from bbopt_server.backups import EVERY_S, N_KEPT, BackupPlan
from bbopt_server.compute.compute import IDLE_S, MEMORY_MIB
from bbopt_server.crash_points import check_variable
from bbopt_server.rpc.server import Address

MEMORY = ":memory:"
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a server is started with."""

    db: str = "bbopt.db"
    """Path of the SQLite file, or ``:memory:`` to keep nothing."""
    listen: Address = Address("127.0.0.1", 50151)  # noqa: RUF009 - frozen
    device: str = "auto"
    """Where models are fitted: cpu, cuda or auto."""
    n_compute_processes: int = 1
    """Each computes on one thread."""
    compute_cores: tuple[int, ...] = ()
    """Processor cores that the compute processes are bound to, in turn; none: they run where
    the system lets them.
    """
    compute_memory_mib: int = MEMORY_MIB
    """What the studies in each of them may take: those used longest ago make room."""
    compute_idle_s: float = IDLE_S
    """How long a study keeps its models without being asked."""
    has_large_process: bool = True
    """Whether large studies get one more process while small ones are asked, too."""
    port_file: Path | None = None
    """Gets the bound address once the server answers."""
    exit_after_last_client_s: float | None = None
    """Leave when no call has arrived for so long: private servers."""
    drain_s: float = 10.0
    """How long calls that run may take when the server is told to stop."""
    backups: BackupPlan | None = None
    """Where copies of the database go while it is served; ``None``: nowhere."""
    has_ready_queue: bool = True
    """Whether the next suggestion is computed ahead of its ask; it is the same either way."""
    log_level: str = "info"


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read the command line and the environment.

    Raises:
        InvalidError: A value is wrong.
        SystemExit: A flag is unknown, or help was asked for.
    """
    check_variable(environment)
    given = _parser(environment).parse_args(arguments)
    if given.device not in ("auto", "cpu", "cuda") and not given.device.startswith("cuda:"):
        raise InvalidError.of("device", f"must be cpu, cuda or auto, not {given.device!r}")
    if given.log_level not in _LEVELS:
        raise InvalidError.of("log-level", f"must be one of {', '.join(_LEVELS)}")
    after_s = given.exit_after_last_client
    return Settings(
        db=given.db,
        listen=Address.parse(given.listen),
        device=given.device,
        n_compute_processes=int(_number("compute-processes", given.compute_processes, 1)),
        compute_cores=_cores(given.compute_cores),
        compute_memory_mib=int(_number("compute-memory", given.compute_memory, 1)),
        compute_idle_s=_number("compute-idle", given.compute_idle, 0),
        has_large_process=_switch("large-process", given.large_process),
        port_file=Path(given.port_file) if given.port_file else None,
        exit_after_last_client_s=(
            None if after_s is None else _number("exit-after-last-client", after_s, 0)
        ),
        drain_s=_number("drain-seconds", given.drain_seconds, 0),
        backups=_backup_plan(given),
        has_ready_queue=_switch("ready-queue", given.ready_queue),
        log_level=given.log_level,
    )


def _backup_plan(given: argparse.Namespace) -> BackupPlan | None:
    every_s = _number("backup-every", given.backup_every, 1)
    n_kept = int(_number("backups-kept", given.backups_kept, 1))
    if not given.backups:
        return None
    if given.db == MEMORY:
        raise InvalidError.of("backups", f"there are none of {MEMORY}")
    return BackupPlan(Path(given.backups), every_s, n_kept)


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise InvalidError.of(name, f"must be on or off, not {text!r}")
    return text == "on"


def _number(name: str, text: str, minimum: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not minimum <= value < math.inf:
        raise InvalidError.of(name, f"must be a number of at least {minimum:g}, not {text!r}")
    return value


def _cores(text: str) -> tuple[int, ...]:
    """Read numbers of processor cores that this process may use."""
    if not text:
        return ()
    flag = "compute-cores"
    if not hasattr(os, "sched_setaffinity"):
        raise InvalidError.of(flag, "this system binds no process to a core; leave it out")
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise InvalidError.of(flag, f"must be numbers such as 2,3, not {text!r}")
    allowed = os.sched_getaffinity(0)
    missing = [word for word in words if int(word) not in allowed]
    if missing:
        raise InvalidError.of(flag, f"this process may not use core {', '.join(missing)}")
    return tuple(int(word) for word in words)


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bbopt_server",
        description="Serve studies over gRPC. Every flag may be given as BBOPT_<FLAG>, "
        "e.g. BBOPT_EXIT_AFTER_LAST_CLIENT=30.",
    )

    def add(flag: str, default: str | None, text: str) -> None:
        variable = "BBOPT_" + flag.upper().replace("-", "_")
        parser.add_argument(f"--{flag}", default=environment.get(variable, default), help=text)

    defaults = Settings()
    add("db", defaults.db, "SQLite file that keeps everything, or :memory:")
    add("listen", str(defaults.listen), "loopback address and port; port 0 picks a free one")
    add("device", defaults.device, "cpu, cuda or auto: where models are fitted")
    add(
        "compute-processes",
        str(defaults.n_compute_processes),
        "processes that fit models, one thread each",
    )
    add("compute-cores", "", "cores to bind them to, e.g. 2,3; Linux only")
    add("compute-memory", str(defaults.compute_memory_mib), "MiB for studies in each of them")
    add("compute-idle", str(defaults.compute_idle_s), "seconds of no ask for models to go")
    add("large-process", "on", "on or off: one more process for large studies among small ones")
    add("port-file", None, "file that gets the bound address once the server answers")
    add("exit-after-last-client", None, "leave when no call has come for so many seconds")
    add("backups", None, "folder of its own for copies of the database; default: none are made")
    add("backup-every", str(EVERY_S), "seconds between them; not while nothing changes")
    add("backups-kept", str(N_KEPT), "how many of them stay")
    add("drain-seconds", str(defaults.drain_s), "how long running calls may take at the end")
    add("ready-queue", "on", "on or off: compute the next suggestion right after a result")
    add("log-level", defaults.log_level, ", ".join(_LEVELS))
    return parser
