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
from bbopt.strategies.outputs import Output
from bbopt.strategies.pace import MAX_EXACT
from bbopt.strategies.ranking import rank
from bbopt.strategies.strategy import Array, StrategyContext
from bbopt.trial import OutcomeCode

Rows = NDArray[np.int64]
N_NEAR: Final = 700
N_ANYWHERE: Final = 300
"""Beyond, a model stands on 700 rows near the best one and 300 random others: better near the
optimum than any sparse approximation of the same cost that was measured."""
RENEW_EVERY: Final = 100
"""Rows that may join such a model before a refit chooses its rows anew."""
MAX_JOINED: Final = 200
"""Rows that may join a model without a refit, e.g. to answer ``predict`` after many tells."""
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


class RowChoice:
    """The rows under the models of a study: all, or of a large study a choice among the first
    ``anchor`` and all that came later.
    """

    def __init__(self, context: StrategyContext, anchor: int) -> None:
        """Go on from an earlier choice.

        Args:
            context: The study.
            anchor: Number of rows among which a subset was chosen; 0 while all are used.
        """
        self._context = context
        self.anchor = anchor
        self._chosen: tuple[tuple[int, int], Rows] | None = None
        self._warps: dict[str, tuple[tuple[int, int, WarpKind], OutputWarp]] = {}

    def renew(self) -> bool:
        """Move the anchor if it is time; say whether that happened."""
        n = len(self._context.columns.X)
        if n <= MAX_EXACT or n - self.anchor < RENEW_EVERY:
            return False
        self.anchor = n
        return True

    def base(self) -> int:
        """Return among how many rows a subset is chosen (later ones join it), or 0 for none.

        This is the anchor of the last refit, unless so many results came after it that a model
        could not take them in one by one.
        """
        n = len(self._context.columns.X)
        return self.anchor if n <= (self.anchor or MAX_EXACT) + MAX_JOINED else n

    def rows_of(self, output: Output) -> Rows:
        """Return the rows that an output's model stands on, in the order in which they came."""
        columns = self._context.columns
        n, base = len(columns.X), self.base()
        rows: Rows = np.arange(n)
        if base:
            rows = np.concatenate([self._chosen_of(base), rows[base:]])
        if output.is_label:
            is_used = columns.outcome[rows] != OutcomeCode.WITHDRAWN
        else:
            is_used = np.isfinite(columns.Y[rows, output.column])
        used: Rows = rows[is_used]
        return used

    def warp_of(self, output: Output, kind: WarpKind) -> OutputWarp | None:
        """Return the map to targets of the rows that a subset was chosen from.

        ``None`` while models use all rows: they fit it themselves.
        """
        base, columns = self.base(), self._context.columns
        if not base:
            return None
        key = (base, columns.amended_revision, kind)
        known = self._warps.get(output.name)
        if known is None or known[0] != key:
            warp = fit_warp_of_all(kind, columns.Y[:base, output.column])
            known = self._warps[output.name] = (key, warp)
        return known[1]

    def _chosen_of(self, n: int) -> Rows:
        """Choose among the first ``n`` rows; what was chosen last is kept at hand."""
        key = (n, self._context.columns.amended_revision)
        if self._chosen is None or self._chosen[0] != key:
            rows = choose_rows(self._context, n, n_near=N_NEAR, n_anywhere=N_ANYWHERE)
            self._chosen = (key, rows)
        return self._chosen[1]


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
