"""The report on the parts of an ask beside BoTorch's: recorded rows in, Markdown out."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.recording import Line, Recorded, fenced, table, verdict, versions_line

FIT: Final = "fit"
PARTS: Final = (FIT, "search", "search, around best", "batch of 8")
"""In the order of the table."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One data set, one thing done by both sides."""

    ours_ms: float
    theirs_ms: float
    loss: float
    """By how much ours is worse; negative where it is better."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: several data sets of one size."""

    what: str
    kernel: str
    d: int
    n: int
    runs: Sequence[Comparison]
    apart: float | None = None
    """Of fits, by how much the two log posteriors differ at the same hyperparameters, nats."""

    @classmethod
    def from_row(cls, row: Line) -> "Row":
        """Read a line of the records."""
        return cls(**{**row, "runs": [Comparison(**each) for each in row["runs"]]})

    @property
    def ratio(self) -> float:
        """How many times less CPU ours takes, from the sums over all data sets."""
        return sum(r.theirs_ms for r in self.runs) / sum(r.ours_ms for r in self.runs)

    def losses(self) -> tuple[float, float]:
        """Return the median and the largest loss."""
        losses = [run.loss for run in self.runs]
        return statistics.median(losses), max(losses)

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        ours = statistics.fmean(run.ours_ms for run in self.runs)
        theirs = statistics.fmean(run.theirs_ms for run in self.runs)
        times = [f"{each:.1f}" for each in (ours, theirs, self.ratio)]
        losses = [f"{each:+.4f}" for each in self.losses()]
        return [self.what, self.kernel, str(self.d), str(self.n), *times, *losses]


@dataclass(frozen=True, slots=True)
class Limit:
    """What a row must reach."""

    ratio: float
    median_loss: float
    worst_loss: float = math.inf


def limit_of(row: Row) -> Limit | None:
    """Return the limits of a row; ``None`` for one that is only informative."""
    if row.d != 6:
        return None
    if row.what == FIT and row.n != 200:
        worst = 0.1 if row.n == 20 else 0.01
        return Limit(10.0 if row.n <= 100 else 4.0, worst, worst)
    if row.what == FIT:
        return Limit(1.0, 0.01, 0.01)
    if row.what.startswith("search"):
        return Limit(15.0 if row.n <= 200 else 1.0, 0.01)
    return Limit(10.0, 0.01)


def judge(row: Row) -> str | None:
    """Return the verdict on a row, or ``None`` where nothing was asked of it."""
    limit = limit_of(row)
    if limit is None:
        return None
    median, worst = row.losses()
    is_good = (
        row.ratio >= limit.ratio and median <= limit.median_loss and worst <= limit.worst_loss
    )
    text = (
        f"{row.what} {row.kernel} d={row.d} n={row.n}: {row.ratio:.1f} times less CPU"
        f" (wanted {limit.ratio:g}), median loss {median:+.4f} (at most {limit.median_loss:g})"
    )
    if math.isfinite(limit.worst_loss):
        text += f", worst {worst:+.4f} (at most {limit.worst_loss:g})"
    return verdict(is_good, text)


def report(recorded: Recorded) -> list[str]:
    """Lay out the table and the verdicts, in Markdown."""
    rows = sorted(
        map(Row.from_row, recorded.rows),
        key=lambda row: (row.d, row.kernel, row.n, PARTS.index(row.what)),
    )
    head = ["part", "kernel", "d", "n", "bbopt", "BoTorch", "ratio"]
    lines = table([*head, "median loss", "worst loss"], (row.cells() for row in rows))
    apart = [row.apart for row in rows if row.apart is not None]
    if apart:
        lines += [
            "",
            f"The two log posteriors differ by at most {max(apart):.1e} nat at the same "
            "hyperparameters.",
        ]
    lines += fenced(text for row in rows if (text := judge(row)) is not None)
    return lines + versions_line(recorded)
