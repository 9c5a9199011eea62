"""Ascents inside a polytope by spectral projected gradients, all rows sharing every evaluation.

Steps go from a feasible point towards the Euclidean projection of a gradient step, so every
point on the way is feasible (the set is convex), equalities included. The step length is the
Barzilai-Borwein one, accepted against the worst of the last few values.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.numerics.ascent import Ascent, AscentSettings

Array = NDArray[np.float64]
Evaluate = Callable[[Array], tuple[Array, Array]]
"""Maps rows ``(R, D)`` to values ``(R,)`` and gradients ``(R, D)``."""
HISTORY: Final = 6
"""Values remembered for the nonmonotone rule."""
STEP_BOUNDS: Final = (1e-8, 1e4)


def ascend_in_polytope(
    evaluate: Evaluate,
    starts: Array,
    project: Callable[[Array], Array],
    *,
    settings: AscentSettings | None = None,
) -> Ascent:
    """Climb from every start along projected gradients.

    Args:
        evaluate: The acquisition with its gradient; the gradient of a column that must not move
            is zero.
        starts: Feasible rows, shape ``(R, D)``.
        project: Euclidean projection on the feasible set, ``(k, D) -> (k, D)``.
        settings: Stopping rules; tolerances are per unit-cube length here.

    Returns:
        The best point of every row; never worse than its start.

    Source:
        Birgin, Martinez & Raydan (2000), doi:10.1137/S1052623497330963, algorithm 2.2.
    """
    settings = settings or AscentSettings()
    # First-order steps get there later than quasi-Newton ones.
    prune_at = {2 * iteration: behind for iteration, behind in settings.prune_at}
    values, gradient = evaluate(starts)
    x, f, g = starts.copy(), -values, -gradient
    best_x, best_f = x.copy(), f.copy()
    index = np.nonzero(np.isfinite(f))[0]
    x, f, g = x[index], f[index], g[index]
    recent = np.full((len(index), HISTORY), -np.inf)
    recent[:, 0] = f
    stalls = np.zeros(len(index))
    spectral = 0.1 / np.maximum(np.abs(g).max(axis=1, initial=0.0), 1e-12)
    direction = project(x - spectral[:, None] * g) - x
    fraction = np.ones(len(index))
    n_evaluations = 1
    for iteration in range(settings.max_iterations):
        alive = (np.abs(direction).max(axis=1, initial=0.0) > 1e-9) & (stalls < 3)
        if iteration in prune_at:
            alive &= best_f[index] <= best_f.min() + prune_at[iteration]
        if not alive.all():
            index, x, f, g, recent = index[alive], x[alive], f[alive], g[alive], recent[alive]
            stalls, spectral = stalls[alive], spectral[alive]
            direction, fraction = direction[alive], fraction[alive]
        if not len(index):
            break
        trial = x + fraction[:, None] * direction
        values, gradient = evaluate(trial)
        n_evaluations += 1
        new_f, new_g = -values, -gradient
        slope = (g * direction).sum(1)
        is_accepted = np.isfinite(new_f) & (
            new_f <= recent.max(axis=1) + 1e-4 * fraction * slope
        )
        rejected = ~is_accepted
        fraction[rejected] *= 0.3
        stalls[rejected & (fraction < 1e-6)] = np.inf
        a = np.nonzero(is_accepted)[0]
        if not len(a):
            continue
        step, change = trial[a] - x[a], new_g[a] - g[a]
        curvature = (step * change).sum(1)
        size = (step * step).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(curvature > 0.0, size / curvature, STEP_BOUNDS[1])
        spectral[a] = np.clip(ratio, *STEP_BOUNDS)
        stalls[a] = np.where(f[a] - new_f[a] < settings.value_tolerance, stalls[a] + 1.0, 0.0)
        x[a], f[a], g[a] = trial[a], new_f[a], new_g[a]
        recent[a, 1:] = recent[a, :-1]
        recent[a, 0] = new_f[a]
        fraction[a] = 1.0
        direction[a] = project(x[a] - _bounded_step(spectral[a], g[a])) - x[a]
        better = a[f[a] < best_f[index[a]]]
        best_x[index[better]], best_f[index[better]] = x[better], f[better]
    return Ascent(best_x, -best_f, n_evaluations)


def _bounded_step(spectral: Array, gradient: Array) -> Array:
    """Return the gradient step, no longer than the cube is wide: projections stay accurate."""
    step = spectral[:, None] * gradient
    longest = np.abs(step).max(axis=1, keepdims=True)
    bounded: Array = step / np.maximum(longest, 1.0)
    return bounded
