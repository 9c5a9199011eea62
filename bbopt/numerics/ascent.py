"""Many bounded quasi-Newton ascents that share every evaluation of the function.

Line searches are asynchronous: one batched evaluation serves every live row, whatever it is
doing. Rows leave when they have converged or fallen hopelessly behind the best. The bookkeeping
is a few hundred doubles and stays in numpy on the host; the evaluation, which is all the work,
runs where the model lives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.numerics.curvature import (
    EVERY,
    Curvature,
    DenseHessian,
    Index,
    LimitedMemoryInverse,
    dot,
)

Array = NDArray[np.float64]
Evaluate = Callable[[Array, NDArray[np.intp]], tuple[Array, Array]]
"""Maps rows ``(R, D)`` and the starts they come from, ``(R,)``, to values ``(R,)`` (``-inf``
where infeasible) and gradients ``(R, D)``."""
EvaluateCurvature = Callable[[Array, NDArray[np.intp]], tuple[Array, Array, Array]]
"""Likewise, and positive definite approximations of minus the Hessian, ``(R, D, D)``."""
DENSE_UNTIL: Final = 60
"""Columns above which dense matrices cost more than the evaluations they save."""
FIRST_STEP: Final = 0.3
"""Length scales that a row moves at most before it knows any curvature."""
FIRST_GAIN: Final = 3.0
"""Nats that its gradient alone may promise for that move: hills near good points are narrow."""
LONGEST_STEP: Final = 2.0
"""Length scales that a row moves at most in a step."""
SMALLEST_STEP: Final = 1e-7
"""In length scales; a rejected step this short ends the row."""


@dataclass(frozen=True, slots=True)
class AscentSettings:
    """Stopping rules for functions that are logarithms, so that their unit is the nat."""

    max_iterations: int = 60
    gradient_tolerance: float = 1e-2
    """Nats per length scale."""
    value_tolerance: float = 3e-4
    """A row stops after ``patience`` improvements in a row below this."""
    patience: int = 1
    promise_tolerance: float = 1e-3
    """A row stops where its curvature promises no more than this improvement, in nats."""
    prune_at: tuple[tuple[int, float], ...] = (
        (2, 6.0),
        (4, 3.0),
        (6, 1.0),
        (8, 0.5),
        (10, 0.25),
        (12, 0.1),
    )
    """After so many steps, drop rows that are so many nats behind the best."""
    catch_up: float = 4.0
    """After two steps, drop rows that so many times their promise would not bring to the best.
    Many rows climb the same hill; the first to arrive then ends the search."""


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
    curvature: Curvature
    direction: Array = field(init=False)
    length: Array = field(init=False)
    slack: Array = field(init=False)
    stalls: Array = field(init=False)
    promise: Array = field(init=False)

    def __post_init__(self) -> None:
        self.direction = np.zeros_like(self.x)
        self.length = np.zeros(len(self.x))
        self.slack = np.zeros(len(self.x))
        self.stalls = np.zeros(len(self.x))
        self.promise = np.full(len(self.x), np.inf)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        self.index, self.lower, self.upper = (
            self.index[rows],
            self.lower[rows],
            self.upper[rows],
        )
        self.x, self.f, self.g = self.x[rows], self.f[rows], self.g[rows]
        self.direction, self.length = self.direction[rows], self.length[rows]
        self.slack, self.stalls = self.slack[rows], self.stalls[rows]
        self.promise = self.promise[rows]
        self.curvature.keep(rows)

    def aim(self) -> None:
        """Choose direction and first step length of every row from its present gradient."""
        within = np.minimum(np.maximum(self.x - self.g, self.lower), self.upper)
        within -= self.x
        self.slack = np.maximum.reduce(np.abs(within), axis=1)
        blocked = within == 0.0  # at a bound that the gradient points to
        gradient = np.where(blocked, 0.0, self.g)
        direction = self.curvature.solve(gradient, blocked)
        np.negative(direction, out=direction)
        direction[blocked] = 0.0
        slope = dot(direction, gradient)
        if not (slope <= 0.0).all():
            uphill = np.nonzero(~(slope <= 0.0))[0]
            direction[uphill] = -gradient[uphill]
            slope[uphill] = -dot(gradient[uphill], gradient[uphill])
            self.curvature.reset(uphill)
        self.promise = -0.5 * slope
        size = np.maximum(np.sqrt(dot(direction, direction)), 1e-100)
        self.length = np.minimum(1.0, LONGEST_STEP / size)
        self.direction = direction
        fresh = self.curvature.is_fresh
        if fresh.any():
            first = np.minimum(
                FIRST_STEP / size, FIRST_GAIN / np.maximum(np.abs(slope), 1e-100)
            )
            self.promise[fresh] = np.inf
            self.length[fresh] = np.minimum(1.0, first[fresh])

    def move(self, x: Array, f: Array, g: Array, hessian: Array | None) -> None:
        """Take the step of every row."""
        if hessian is not None and isinstance(self.curvature, DenseHessian):
            self.curvature.replace(EVERY, hessian)
        self.curvature.update(EVERY, x - self.x, g - self.g)
        self.x, self.f, self.g = x, f, g
        self.aim()

    def move_some(
        self, accepted: Index, x: Array, f: Array, g: Array, hessian: Array | None
    ) -> None:
        """Take the step of some rows; the others keep their direction and shortened step."""
        if hessian is not None and isinstance(self.curvature, DenseHessian):
            self.curvature.replace(accepted, hessian[accepted])
        step, change = x[accepted] - self.x[accepted], g[accepted] - self.g[accepted]
        self.curvature.update(accepted, step, change)
        self.x[accepted], self.f[accepted] = x[accepted], f[accepted]
        self.g[accepted] = g[accepted]
        length, direction, promise = self.length, self.direction, self.promise
        self.aim()
        length[accepted], direction[accepted] = self.length[accepted], self.direction[accepted]
        promise[accepted] = self.promise[accepted]
        self.length, self.direction, self.promise = length, direction, promise


def ascend(
    evaluate: Evaluate,
    starts: Array,
    lower: Array,
    upper: Array,
    *,
    scale: Array,
    settings: AscentSettings | None = None,
    with_curvature: EvaluateCurvature | None = None,
    n_curved: int = 1,
    rivals: Index | None = None,
) -> Ascent:
    """Climb from every start inside its own box.

    Args:
        evaluate: What to maximise, with its gradient.
        starts: Shape ``(R, D)``, inside the boxes, with finite values.
        lower: Lower bounds, shape ``(R, D)``; equal to ``upper`` where a column is held fixed.
        upper: Upper bounds, shape ``(R, D)``.
        scale: Length scale of each column, shape ``(D,)``; steps are measured in it.
        settings: Stopping rules.
        with_curvature: Stands in for ``evaluate`` at the starts, and says how strongly the
            function is curved, which otherwise has to be learned step by step.
        n_curved: How many of the first evaluations ask it.
        rivals: Number of the group of each start, ``(R,)``, in which it may fall behind the
            best; ``None`` is one group.

    Returns:
        The best point of every row; never worse than its start.
    """
    settings = settings or AscentSettings()
    prune_at = dict(settings.prune_at)
    n_rows, dimension = starts.shape
    evaluation = _Evaluation(evaluate, with_curvature, n_curved, scale)
    f, g, hessian = evaluation(starts / scale, np.arange(n_rows))
    best_x, best_f = starts.copy(), f.copy()
    curvature: Curvature
    if hessian is not None or dimension <= DENSE_UNTIL:
        curvature = DenseHessian(n_rows, dimension, hessian)
    else:
        curvature = LimitedMemoryInverse(n_rows, dimension)
    rows = _Rows(
        np.arange(n_rows), lower / scale, upper / scale, starts / scale, f, g, curvature
    )
    rows.aim()
    if not np.isfinite(f).all():
        rows.keep(np.isfinite(f))
    for iteration in range(settings.max_iterations):
        best = best_f.min() if rivals is None else _best_rival(best_f, rivals)[rows.index]
        alive = (rows.slack > settings.gradient_tolerance) & (rows.stalls < settings.patience)
        alive &= rows.promise > settings.promise_tolerance
        if iteration >= 2 and settings.catch_up < math.inf:
            alive &= rows.f - settings.catch_up * rows.promise <= best
        if iteration in prune_at:
            alive &= rows.f <= best + prune_at[iteration]
        if not alive.all():
            rows.keep(alive)
        if not len(rows.index):
            break
        trial = rows.x + rows.length[:, None] * rows.direction
        np.minimum(np.maximum(trial, rows.lower, out=trial), rows.upper, out=trial)
        f, g, hessian = evaluation(trial, rows.index)
        accepted = _step(rows, trial, f, g, hessian, settings.value_tolerance)
        moved = rows.index[accepted]
        best_x[moved] = rows.x[accepted] * scale
        best_f[moved] = rows.f[accepted]
    return Ascent(np.minimum(np.maximum(best_x, lower), upper), -best_f, evaluation.n)


def _best_rival(f: Array, rivals: Index) -> Array:
    """Return the least value in the group of every row, ``(R,)``."""
    best = np.full(int(rivals.max()) + 1, np.inf)
    np.minimum.at(best, rivals, f)
    found: Array = best[rivals]
    return found


class _Evaluation:
    """The function turned round, in scaled coordinates."""

    def __init__(
        self,
        evaluate: Evaluate,
        with_curvature: EvaluateCurvature | None,
        n_curved: int,
        scale: Array,
    ) -> None:
        self.n = 0
        self._evaluate, self._scale = evaluate, scale
        self._with_curvature, self._n_curved = with_curvature, n_curved

    def __call__(self, x: Array, index: Index) -> tuple[Array, Array, Array | None]:
        """Return values, gradients and, for the first times if possible, Hessians."""
        self.n += 1
        if self._with_curvature is None or self.n > self._n_curved:
            values, gradients = self._evaluate(x * self._scale, index)
            return -values, -gradients * self._scale, None
        values, gradients, curvature = self._with_curvature(x * self._scale, index)
        hessian = curvature * (self._scale[:, None] * self._scale)
        return -values, -gradients * self._scale, hessian


def _step(
    rows: _Rows, trial: Array, f: Array, g: Array, hessian: Array | None, value_tolerance: float
) -> Index | slice:
    """Accept or shorten every row's step; return the positions of the accepted ones."""
    step = trial - rows.x
    expected = dot(rows.g, step)
    is_accepted = (f <= rows.f + 1e-4 * expected) & np.isfinite(f)
    stalls = np.where(rows.f - f < value_tolerance, rows.stalls + 1.0, 0.0)
    if is_accepted.all():
        rows.stalls = stalls
        rows.move(trial, f, g, hessian)
        return EVERY
    rejected = ~is_accepted
    with np.errstate(invalid="ignore", over="ignore"):
        bend = 2.0 * (f - rows.f - expected)
        ratio = np.where(bend > 0.0, -expected / np.where(bend > 0.0, bend, 1.0), 0.25)
    ratio = np.where(np.isfinite(ratio) & np.isfinite(f), ratio, 0.25)
    rows.length[rejected] *= np.clip(ratio[rejected], 0.1, 0.5)
    rows.stalls[rejected & (np.abs(step).max(1) < SMALLEST_STEP)] = np.inf
    accepted = np.nonzero(is_accepted)[0]
    if len(accepted):
        rows.stalls[accepted] = stalls[accepted]
        rows.move_some(accepted, trial, f, g, hessian)
    return accepted
