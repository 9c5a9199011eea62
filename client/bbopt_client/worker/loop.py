"""The worker: asks for trials, runs the command for each, tells what it measured.

Each of its slots is a thread that takes one trial at a time. The main thread only watches
and obeys signals, which set plain flags that the slots look at: no lock is ever taken in a
signal handler.
"""

import enum
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from bbopt.errors import (
    BboptError,
    ConflictError,
    DeadlineError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    RetryableError,
)
from bbopt.problem import MetricKind
from bbopt.trial import Completed, Failed, Outcome, Stopped, Value
from bbopt_client.results import AskResult
from bbopt_client.study import Study
from bbopt_client.trial import Directive, Trial
from bbopt_client.worker.command import CommandTemplate
from bbopt_client.worker.ending import Drop, Order, Release
from bbopt_client.worker.evaluation import Command, Evaluation, Limits, Shutdown
from bbopt_client.worker.flapping import Tally, Tickets
from bbopt_client.worker.reporting import Reporter
from bbopt_client.worker.scraping import OutputReader
from bbopt_client.worker.watchdog import WatchdogProcess
from bbopt_client.worker.workspace import Layout, Workspace, discard

_ASK_WAIT_S = 5.0
"""One ask: short, since a worker that has to go waits for its answer."""
_TICK_S = 0.1
_RELEASE_S = 5.0
"""Time to give trials back once the programs have ended; then their leases do it."""


class WorkEnd(enum.Enum):
    """Why a worker left."""

    FINISHED = "the study is finished"
    COUNT_REACHED = "took as many trials as it was asked to"
    PREEMPTED = "was told to go"
    INTERRUPTED = "interrupted"
    FLAPPING = "gave up"
    UNREACHABLE = "the server cannot be reached"
    GONE = "the study is gone"
    BROKEN = "cannot run the command"


@dataclass(frozen=True, slots=True)
class WorkResult:
    """How a worker's work ended."""

    end: WorkEnd
    message: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """What a worker does with each trial, and when it leaves."""

    command: CommandTemplate
    metrics: OutputReader
    layout: Layout
    limits: Limits = field(default_factory=Limits)
    count: int | None = None
    """Trials to take; ``None`` goes on until the study is finished."""
    parallel: int = 1
    """Trials at a time."""
    keep_alive: bool = False
    """Wait for more when the study is finished."""
    gives_up: bool = True
    """Leave when the program keeps failing."""
    patience_s: float = 1800.0
    """How long to outlast a server that cannot be reached."""
    n_kept: int = 100
    """Directories of finished trials to keep."""
    server: str = ""
    """Address, for the program's environment."""


