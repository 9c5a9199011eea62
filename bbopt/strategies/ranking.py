"""Rankings of results, for methods that learn from nothing else."""

import math

import numpy as np
from numpy.typing import NDArray

from bbopt.strategies.strategy import Array
from bbopt.trial import Columns


def rank(columns: Columns, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, bool]:
    """Rank rows: feasible ones by the objective, then the others by how far they miss.

    Behind both come results without an objective or a constraint, last the points that cannot
    be evaluated. Of equals the first in ``rows`` wins.

    Args:
        columns: What was measured.
        rows: Rows of the columns, ``(k,)``.

    Returns:
        Positions in ``rows``, best first, or ``None`` if no point could be evaluated at all;
        and whether all rows are equal, so that the order means nothing.
    """
    Y = columns.Y[rows]
    miss = _miss(columns, Y[:, 1:])
    is_broken = columns.is_infeasible[rows]
    is_unknown = np.isnan(Y[:, 0]) & (miss == 0.0) | np.isnan(miss)
    group = np.select([is_broken, is_unknown, miss > 0.0], [3.0, 2.0, 1.0], 0.0)
    value = np.select([group == 0.0, group == 1.0], [-Y[:, 0], miss], 0.0)
    if len(rows) == 0 or bool(is_broken.all()):
        return None, False
    order: NDArray[np.int64] = np.lexsort((value, group))
    is_flat = bool((group == group[0]).all() and (value == value[0]).all())
    return order, is_flat


def _miss(columns: Columns, bounds: Array) -> Array:
    """Return by how much each row misses its bounds in sum, each in its bound's magnitude."""
    units = [abs(each.offset) or 1.0 for each in columns.outputs[1:]]
    units = [unit if math.isfinite(unit) else 1.0 for unit in units]
    with np.errstate(over="ignore"):
        missed: Array = np.sum(np.maximum(bounds, 0.0) / np.array(units), axis=1)
    return missed
