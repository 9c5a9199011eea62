"""Which evaluated trial to deploy, by what was measured."""

import numpy as np
from numpy.typing import NDArray

from bbopt.strategies.strategy import Recommendation
from bbopt.trial import Columns


def eligible_rows(columns: Columns) -> NDArray[np.int64]:
    """Return the rows with a measured objective that satisfy every constraint, ascending."""
    is_measured = np.isfinite(columns.Y[:, 0])
    rows: NDArray[np.int64] = np.flatnonzero(is_measured & columns.feasible)
    return rows


def recommend_measured(columns: Columns) -> Recommendation | None:
    """Choose the best measured feasible trial, the first of equals; ``None`` if none is."""
    rows = eligible_rows(columns)
    if len(rows) == 0:
        return None
    best = rows[int(np.argmax(columns.Y[rows, 0]))]
    return Recommendation(int(columns.numbers[best]), "best measured feasible value")
