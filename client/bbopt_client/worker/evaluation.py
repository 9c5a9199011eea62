"""Runs the command for one trial: reads what it says, obeys orders, decides how it ends."""

import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bbopt_client.worker.ending import Ending, Exit, Order, judge
from bbopt_client.worker.lines import FileTail, LineSplitter
from bbopt_client.worker.logs import CappedLog, LastLines
from bbopt_client.worker.process import ProcessGroup, StreamName
from bbopt_client.worker.readings import Reading, Report, Unreadable, read_json
from bbopt_client.worker.record import MetricsRecord
from bbopt_client.worker.reporting import Reporter
from bbopt_client.worker.scraping import OutputReader, Scraped
from bbopt_client.worker.watchdog import WatchdogProcess
from bbopt_client.worker.workspace import Workspace

_TICK_S = 0.1
_MAX_RESULT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a program may run, and how it is ended."""

    timeout_s: float | None = None
    """Longest run; ``None`` for no limit."""
    grace_s: float = 30.0
    """From SIGTERM to SIGKILL."""
    notice_s: float = 5.0
    """From the stop file to SIGTERM, when a trial is stopped early."""
    log_bytes: int = 10_000_000
    """Most bytes of each of the two log files."""
    releases_on_preempt: bool = True
    """Give a preempted trial back instead of failing it."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute for one trial, and where."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    workspace: Workspace


@dataclass(slots=True)
class Shutdown:
    """Orders to every evaluation of a worker; set from a signal handler, so no locks."""

    reason: str = ""
    is_preempted: bool = False
    is_urgent: bool = False
    """No more grace: SIGKILL at once."""


@dataclass(slots=True)
class _Termination:
    order: Order
    reason: str
    terminate_at: float
    kill_at: float
    has_terminated: bool = False
    has_killed: bool = False


