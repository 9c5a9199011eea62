"""Discrete columns: small spaces are enumerated, large ones searched one move at a time."""

import itertools
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.search.space import SearchSpace

Array = NDArray[np.float64]
Value = Callable[[Array], Array]
"""Maps canonical rows ``(n, D)`` to acquisition values ``(n,)``."""
MAX_NEIGHBOURS: Final = 256
"""Neighbours looked at per row and round; of more, a random choice."""

REACH: Final = 256
"""Longest move on an ordered column, in levels; single steps would crawl over a thousand."""


def n_configurations(space: SearchSpace) -> float:
    """Return the number of combinations of levels: infinite with a continuous column."""
    if any(column.n_levels == 0 for column in space.columns):
        return math.inf
    return math.prod(float(column.n_levels) for column in space.columns)


def enumerate_rows(space: SearchSpace) -> Array:
    """Return every canonical feasible row of a fully discrete space, ``(n, D)``, sorted.

    Args:
        space: A space whose ``n_configurations`` is small enough to write down.
    """
    levels = [np.asarray(column.levels, dtype=np.float64) for column in space.columns]
    grid = np.array(list(itertools.product(*levels)), dtype=np.float64).reshape(-1, space.dim)
    rows = np.unique(space.snap(grid), axis=0)
    return rows[space.is_feasible(rows)] if space.has_constraints else rows


def improve_by_moves(
    value: Value,
    space: SearchSpace,
    X: Array,
    values: Array,
    *,
    rng: np.random.Generator,
    max_rounds: int,
) -> tuple[Array, Array]:
    """Walk every row to its best discrete neighbour until none is better.

    All neighbours of all rows are evaluated together.

    Args:
        value: The acquisition.
        space: The space.
        X: Canonical feasible rows, shape ``(R, D)``.
        values: Their acquisition values, shape ``(R,)``.
        rng: Chooses among more than 256 neighbours of a row.
        max_rounds: Largest number of moves of a row.

    Returns:
        The rows where the walks ended, and their values.
    """
    X, values = X.copy(), values.copy()
    walking = np.arange(len(X))
    for _ in range(max_rounds):
        parts = [_some_neighbours(space, X[row], rng) for row in walking]
        sizes = [len(part) for part in parts]
        if not sum(sizes):
            break
        found = value(np.concatenate(parts))
        still: list[int] = []
        first = 0
        for row, part, size in zip(walking, parts, sizes, strict=True):
            if size:
                best = first + int(np.argmax(found[first : first + size]))
                if found[best] > values[row] + 1e-9:
                    X[row], values[row] = part[best - first], found[best]
                    still.append(int(row))
            first += size
        if not still:
            break
        walking = np.array(still)
    return X, values


def _some_neighbours(space: SearchSpace, x: Array, rng: np.random.Generator) -> Array:
    rows = space.neighbours(x, reach=REACH)
    if len(rows) <= MAX_NEIGHBOURS:
        return rows
    return rows[np.sort(rng.choice(len(rows), MAX_NEIGHBOURS, replace=False))]
