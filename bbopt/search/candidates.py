"""Where a search looks first: everywhere evenly, and round the best points at every scale."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bbopt.numerics.sobol import POOL_SIZE, shifted_sobol
from bbopt.search.space import SearchSpace

Array = NDArray[np.float64]
LOCAL_SCALES: Final = (-3.0, -0.7)
"""Exponents of ten of the perturbations, 0.001 to 0.2 of the cube."""
COLUMNS_MOVED: Final = 20
"""Expected number of columns that a perturbation moves in high dimension."""
TREE_FROM: Final = 32
"""Rows from which building a tree of the taken rows pays."""
SEPARATION: Final = 1e-6
"""Rows closer than this in every column are the same point."""


def spread_candidates(space: SearchSpace, rng: np.random.Generator, n: int) -> Array:
    """Return feasible rows from all over the space, canonical unless it is a box.

    Args:
        space: The space.
        rng: The only source of randomness.
        n: Number of rows, 1 to 4096.

    Returns:
        Shape ``(n, D)``: a shifted Sobol set, or the codec's own uniform sample where there are
        constraints.
    """
    if space.has_constraints:
        return space.sample(rng, n)
    rows = shifted_sobol(space.dim, min(n, POOL_SIZE), rng)
    return rows if space.is_box else space.snap(rows)


def local_candidates(
    space: SearchSpace, rng: np.random.Generator, n: int, *, incumbents: Array
) -> Array:
    """Return feasible perturbations of good points, canonical unless the space is a box.

    Continuous and ordered columns move by a normal step of log-uniform scale; discrete columns
    are now and then drawn anew. In high dimension only about twenty columns move.

    Args:
        space: The space.
        rng: The only source of randomness.
        n: Number of perturbations, before infeasible ones are dropped.
        incumbents: The points to perturb, canonical, shape ``(k, D)``.

    Returns:
        Shape ``(m, D)``, m <= n.
    """
    if not len(incumbents) or n == 0:
        return np.empty((0, space.dim))
    d = space.dim
    rows = incumbents[rng.integers(len(incumbents), size=n)]
    scale = 10.0 ** rng.uniform(*LOCAL_SCALES, size=(n, 1))
    moved = rng.standard_normal((n, d))
    moved *= scale
    if d > COLUMNS_MOVED:
        moved[rng.random((n, d)) >= COLUMNS_MOVED / d] = 0.0
    moved += rows
    inside = np.minimum(np.maximum(moved, 0.0), 1.0)
    is_periodic = np.array([column.periodic for column in space.columns])
    moved = np.where(is_periodic, moved % 1.0, inside) if is_periodic.any() else inside
    if space.is_box:
        return moved
    is_discrete = np.array([column.n_levels > 0 for column in space.columns])
    if is_discrete.any():
        chance = min(0.5, 1.0 / is_discrete.sum())
        is_drawn = is_discrete & (rng.random((n, d)) < chance)
        moved = np.where(is_drawn, rng.random((n, d)), moved)
    if space.polytope is not None:
        moved = space.project(moved)
    moved = space.snap(moved)
    if not space.has_constraints:
        return moved
    return moved[space.is_feasible(moved)]


def choose_starts(values: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Choose rows to climb from: the best, and others with a chance that grows with the value.

    Gumbel top-k on standardised values, i.e. a Boltzmann draw without replacement.

    Args:
        values: Acquisition at the candidates, shape ``(m,)``, m >= 1; ``-inf`` is never chosen
            before a finite value.
        n: Number of starts.
        rng: The only source of randomness.

    Returns:
        Indices, shape ``(min(n, m),)``; the best candidate comes first.
    """
    finite = np.nonzero(np.isfinite(values))[0]
    if not len(finite):
        return np.argsort(-rng.gumbel(size=len(values)), kind="stable")[:n]
    key = values[finite]
    best = int(np.argmax(key))
    key -= key[best]
    key *= 2.0 / (key.std() + 1e-12)
    key += rng.gumbel(size=len(key))
    key[best] = np.inf
    return finite[np.argsort(-key, kind="stable")[:n]]


def is_taken(X: Array, taken: Array) -> NDArray[np.bool_]:
    """Say which rows are within 1e-6 of a taken row in every column, ``(n,)``."""
    if not len(taken) or not len(X):
        return np.zeros(len(X), dtype=np.bool_)
    if len(X) <= TREE_FROM:
        nearest = [np.abs(taken - row).max(axis=1).min() for row in X]
        return np.array(nearest) < SEPARATION
    found, _ = cKDTree(taken).query(X, p=np.inf, distance_upper_bound=SEPARATION)
    return np.asarray(np.isfinite(found), dtype=np.bool_)
