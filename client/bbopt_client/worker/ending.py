"""How a trial ends: what becomes of an exit code, an order and what was measured."""

import enum
import signal
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from bbopt.trial import Completed, Failed, Infeasible, Measurement, Outcome, Stopped
from bbopt_client.worker.record import Diverged, Full, Lacking, MetricsRecord


class Order(enum.Enum):
    """Why the worker ends a program, by rising rank."""

    STOP_EARLY = "stopped early"
    """The server wants no more of this trial; what it measured is data."""
    TIME_OUT = "timed out"
    PREEMPT = "preempted"
    """The worker itself has to go."""
    CANCEL = "cancelled"
    """The result is no longer wanted, or another worker has the trial."""

    def outranks(self, other: "Order | None") -> bool:
        """Say whether this order replaces one that was given before."""
        ranks = list(Order)
        return other is None or ranks.index(self) > ranks.index(other)


@dataclass(frozen=True, slots=True)
class Release:
    """Give the trial back: the same parameters run elsewhere."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Say nothing: nobody wants this result any more."""

    reason: str


Ending: TypeAlias = Outcome | Release | Drop


@dataclass(frozen=True, slots=True)
class Exit:
    """How the program ended."""

    code: int
    """Exit code; negative: the number of the signal that ended it."""
    elapsed_s: float
    last_lines: str
    """The end of its standard error."""
    order: Order | None = None
    """Why the worker ended it, if it did."""
    reason: str = ""
    """The order in words."""


def judge(exited: Exit, record: MetricsRecord, *, releases_on_preempt: bool = True) -> Ending:
    """Decide what a trial's end means.

    Args:
        exited: How the program ended.
        record: What it said before.
        releases_on_preempt: Give a preempted trial back instead of failing it.
    """
    if exited.order is Order.CANCEL:
        # A late result is data too; the server knows whether it still wants it.
        return _whole(exited, record) or Drop(exited.reason)
    if record.infeasible is not None:
        partial = Measurement(record.partial(), elapsed_s=exited.elapsed_s)
        return Infeasible(record.infeasible.message, partial if partial.metrics else None)
    match exited.order:
        case Order.STOP_EARLY:
            return _stopped(exited, record)
        case Order.TIME_OUT:
            return _completed(exited, record.result()) or Failed(exited.reason, retryable=False)
        case Order.PREEMPT:
            return _preempted(exited, record, releases=releases_on_preempt)
        case None:
            return _finished(exited, record)
        case _:
            assert_never(exited.order)


def _stopped(exited: Exit, record: MetricsRecord) -> Ending:
    metrics = record.partial()
    if not metrics:
        return Failed("stopped early before anything was measured", retryable=False)
    return Stopped(Measurement(metrics, elapsed_s=exited.elapsed_s))


def _preempted(exited: Exit, record: MetricsRecord, *, releases: bool) -> Ending:
    if completed := _whole(exited, record):
        return completed
    return Release(exited.reason) if releases else Failed(exited.reason)


def _whole(exited: Exit, record: MetricsRecord) -> Completed | None:
    """Take the result of a program that was done when the order came: a result is a result."""
    final = record.explicit_final()
    result = final if exited.code == 0 and isinstance(final, Full) else record.result()
    return _completed(exited, result)


def _completed(exited: Exit, final: Full | None) -> Completed | None:
    """Take the final values of a program that did not end by itself, if it left any.

    Whoever writes the result file has finished; what hung after that is not the point's fault.
    """
    if final is None:
        return None
    return Completed(Measurement(final.metrics, elapsed_s=exited.elapsed_s))


def _finished(exited: Exit, record: MetricsRecord) -> Ending:
    if exited.code != 0:
        return Failed(with_last_lines(describe_exit(exited.code), exited.last_lines))
    if record.result_fault:
        return Failed(f"bad result file: {record.result_fault}", retryable=False)
    final = record.final()
    match final:
        case Full(metrics):
            return Completed(Measurement(metrics, elapsed_s=exited.elapsed_s))
        case Lacking(names, note):
            # The same program would lack it again; another attempt would only cost.
            text = f"exited with 0 but reported no {', '.join(names)}"
            text = f"{text} ({note})" if note else text
            return Failed(with_last_lines(text, exited.last_lines), retryable=False)
        case Diverged(values):
            shown = ", ".join(f"{name} is {value}" for name, value in sorted(values.items()))
            return Infeasible(shown)
        case _:
            assert_never(final)


def describe_exit(code: int) -> str:
    """Put an exit code into words; 128 + n is how shells and containers report signal n."""
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"
    hint = ", perhaps out of memory" if number == signal.SIGKILL else ""
    return f"killed by {name}{hint}" if code < 0 else f"exit code {code} ({name}{hint})"


def with_last_lines(text: str, last_lines: str) -> str:
    """Add the end of standard error to a message, if there is any."""
    return f"{text}\n{last_lines}" if last_lines else text
