"""The demo from start to end: a server, a study, its workers, a view, a report.

Everything runs as it would in earnest: the server and the workers are processes of their own
that share nothing but the server's address, and the objective is a script that knows nothing
of bbopt but two environment variables.
"""

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from bbopt.errors import BboptError
from bbopt.specs import AutoSpec, LeasePolicy, RandomSpec, StrategySpec, StudySpec
from bbopt_client.client import Client
from bbopt_client.demo.audit import Audit, acknowledgements, audit, count_events
from bbopt_client.demo.chaos import LEASE_S, Chaos
from bbopt_client.demo.problem import MAX_BYTES, digits_problem
from bbopt_client.demo.processes import ProcessGroup
from bbopt_client.demo.report import Result, summarise, write_report
from bbopt_client.demo.server import DemoServer
from bbopt_client.demo.view import ProgressView
from bbopt_client.study import Study

OBJECTIVE = (sys.executable, "-m", "bbopt_client.demo.digits")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line can set."""

    seed: int = 0
    n_trials: int = 40
    n_workers: int = 4
    out: Path = Path("bbopt-demo")
    with_random: bool = True
    """Also run random search with the same budget, to compare with."""
    has_chaos: bool = False
    """Kill a worker and the server on the way, and prove at the end that nothing was lost."""
    command: tuple[str, ...] = OBJECTIVE
    """What evaluates one trial."""


def run(options: DemoOptions, console: Console | None = None) -> int:
    """Run the demo and return its exit code; 130 when interrupted."""
    console = console or Console()
    missing = [
        name
        for name in ("torch", "grpc_health", "sklearn")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        console.print(
            f"The demo needs {', '.join(missing)}: pip install 'bbopt[server,demo]'",
            style="red",
            markup=False,
        )
        return 1
    options = replace(options, out=_fresh_directory(options.out))
    try:
        with _terminate_as_interrupt():
            return _run(options, console)
    except KeyboardInterrupt:
        console.print("Interrupted; every process has been stopped.", markup=False)
        return 130


def _run(options: DemoOptions, console: Console) -> int:
    with ProcessGroup() as processes:
        server = DemoServer(options.out, processes)
        server.start()
        console.print(
            f"server   {server.address}  ({options.out / 'studies.db'})", markup=False
        )
        with Client(server.address) as client:
            chaos = Chaos(options.n_trials, server) if options.has_chaos else None
            results = [_tune(client, server, options, "tuned", AutoSpec(), console, chaos)]
            if options.with_random:
                results.append(_tune(client, server, options, "random", RandomSpec(), console))
            findings = None if chaos is None else _audit(client, options, chaos)
        write_report(options.out, results)
    lines = [summarise(results, options.out)]
    if findings is not None:
        lines += ["", *findings.lines()]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0 if findings is None or findings.is_clean else 1


def _audit(client: Client, options: DemoOptions, chaos: Chaos) -> Audit:
    """Compare what the workers know with what the server, just restarted, has in its file."""
    study = client.study("digits-tuned")
    return audit(
        acknowledgements(options.out, "tuned"),
        {trial.number: trial.metrics for trial in study.trials() if trial.state.is_final},
        count_events(study),
        chaos.record(),
        n_expected=options.n_trials,
    )


def _tune(
    client: Client,
    server: DemoServer,
    options: DemoOptions,
    name: str,
    strategy: StrategySpec,
    console: Console,
    chaos: Chaos | None = None,
) -> Result:
    """Run one study to its budget on worker processes of its own."""
    problem = digits_problem(options.n_trials)
    # One more: the figures of docs/demo.md are of this seed.
    spec = StudySpec(problem, strategy, seed=options.seed + 1)
    if chaos is not None:
        spec = replace(spec, lease=LeasePolicy(duration_s=LEASE_S))
    study = client.create_study_from(f"digits-{name}", spec)
    console.print(
        f"study    {study.id}: {options.n_workers} workers, {options.n_trials} trials, "
        f"maximise accuracy with model_bytes <= {MAX_BYTES:,.0f}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    started = time.monotonic()
    with ProcessGroup() as workers:
        for number in range(1, options.n_workers + 1):
            workers.start(
                _worker_command(server.address, study, options),
                log=options.out / f"{name}-worker-{number}.log",
                environment=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        with ProgressView(study.id, options.n_trials, console) as view:
            _follow(study, server, workers, view, chaos)
    if chaos is not None:
        chaos.end()
    return Result(
        name=name,
        seconds=time.monotonic() - started,
        best=study.best(),
        trials=tuple(study.trials()),
        records=tuple(study.to_records()),
    )


def _worker_command(address: str, study: Study, options: DemoOptions) -> list[str]:
    return [
        *(sys.executable, "-m", "bbopt_client.cli", "--server", address),
        *("run", study.id, "--work-dir", str(options.out / "work"), "--", *options.command),
    ]


def _follow(
    study: Study,
    server: DemoServer,
    workers: ProcessGroup,
    view: ProgressView,
    chaos: Chaos | None,
) -> None:
    """Show progress until the workers have left, restarting the server if it dies."""
    while True:
        server.restart_if_dead()
        try:
            trials = study.trials()
            view.update(trials)
        except BboptError as error:
            view.note(f"waiting for the server: {error}")
        else:
            if chaos is not None:
                chaos.act(trials, workers.children, view.note)
        working = [child for child in workers.children if not workers.has_ended(child)]
        if not working:
            return
        time.sleep(0.5 if chaos is None else 0.1)


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that the children are stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    # Under nohup the terminal may go.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fresh_directory(wanted: Path) -> Path:
    """Create ``wanted``, or ``wanted-2`` and so on: an earlier demo's files stay."""
    for number in range(1, 1000):
        candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not candidate.exists() or not any(candidate.iterdir()):
            candidate.mkdir(parents=True, exist_ok=True)
            return candidate
    raise BboptError(f"{wanted} and its 999 successors exist; choose another --out")
