"""Many bounded quasi-Newton ascents that share every evaluation of the function.

Line searches are asynchronous: one batched evaluation serves every live row, whatever it is
doing. Rows leave when they have converged or fallen hopelessly behind the best. The bookkeeping
is a few hundred doubles and stays in numpy on the host; the evaluation, which is all the work,
runs where the model lives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.numerics.curvature import DenseInverse, InverseCurvature, LimitedMemoryInverse

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Evaluate = Callable[[Array, Index], tuple[Array, Array]]
"""Maps rows ``(R, D)`` and the starts they come from, ``(R,)``, to values ``(R,)`` (``-inf``
where infeasible) and gradients ``(R, D)``."""
DENSE_UNTIL: Final = 60
"""Columns above which dense matrices cost more than the evaluations they save."""
SMALLEST_STEP: Final = 1e-7
"""In length scales; a rejected step this short ends the row."""


@dataclass(frozen=True, slots=True)
class AscentSettings:
    """Stopping rules for functions that are logarithms, so that their unit is the nat."""

    max_iterations: int = 60
    gradient_tolerance: float = 1e-2
    """Nats per length scale."""
    value_tolerance: float = 1e-3
    """A row stops after ``patience`` improvements in a row below this."""
    patience: int = 1
    prune_at: tuple[tuple[int, float], ...] = (
        (2, 6.0),
        (4, 3.0),
        (6, 1.0),
        (8, 0.5),
        (10, 0.25),
        (12, 0.1),
    )
    """After so many steps, drop rows that are so many nats behind the best. Together these
    rules lost at most 0.002 nat on 192 data sets of 6 and 20 columns against a search four
    times as wide."""


@dataclass(frozen=True, slots=True)
class Ascent:
    """Where every row ended."""

    X: Array
    """Shape ``(R, D)``."""
    values: Array
    """Shape ``(R,)``."""
    n_evaluations: int
    """Batched evaluations."""


@dataclass(slots=True)
class _Rows:
    """The live rows in scaled coordinates, minimising ``f = -value``."""

    index: NDArray[np.intp]
    lower: Array
    upper: Array
    x: Array
    f: Array
    g: Array
    curvature: InverseCurvature
    direction: Array = field(init=False)
    length: Array = field(init=False)
    slack: Array = field(init=False)
    stalls: Array = field(init=False)

    def __post_init__(self) -> None:
        self.direction = np.zeros_like(self.x)
        self.length = np.zeros(len(self.x))
        self.slack = np.zeros(len(self.x))
        self.stalls = np.zeros(len(self.x))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        self.index, self.lower, self.upper = (
            self.index[rows],
            self.lower[rows],
            self.upper[rows],
        )
        self.x, self.f, self.g = self.x[rows], self.f[rows], self.g[rows]
        self.direction, self.length = self.direction[rows], self.length[rows]
        self.slack, self.stalls = self.slack[rows], self.stalls[rows]
        self.curvature.keep(rows)

    def aim(self) -> None:
        """Choose direction and first step length of every row from its present gradient."""
        blocked = ((self.x <= self.lower) & (self.g > 0.0)) | (
            (self.x >= self.upper) & (self.g < 0.0)
        )
        free_gradient = np.where(blocked, 0.0, self.g)
        direction = -self.curvature.times(free_gradient)
        direction[blocked] = 0.0
        slope = (direction * free_gradient).sum(1)
        norms = (direction * direction).sum(1) * (free_gradient * free_gradient).sum(1)
        uphill = np.nonzero(slope > -1e-12 * np.sqrt(norms))[0]
        if len(uphill):
            direction[uphill] = -free_gradient[uphill]
            self.curvature.reset(uphill)
        size = np.sqrt((direction * direction).sum(1)) + 1e-300
        self.direction = direction
        self.length = np.minimum(1.0, np.where(self.curvature.is_fresh, 0.3, 2.0) / size)
        clipped = np.minimum(np.maximum(self.x - self.g, self.lower), self.upper)
        self.slack = np.abs(clipped - self.x).max(1)


def ascend(
    evaluate: Evaluate,
    starts: Array,
    lower: Array,
    upper: Array,
    *,
    scale: Array,
    settings: AscentSettings | None = None,
) -> Ascent:
    """Climb from every start inside its own box.

    Args:
        evaluate: What to maximise, with its gradient.
        starts: Shape ``(R, D)``, inside the boxes, with finite values.
        lower: Lower bounds, shape ``(R, D)``; equal to ``upper`` where a column is held fixed.
        upper: Upper bounds, shape ``(R, D)``.
        scale: Length scale of each column, shape ``(D,)``; steps are measured in it.
        settings: Stopping rules.

    Returns:
        The best point of every row; never worse than its start.
    """
    settings = settings or AscentSettings()
    prune_at = dict(settings.prune_at)
    n_rows, dimension = starts.shape
    values, gradients = evaluate(starts, np.arange(n_rows))
    best_x, best_f = starts.copy(), -values
    n_evaluations = 1
    maker = DenseInverse if dimension <= DENSE_UNTIL else LimitedMemoryInverse
    rows = _Rows(
        np.arange(n_rows),
        lower / scale,
        upper / scale,
        starts / scale,
        -values,
        -gradients * scale,
        maker(n_rows, dimension),
    )
    rows.aim()
    for iteration in range(settings.max_iterations):
        alive = (rows.slack > settings.gradient_tolerance) & (rows.stalls < settings.patience)
        alive &= np.isfinite(rows.f)
        if iteration in prune_at:
            alive &= rows.f <= best_f.min() + prune_at[iteration]
        if not alive.all():
            rows.keep(alive)
        if not len(rows.index):
            break
        trial = np.minimum(
            np.maximum(rows.x + rows.length[:, None] * rows.direction, rows.lower), rows.upper
        )
        values, gradients = evaluate(trial * scale, rows.index)
        n_evaluations += 1
        accepted = _step(rows, trial, -values, -gradients * scale, settings.value_tolerance)
        moved = rows.index[accepted]
        best_x[moved] = rows.x[accepted] * scale
        best_f[moved] = rows.f[accepted]
    return Ascent(np.minimum(np.maximum(best_x, lower), upper), -best_f, n_evaluations)


def _step(
    rows: _Rows, trial: Array, f: Array, g: Array, value_tolerance: float
) -> NDArray[np.intp]:
    """Accept or shorten every row's step; return the positions of the accepted ones."""
    step = trial - rows.x
    expected = (rows.g * step).sum(1)
    is_accepted = (f <= rows.f + 1e-4 * expected) & np.isfinite(f)
    if not is_accepted.all():
        rejected = ~is_accepted
        with np.errstate(invalid="ignore", over="ignore"):
            bend = 2.0 * (f - rows.f - expected)
            ratio = np.where(bend > 0.0, -expected / np.where(bend > 0.0, bend, 1.0), 0.25)
        ratio = np.where(np.isfinite(ratio) & np.isfinite(f), ratio, 0.25)
        rows.length[rejected] *= np.clip(ratio[rejected], 0.1, 0.5)
        is_dead = rejected & (np.abs(step).max(1) < SMALLEST_STEP)
        rows.stalls[is_dead] = np.inf
    accepted = np.nonzero(is_accepted)[0]
    if not len(accepted):
        return accepted
    gained = rows.f[accepted] - f[accepted]
    rows.stalls[accepted] = np.where(gained < value_tolerance, rows.stalls[accepted] + 1.0, 0.0)
    rows.curvature.update(accepted, step[accepted], g[accepted] - rows.g[accepted])
    rows.x[accepted], rows.f[accepted], rows.g[accepted] = (
        trial[accepted],
        f[accepted],
        g[accepted],
    )
    length, direction = rows.length, rows.direction
    rows.aim()
    if len(accepted) < len(rows.index):
        # A rejected row keeps its direction and its shortened step.
        rows.length = np.where(is_accepted, rows.length, length)
        rows.direction = np.where(is_accepted[:, None], rows.direction, direction)
    return accepted