class Worker:
    """Runs trials of one study until there is a reason to leave."""

    def __init__(
        self,
        study: Study,
        plan: WorkPlan,
        *,
        say: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; nothing happens before ``run``.

        Args:
            study: The study to work for.
            plan: What to do.
            say: Takes lines about progress; called from any thread.
            environment: What programs inherit; this process's by default.
        """
        self._study = study
        self._plan = plan
        self._say = say
        self._environment = dict(os.environ if environment is None else environment)
        self._required = frozenset(
            metric.name
            for metric in study.problem.metrics
            if metric.kind is not MetricKind.TRACKED
        )
        self._shutdown = Shutdown()
        self._n_signals = 0
        self._signal = ""
        self._tickets = Tickets(plan.count)
        self._lock = threading.Lock()
        self._tally = Tally()
        self._result: tuple[WorkEnd, str] | None = None
        self._n_evaluating = 0
        self._finished: deque[Path] = deque()
        self._started = 0.0
        self._crash: BaseException | None = None
        self._watchdog: WatchdogProcess | None = None

    def run(self) -> WorkResult:
        """Work until the study, the count or somebody's patience ends.

        Must be called in the main thread; SIGTERM, SIGINT and SIGUSR1 are handled meanwhile.
        """
        self._started = time.monotonic()
        slots = [
            threading.Thread(target=self._work, name=f"bbopt-slot-{index}", daemon=True)
            for index in range(self._plan.parallel)
        ]
        with closing(WatchdogProcess(self._plan.limits.grace_s)) as watchdog, self._signals():
            self._watchdog = watchdog
            for slot in slots:
                slot.start()
            self._watch(slots)
            self._note_signal()
        if self._crash is not None:
            raise self._crash
        end, message = self._result or (WorkEnd.COUNT_REACHED, "")
        return WorkResult(end, message, self._tally)

    # Signals ---------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        earlier = {number: signal.signal(number, self._obey) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _obey(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """First signal: end the programs with grace. Second: at once. Third: leave."""
        self._n_signals += 1
        if self._n_signals == 1:
            self._signal = signal.Signals(number).name
            self._shutdown.reason = f"the worker was told to go by {self._signal}"
            self._shutdown.is_preempted = True
        elif self._n_signals == 2 or self._n_evaluating > 0:
            self._shutdown.is_urgent = True
        else:
            os._exit(128 + number)

    def _watch(self, slots: list[threading.Thread]) -> None:
        """Wait for the slots; a slot that is only waiting for the server is not waited for."""
        idle_since: float | None = None
        while any(slot.is_alive() for slot in slots):
            time.sleep(_TICK_S)
            self._note_signal()
            if not self._shutdown.is_preempted or self._n_evaluating > 0:
                idle_since = None
                continue
            idle_since = idle_since or time.monotonic()
            if time.monotonic() - idle_since > _RELEASE_S:
                return

    def _note_signal(self) -> None:
        if self._signal and self._result is None:
            is_interrupt = self._signal == "SIGINT"
            self._end(WorkEnd.INTERRUPTED if is_interrupt else WorkEnd.PREEMPTED, self._signal)
            self._say(f"{self._signal}: ending programs; a second signal kills them")

    # One slot --------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._is_ending and self._tickets.take():
                trial = self._ask()
                if trial is None:
                    self._tickets.give_back()
                    return
                self._evaluate(trial)
        except NotFoundError as error:
            self._abort(WorkEnd.GONE, str(error))
        except BaseException as error:  # Raised again by run().
            with self._lock:
                self._crash = self._crash or error
            self._abort(WorkEnd.BROKEN, str(error))

    @property
    def _is_ending(self) -> bool:
        return self._result is not None or self._shutdown.is_preempted

    def _end(self, end: WorkEnd, message: str) -> None:
        """Take no more trials; those under way run to their end."""
        with self._lock:
            self._result = self._result or (end, message)

    def _abort(self, end: WorkEnd, message: str) -> None:
        """Take no more trials, and give back those under way."""
        self._end(end, message)
        self._shutdown.reason = self._shutdown.reason or message
        self._shutdown.is_preempted = True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_ending and time.monotonic() < until:
            time.sleep(min(_TICK_S, seconds))

    def _ask(self) -> Trial | None:
        unreachable_since: float | None = None
        while not self._is_ending:
            try:
                answer = self._study.ask(1, wait_s=_ASK_WAIT_S)
            except (RetryableError, DeadlineError) as error:
                now = time.monotonic()
                if unreachable_since is None:
                    unreachable_since = now
                    self._say(f"no trial for now: {error}")
                if now - unreachable_since > self._plan.patience_s:
                    self._end(WorkEnd.UNREACHABLE, str(error))
                self._pause(1.0)
                continue
            unreachable_since = None
            if answer:
                return self._accept(answer[0])
            self._wait_for_more(answer)
        return None

    def _accept(self, trial: Trial) -> Trial | None:
        if not self._is_ending:
            return trial
        self._release(trial, "the worker was leaving")
        return None

    def _wait_for_more(self, answer: AskResult) -> None:
        if answer.is_finished and not self._plan.keep_alive:
            state, reason = answer.study_state, answer.reason.value.replace("_", " ")
            self._end(WorkEnd.FINISHED, state.value if state.is_final else reason)
            return
        self._pause(answer.retry_after_s or (_ASK_WAIT_S if answer.is_finished else 0.5))

    # One trial -------------------------------------------------------------------------------

    def _evaluate(self, trial: Trial) -> None:
        started = time.monotonic()
        with self._counted():
            try:
                workspace = self._prepare(trial)
                evaluation = self._evaluation(trial, workspace)
                ending = evaluation.run()
            except (OSError, ValueError) as error:
                # The command, a disk or a directory: no trial would fare better here.
                self._release(trial, "the worker cannot run the command")
                self._abort(WorkEnd.BROKEN, f"trial {trial.number}: {error}")
                return
        elapsed_s = time.monotonic() - started
        if evaluation.log_problem:
            self._say(
                f"trial {trial.number}: its logs are incomplete: {evaluation.log_problem}"
            )
        match ending:
            case Release(reason):
                self._release(trial, reason)
                self._tickets.give_back()
                self._say(f"trial {trial.number} released: {reason}")
            case Drop(reason):
                self._tickets.give_back()
                self._say(f"trial {trial.number} dropped: {reason}")
            case outcome:
                if self._tell(trial, outcome):
                    self._say(f"trial {trial.number} {describe(outcome)} ({elapsed_s:.1f} s)")
                self._count(outcome)
        self._prune(workspace)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._n_evaluating += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_evaluating -= 1

    def _prepare(self, trial: Trial) -> Workspace:
        return Workspace.create(
            self._plan.layout,
            study=self._study.id,
            trial=trial.number,
            attempt=trial.attempt,
            parameters=trial.parameters,
            environment=self._environment,
            stage=trial.stage,
        )

    def _evaluation(self, trial: Trial, workspace: Workspace) -> Evaluation:
        run = workspace.invocation(
            self._study.id, trial.number, trial.attempt, trial.parameters
        )
        environment = workspace.environment(
            run, server=self._plan.server, inherited=self._environment
        )

        def report(step: int, metrics: Mapping[str, Value]) -> bool:
            return trial.report(step, dict(metrics))

        return Evaluation(
            command=Command(tuple(self._plan.command.expand(run)), environment, workspace),
            metrics=self._plan.metrics,
            required=self._required,
            limits=self._plan.limits,
            shutdown=self._shutdown,
            directive=lambda: standing_order(trial),
            reporter=Reporter(report),
            watchdog=self._watchdog,
        )

    def _tell(self, trial: Trial, outcome: Outcome) -> bool:
        """Tell a result; say whether the server has acknowledged it, and if not, why."""
        try:
            self._study.tell(trial, outcome)
            return True
        except InvalidError as error:
            # The server knows better what is a result; say so rather than leave it open.
            trial.fail(f"the result was refused: {error}", retry=False)
            self._say(f"trial {trial.number}: the result was refused: {error}")
        except (ConflictError, PreconditionError) as error:
            self._say(f"trial {trial.number}: the result was not taken: {error}")
        except NotFoundError:
            raise
        except BboptError as error:
            self._say(f"trial {trial.number}: the result waits on disk: {error}")
        return False

    def _release(self, trial: Trial, reason: str) -> None:
        try:
            trial.release(reason)
        except BboptError as error:
            # Its lease will run out: the same parameters run elsewhere all the same.
            self._say(f"trial {trial.number} could not be given back: {error}")

    def _count(self, outcome: Outcome) -> None:
        has_failed = isinstance(outcome, Failed)
        with self._lock:
            before = self._tally
            self._tally = Tally(
                before.n_succeeded + (not has_failed), before.n_failed + has_failed
            )
        verdict = self._tally.verdict(time.monotonic() - self._started)
        if has_failed and verdict and self._plan.gives_up:
            self._abort(WorkEnd.FLAPPING, verdict)

    def _prune(self, workspace: Workspace) -> None:
        with self._lock:
            self._finished.append(workspace.directory)
            is_full = len(self._finished) > self._plan.n_kept
            oldest = self._finished.popleft() if is_full else None
        if oldest is not None:
            discard(oldest)


def standing_order(trial: Trial) -> tuple[Order, str] | None:
    """Translate what the server wants of a trial into an order to its program."""
    match trial.directive:
        case Directive.NONE:
            return None
        case Directive.STOP:
            return Order.STOP_EARLY, trial.directive_reason or "stopped early"
        case Directive.CANCEL:
            return Order.CANCEL, trial.directive_reason or "cancelled"
        case Directive.LOST:
            return Order.CANCEL, trial.directive_reason or "the lease was lost"


def describe(outcome: Outcome) -> str:
    """Put an outcome into one line."""
    match outcome:
        case Completed(measurement):
            return "completed: " + _metrics(measurement.metrics)
        case Stopped(measurement):
            return "stopped early: " + _metrics(measurement.metrics)
        case _:
            first, _, rest = outcome.message.partition("\n")
            last = rest.rpartition("\n")[2]
            text = f"{first} ... {last}" if last else first
            return f"{type(outcome).__name__.lower()}: {text}"


def _metrics(metrics: Mapping[str, Value]) -> str:
    return ", ".join(f"{name}={value.value:.6g}" for name, value in metrics.items())
