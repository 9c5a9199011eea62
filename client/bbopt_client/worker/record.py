"""Everything a program has said about its trial so far, and what counts at the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from bbopt.trial import Value
from bbopt_client.worker.readings import (
    InfeasibleReport,
    Measured,
    NotFinite,
    Reading,
    Report,
    Unreadable,
)


@dataclass(frozen=True, slots=True)
class Full:
    """Every metric that the study needs."""

    metrics: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Lacking:
    """Metrics are missing."""

    names: tuple[str, ...]
    note: str
    """The last thing that was not understood, or nothing."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """Metrics are NaN or infinite."""

    values: Mapping[str, str]


Final: TypeAlias = Full | Lacking | Diverged


class MetricsRecord:
    """Collects readings; values without a step outrank the last step, which outranks
    values that were picked out of log lines.
    """

    def __init__(self, required: frozenset[str]) -> None:
        """Start empty.

        Args:
            required: Metrics without which a trial has no result.
        """
        self._required = required
        self._final: dict[str, Measured] = {}
        self._last_step: Mapping[str, Measured] = {}
        self._last_full_step: Mapping[str, Measured] = {}
        self._scraped: dict[str, Measured] = {}
        self._note = ""
        self.infeasible: InfeasibleReport | None = None
        self._has_result = False
        self.result_fault = ""
        """What is wrong with the result file, or nothing."""

    def add(self, reading: Reading) -> None:
        """Take in one reading from a report file, a marked line or a result file."""
        match reading:
            case Report(strangers=(_, *_) as strangers):
                self._note = f"not metrics of the study: {_listed(strangers)}"
            case Report(metrics, None):
                self._final.update(metrics)
            case Report(metrics, _):
                self._last_step = metrics
                if self._required <= {*metrics, *self._final, *self._scraped}:
                    self._last_full_step = metrics
            case InfeasibleReport():
                self.infeasible = self.infeasible or reading
            case Unreadable(message):
                self._note = message
            case _:
                assert_never(reading)

    def add_result(self, reading: Reading) -> None:
        """Take in the result file, which has the last word.

        A file that cannot be read is a fault, whatever was said elsewhere: what stands
        there may contradict it.
        """
        self.add(reading)
        self._has_result = isinstance(reading, Report)
        if isinstance(reading, Unreadable):
            self.result_fault = reading.message

    def add_scraped(self, metrics: Mapping[str, Measured]) -> None:
        """Take in values that a pattern found in a log line."""
        self._scraped.update(metrics)

    def final(self) -> Final:
        """Say what the trial measured, from everything that was said."""
        merged = {**self._scraped, **self._last_step, **self._final}
        if self._last_full_step and not self._required <= merged.keys():
            merged = {**self._scraped, **self._last_full_step, **self._final}
        return self._judge(merged)

    def explicit_final(self) -> Final:
        """Say what the trial measured, from values without a step alone."""
        return self._judge(self._final)

    def result(self) -> Full | None:
        """Return what the trial measured if it has left a result file that says so."""
        final = self.explicit_final()
        return final if self._has_result and isinstance(final, Full) else None

    def partial(self) -> dict[str, Value]:
        """Return the latest number of each metric at the last step, for a stopped trial."""
        merged = {**self._scraped, **self._last_step, **self._final}
        return {name: value for name, value in merged.items() if isinstance(value, Value)}

    def _judge(self, merged: Mapping[str, Measured]) -> Final:
        diverged = {name: m.text for name, m in merged.items() if isinstance(m, NotFinite)}
        missing = self._required - merged.keys()
        if missing:
            return Lacking(tuple(sorted(missing)), self._note)
        if self._required & diverged.keys():
            return Diverged(diverged)
        return Full({name: m for name, m in merged.items() if isinstance(m, Value)})


def _listed(names: tuple[str, ...]) -> str:
    shown = [name[:40] for name in names[:4]]
    return ", ".join(shown if len(names) <= 4 else [*shown, "..."])