@dataclass(slots=True)
class Evaluation:
    """One run of a command for one trial."""

    command: Command
    metrics: OutputReader
    required: frozenset[str]
    limits: Limits
    shutdown: Shutdown
    directive: Callable[[], tuple[Order, str] | None]
    """The server's standing order for this trial."""
    reporter: Reporter
    watchdog: WatchdogProcess | None = None
    now: Callable[[], float] = time.monotonic
    record: MetricsRecord = field(init=False)
    log_problem: str = field(init=False, default="")
    """Why the program's output is not all in its log files, or nothing."""
    _termination: _Termination | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.record = MetricsRecord(self.required)

    def run(self) -> Ending:
        """Execute the command to its end.

        Returns:
            What to do with the trial.

        Raises:
            OSError: The program could not be started.
            ValueError: A value cannot be part of a command line.
        """
        started = self.now()
        with (
            contextlib.closing(self.reporter),
            contextlib.closing(
                _Streams(self.command.workspace.directory, self.limits.log_bytes)
            ) as streams,
        ):
            code = self._execute(streams, started)
        self.log_problem = streams.problem
        termination = self._termination
        exited = Exit(
            code=code,
            elapsed_s=self.now() - started,
            last_lines=streams.last_lines.text(),
            order=None if termination is None else termination.order,
            reason="" if termination is None else termination.reason,
        )
        return judge(exited, self.record, releases_on_preempt=self.limits.releases_on_preempt)

    def _execute(self, streams: "_Streams", started: float) -> int:
        workspace = self.command.workspace
        reports = FileTail(workspace.report_file)
        with ProcessGroup(
            self.command.argv,
            cwd=workspace.cwd,
            environment=self.command.environment,
            watchdog=self.watchdog,
        ) as group:
            while not group.has_exited():
                self._take_output(streams, group.read(_TICK_S))
                self._take_reports(reports.poll())
                self._obey(group, started)
            code, output = group.finish()
        self._take_output(streams, output)
        self._take_rest(streams, reports)
        return code

    def _take_output(self, streams: "_Streams", output: list[tuple[StreamName, bytes]]) -> None:
        for name, data in output:
            for line in streams.take(name, data):
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        reading = self.metrics.read(line)
        match reading:
            case None:
                return
            case Scraped(metrics):
                self.record.add_scraped(metrics)
            case _:
                self._take(reading)

    def _take_reports(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.strip():
                self._take(read_json(line, self.metrics.names))

    def _take(self, reading: Reading) -> None:
        self.record.add(reading)
        if isinstance(reading, Report) and reading.step is not None and reading.finite:
            self.reporter.submit(reading.step, reading.finite)

    def _take_rest(self, streams: "_Streams", reports: FileTail) -> None:
        if rest := streams.rest():
            self._take_line(rest)
        self._take_reports(reports.finish())
        result = self.command.workspace.result_file
        if not result.is_file():
            return
        try:
            text = result.read_bytes() if result.stat().st_size <= _MAX_RESULT_BYTES else b""
        except OSError:
            return
        if text.strip():
            self.record.add_result(read_json(text, self.metrics.names))
        else:
            self.record.add_result(Unreadable("the file is empty or larger than 1 MiB"))

    def _obey(self, group: ProcessGroup, started: float) -> None:
        for order, reason in self._orders(started):
            current = self._termination
            if order.outranks(None if current is None else current.order):
                self._begin(order, reason)
        termination = self._termination
        if termination is None:
            return
        now = self.now()
        if now >= termination.terminate_at and not termination.has_terminated:
            termination.has_terminated = True
            group.send(signal.SIGTERM)
        is_overdue = now >= termination.kill_at or self.shutdown.is_urgent
        if is_overdue and not termination.has_killed:
            termination.has_killed = True
            group.send(signal.SIGKILL)

    def _orders(self, started: float) -> list[tuple[Order, str]]:
        orders: list[tuple[Order, str]] = []
        if (directive := self.directive()) is not None:
            orders.append(directive)
        if self.reporter.should_stop:
            orders.append((Order.STOP_EARLY, "stopped early"))
        timeout = self.limits.timeout_s
        if timeout is not None and self.now() - started >= timeout:
            orders.append((Order.TIME_OUT, f"ran longer than {timeout:g} s"))
        if self.shutdown.is_preempted:
            orders.append((Order.PREEMPT, self.shutdown.reason))
        return orders

    def _begin(self, order: Order, reason: str) -> None:
        now, earlier = self.now(), self._termination
        terminate_at = now + (self.limits.notice_s if order is Order.STOP_EARLY else 0.0)
        kill_at = terminate_at + self.limits.grace_s
        if earlier is not None and earlier.has_terminated:
            # A second order does not give a program that was told to go more time.
            terminate_at, kill_at = earlier.terminate_at, earlier.kill_at
        self._termination = _Termination(
            order,
            reason,
            terminate_at=terminate_at,
            kill_at=kill_at,
            has_terminated=earlier is not None and earlier.has_terminated,
        )
        # Where the disk is full or the directory gone, the signals have to do.
        with contextlib.suppress(OSError):
            self.command.workspace.stop_file.write_text(reason + "\n", encoding="utf-8")


class _Streams:
    """Both outputs of a program: log files, whole lines of one, last lines of the other."""

    def __init__(self, directory: Path, log_bytes: int) -> None:
        self._logs = {
            name: CappedLog(directory / f"{name}.log", limit_bytes=log_bytes)
            for name in ("stdout", "stderr")
        }
        self._splitter = LineSplitter()
        self.last_lines = LastLines()

    def take(self, name: StreamName, data: bytes) -> list[bytes]:
        self._logs[name].write(data)
        if name == "stderr":
            self.last_lines.feed(data)
            return []
        return self._splitter.feed(data)

    @property
    def problem(self) -> str:
        return next((log.problem for log in self._logs.values() if log.problem), "")

    def rest(self) -> bytes:
        return self._splitter.finish()

    def close(self) -> None:
        for log in self._logs.values():
            log.close()
