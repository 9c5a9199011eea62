"""What the workers know against what the store has: whether anything was lost.

A worker writes a line into its own log once the server has acknowledged a result, not before.
Those lines are one side of the comparison; the other is what the server has in its file.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bbopt_client.demo.chaos import Strikes
from bbopt_client.study import Study

_LINE = re.compile(r"^trial (\d+) completed: (.*) \(\d+\.\d s\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A result that a worker knows to be safe."""

    worker: str
    trial: int
    metrics: Mapping[str, str]
    """As the worker wrote them: six significant digits."""


@dataclass(frozen=True, slots=True)
class Events:
    """How often each trial was requeued and got its final result, by the study's log."""

    requeued: Mapping[int, int] = field(default_factory=dict)
    told: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audit:
    """The two sides compared."""

    n_acknowledged: int
    """Trials whose results the workers know to be safe."""
    missing: tuple[int, ...]
    """Those of them that have no result in the store."""
    altered: tuple[int, ...]
    """Those of them whose result in the store is another."""
    repeated: tuple[int, ...]
    """Trials with more than one final result, in the log or by the workers' account."""
    n_stored: int
    n_expected: int
    strikes: Strikes
    was_requeued: bool
    """Whether the killed worker's trial went back to the queue."""
    finisher: str
    """Who finished the killed worker's trial; empty if nobody knows to have."""

    @property
    def is_clean(self) -> bool:
        """Whether both were killed and all the same nothing is lost, altered or repeated."""
        return (
            not self.missing
            and not self.altered
            and not self.repeated
            and self.n_stored == self.n_expected
            and self.strikes.worker != ""
            and self.strikes.away_s > 0
            and self.finisher != ""
        )

    def lines(self) -> list[str]:
        """Say it in plain terms."""
        n_found = self.n_acknowledged - len(self.missing) - len(self.altered)
        return [
            *self._about_worker(),
            *self._about_server(),
            f"results  {self.n_acknowledged} acknowledged to the workers, by their own logs",
            f"         {n_found} of these in the store with the same values",
            f"         {self.n_stored} in the store, of {self.n_expected} asked for",
            f"         {len(self.repeated)} duplicates",
            *_listed("MISSING", self.missing),
            *_listed("ALTERED", self.altered),
            *_listed("TWICE", self.repeated),
            "verdict  nothing was lost" if self.is_clean else "verdict  FAILED: see above",
        ]

    def _about_worker(self) -> list[str]:
        strikes = self.strikes
        if not strikes.worker:
            return ["worker   NOT KILLED: there was no chance to"]
        first = f"worker   {strikes.worker} was killed while it was evaluating trial"
        lines = [f"{first} {strikes.trial}"]
        if not self.finisher:
            lines.append(f"         NOBODY finished trial {strikes.trial}")
        elif self.was_requeued:
            lines.append(
                f"         trial {strikes.trial} was requeued and finished by {self.finisher}"
            )
        else:
            lines.append(
                f"         trial {strikes.trial} had just been told: no requeue needed"
            )
        return lines

    def _about_server(self) -> list[str]:
        strikes = self.strikes
        if not strikes.away_s:
            return ["server   NOT KILLED: there was no chance to"]
        return [
            f"server   was killed when it had {strikes.n_before} results, and was away for "
            f"{strikes.away_s:.1f} s",
            "         was killed once more at the end: what follows was read from its file",
        ]


def audit(
    acknowledged: Sequence[Acknowledgement],
    stored: Mapping[int, Mapping[str, float]],
    events: Events,
    strikes: Strikes,
    *,
    n_expected: int,
) -> Audit:
    """Compare.

    Args:
        acknowledged: What the workers know to be safe.
        stored: The metrics of each ended trial in the store.
        events: The study's log, counted.
        strikes: What was killed.
        n_expected: The study's budget.
    """
    by_workers = Counter(each.trial for each in acknowledged)
    missing = {number for number in by_workers if number not in stored}
    altered = {
        each.trial
        for each in acknowledged
        if each.trial not in missing and each.metrics != _written(stored[each.trial])
    }
    repeated = {
        number
        for counts in (by_workers, events.told)
        for number, count in counts.items()
        if count > 1
    }
    finishers = [each.worker for each in acknowledged if each.trial == strikes.trial]
    return Audit(
        n_acknowledged=len(by_workers),
        missing=tuple(sorted(missing)),
        altered=tuple(sorted(altered)),
        repeated=tuple(sorted(repeated)),
        n_stored=sum(bool(metrics) for metrics in stored.values()),
        n_expected=n_expected,
        strikes=strikes,
        was_requeued=events.requeued.get(strikes.trial, 0) > 0,
        finisher=finishers[-1] if finishers else "",
    )


def acknowledgements(out: Path, study: str) -> list[Acknowledgement]:
    """Read the workers' logs of one of the demo's studies."""
    found = []
    for log in sorted(out.glob(f"{study}-worker-*.log")):
        for number, text in _LINE.findall(log.read_text(encoding="utf-8", errors="replace")):
            metrics = dict(pair.split("=", 1) for pair in text.split(", "))
            worker = log.stem.removeprefix(f"{study}-")
            found.append(Acknowledgement(worker, int(number), metrics))
    return found


def count_events(study: Study) -> Events:
    """Read a study's log to its present end."""
    requeued: Counter[int] = Counter()
    told: Counter[int] = Counter()
    last = study.refresh().revision
    with study.watch() as events:
        for event in events:
            if event.trial is not None:
                requeued[event.trial.number] += event.kind == "requeued"
                told[event.trial.number] += event.kind == "told"
            if event.revision >= last:
                break
    return Events(requeued, told)


def _written(metrics: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in metrics.items()}


def _listed(title: str, trials: Sequence[int]) -> list[str]:
    if not trials:
        return []
    return [f"         {title}: {', '.join(f'trial {number}' for number in trials)}"]
