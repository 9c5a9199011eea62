"""Keeps the runs of a report on sample efficiency in a small file, to report them again later.

Of a run that is what the report reads: where the best value changed, not every evaluation. The
first line of the file says what the others do not: which optimizers are ours, what to call
each, and of how many evaluations a run is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import recording
from benchmarks.efficiency_report import Run, write_report

DIGITS: Final = 10
"""Significant digits of a value; the report tells none apart that agree in seven."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The runs of one report, with what it needs to know of them."""

    runs: Sequence[Run]
    """All of one budget, in the order of the report."""
    ours: Sequence[str]
    """Names of our optimizers; the first is compared with all others."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What to call an optimizer, by its name."""

    def __post_init__(self) -> None:
        if len({len(run.values) for run in self.runs}) > 1:
            raise ValueError("the runs of a report have one budget")

    def report(self, figure: str = "") -> str:
        """Return the report; ``figure`` is Markdown to show after the ranks."""
        return write_report(self.runs, ours=self.ours, labels=self.labels, figure=figure)


def write_records(recorded: Recorded, path: Path) -> None:
    """Write a file over, a line a run after the first."""
    about = {
        "ours": list(recorded.ours),
        "labels": dict(recorded.labels),
        "budget": len(recorded.runs[0].values),
    }
    recording.write(recording.Recorded([_line(run) for run in recorded.runs], about), path)


def restore(kept: recording.Recorded) -> Recorded:
    """Return what ``write_records`` wrote; values come back with ten digits."""
    about = kept.about
    runs = [_run(line, about["budget"]) for line in kept.rows]
    return Recorded(runs, about["ours"], about["labels"])


def read_records(path: Path) -> Recorded:
    """Read a file that ``write_records`` wrote."""
    return restore(recording.read(path))


def _line(run: Run) -> dict[str, Any]:
    return {
        "optimizer": run.optimizer,
        "problem": run.problem,
        "seed": run.seed,
        "version": run.version,
        "values": list(_changes(run.values)),
        "cpu_s": round(run.cpu_s, 7),
        "optimum": run.optimum,
        "is_noisy": run.is_noisy,
    }


def _run(line: Mapping[str, Any], budget: int) -> Run:
    changes = line["values"]
    ends = [n for n, _ in changes[1:]] + [budget + 1]
    values: list[float] = []
    for (n, value), end in zip(changes, ends, strict=True):
        values += [math.inf if value is None else value] * (end - n)
    return Run(**{**line, "values": tuple(values)})


def _changes(values: Iterable[float]) -> Iterable[tuple[int, float | None]]:
    """Yield (evaluation, value) wherever the value is not the one before; infinity is null."""
    before = math.nan
    for n, value in enumerate(values, 1):
        if value != before:
            yield n, float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
        before = value
