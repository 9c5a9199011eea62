"""Which results the models of a large study stand on, and which map makes targets of values.

An exact model of everything costs cubic time. Beyond some size a model takes a fixed number of
rows: the nearest to the best one, a neighbourhood thinned out evenly, and a random choice of
the rest. The rows are a poor sample of the values, mostly good ones, so that a map to targets
fitted to them alone would take everything but the very best for the bad tail; it is fitted to
all values instead.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt.gp import LARGEST_VALUE, FeatureMap, OutputWarp, WarpKind, fit_warp
from bbopt.numerics import stream
from bbopt.space import ColumnKind
from bbopt.strategies.ranking import rank
from bbopt.strategies.strategy import Array, StrategyContext

Rows = NDArray[np.int64]
N_ELITE: Final = 20
"""Least number of best rows whose spread says what is near."""
ELITE_FRACTION: Final = 0.1
LEAST_SPREAD: Final = 1e-3
LEAST_SPREAD_CATEGORICAL: Final = 0.25
"""Another category is never infinitely far, even if the best rows have one in common."""
KEPT_FRACTION: Final = 2 / 7
"""Share of the near rows that are simply the nearest; the others are spread evenly over a
larger neighbourhood, because among 100,000 results the nearest 700 are one small ball."""
POOL_FRACTION: Final = 0.2
MAX_POOL: Final = 4000
"""Most rows that are thinned out: each of those chosen costs a pass over them."""


def choose_rows(context: StrategyContext, n: int, *, n_near: int, n_anywhere: int) -> Rows:
    """Choose among the first ``n`` results; a function of these and the study's seed.

    Args:
        context: The study.
        n: Rows of the columns to choose from.
        n_near: How many near the best one, in units of the spread of the best tenth.
        n_anywhere: How many of all others, at random.

    Returns:
        Ascending row numbers, ``(k,)``.
    """
    Z = _scaled(context, n)
    distance = (Z * Z).sum(axis=1)
    order = np.argsort(distance, kind="stable")
    pool = order[: max(n_near, min(MAX_POOL, int(POOL_FRACTION * n)))]
    near = pool[_spread_out(Z[pool], n_near, n_kept=int(KEPT_FRACTION * n_near))]
    is_far = np.ones(n, dtype=np.bool_)
    is_far[near] = False
    far = np.flatnonzero(is_far)
    rng = stream(context.seed, "gp", "subset", n)
    others = rng.choice(far, size=min(n_anywhere, len(far)), replace=False)
    chosen: Rows = np.sort(np.concatenate([near, others]))
    return chosen


def fit_warp_of_all(kind: WarpKind, values: Array) -> OutputWarp:
    """Return the map to targets of all values of an output.

    Args:
        kind: Of the map.
        values: Shape ``(n,)``; those that are not finite were not measured.
    """
    measured = values[np.isfinite(values)]
    return fit_warp(kind, np.clip(measured, -LARGEST_VALUE, LARGEST_VALUE))


def _scaled(context: StrategyContext, n: int) -> Array:
    """Return feature rows relative to the best row, in units of the best rows' spread."""
    columns, codec = context.columns, context.codec
    order, _ = rank(columns, np.arange(n))
    best = np.arange(n) if order is None else order
    map_ = FeatureMap(codec.columns)
    rows = torch.from_numpy(np.array(columns.X[:n]))
    features: Array = map_.features(rows).numpy()
    elite = features[best[: max(N_ELITE, int(ELITE_FRACTION * n))]]
    is_categorical = np.array([c.kind is ColumnKind.CATEGORICAL for c in codec.columns])
    floor = np.where(is_categorical, LEAST_SPREAD_CATEGORICAL, LEAST_SPREAD)
    spread = np.maximum(elite.std(axis=0), floor[map_.group.numpy()])
    scaled: Array = (features - elite[0]) / spread
    return scaled


def _spread_out(Z: Array, n: int, *, n_kept: int) -> Rows:
    """Choose ``n`` of the rows ``(m, F)``: the first ``n_kept``, then each time the one that is
    farthest from all chosen so far.

    Source:
        Gonzalez (1985), Theoretical Computer Science 38.
    """
    if len(Z) <= n:
        return np.arange(len(Z))
    chosen = list(range(max(1, n_kept)))
    nearest = np.full(len(Z), np.inf)
    for index in range(n):
        if index == len(chosen):
            chosen.append(int(np.argmax(nearest)))
        step = Z - Z[chosen[index]]
        nearest = np.minimum(nearest, np.einsum("ij,ij->i", step, step))
    return np.array(chosen, dtype=np.int64)


def known_noise_sd(variance: Array) -> Array:
    """Return the standard deviations that were told of values; 0 where none was.

    Args:
        variance: Of each value, NaN where unknown, shape ``(n,)``.
    """
    sd: Array = np.sqrt(np.where(np.isfinite(variance), variance, 0.0))
    return sd
