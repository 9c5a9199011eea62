"""A trust region for wide batches: a local model, and many points at once from its samples.

When more points are outstanding than a model can look through one after the other, the further
ones come from one region: a box round the best result in it, longer where the model's length
scales are, with a model of its own on the results in and near it. A model of everything has one
set of length scales and one idea of what is noise; close to an optimum both are different.

The region grows where it succeeds and shrinks where it fails. One that cannot be told from
noise any more, or has shrunk to nothing, is closed, and another one opens elsewhere.

Source:
    Eriksson, Pearce, Gardner, Turner & Poloczek (2019), Scalable Global Optimization via Local
    Bayesian Optimization, NeurIPS, for the lengths of the region and its restarts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt.acquisition.pathwise import SamplePaths
from bbopt.gp import LARGEST_VALUE, FeatureMap, GPModel, GPSettings, Hyperparameters
from bbopt.numerics import FAILURES, stream
from bbopt.search import Found
from bbopt.strategies.gp_batch import DrawFeasibility, Mask, choose_batch, is_boxed
from bbopt.strategies.gp_rows import Rows, known_noise_sd
from bbopt.strategies.strategy import Array, StrategyContext
from bbopt.trial import StrategyState

LENGTH: Final = 0.8
"""Side of a new region, in unit-cube lengths before it is stretched by length scales."""
LENGTH_MAX: Final = 1.6
LENGTH_MIN: Final = 0.5**16
LENGTH_SMALL: Final = 0.5**7
"""Below, a region that is not the best, or sees only noise, is not worth more evaluations."""
PRECISION: Final = 1e-9
"""Values that differ by less than this part of all differences are equal."""
CLOSED_RADIUS: Final = 0.05
"""A later region does not move its centre closer than this to that of a closed one."""
SUCCESSES: Final = 3
"""Successful rounds in a row after which the region doubles."""
MARGIN: Final = 1e-3
"""Least improvement that is a success, as a part of what divides the best value near the centre
from their median."""
STRETCH: Final = (0.2, 5.0)
MAX_ROWS: Final = 500
"""Results that a local model stands on."""
REFIT_GROWTH: Final = 0.02
"""New results, as a part of those of the local model, that make a fit due."""
LEAST_ROWS: Final = 50
ROWS_PER_COLUMN: Final = 10
N_STARTS: Final = 256
"""Points among which a new region's centre is looked for."""


@dataclass(frozen=True, slots=True)
class Region:
    """All that is kept of the region between asks, besides its model's hyperparameters."""

    centre: Array
    """Canonical row, ``(D,)``."""
    closed: Array
    """Centres of closed regions, ``(k, D)``."""
    stretch: Array
    """Side of each column over ``length``, ``(D,)``, geometric mean 1."""
    length: float = LENGTH
    best: float = -LARGEST_VALUE
    """Best value in it when it was last judged."""
    n_successes: int = 0
    n_judged: int = 0
    """Rows of the columns that have had their say on its length."""
    n_closed: int = 0

    @classmethod
    def read(
        cls, scalars: Mapping[str, int | float | str], arrays: Mapping[str, NDArray[Any]]
    ) -> "Region | None":
        """Return what ``scalars`` and ``arrays`` stored; ``None`` if there was no region."""
        if "region/centre" not in arrays:
            return None
        return cls(
            np.array(arrays["region/centre"], dtype=np.float64),
            np.array(arrays["region/closed"], dtype=np.float64),
            np.array(arrays["region/stretch"], dtype=np.float64),
            float(scalars["region/length"]),
            float(scalars["region/best"]),
            int(scalars["region/n_successes"]),
            int(scalars["region/n_judged"]),
            int(scalars["region/n_closed"]),
        )

    def scalars(self) -> dict[str, int | float]:
        """Return what to store besides the arrays."""
        return {
            "region/length": self.length,
            "region/best": self.best,
            "region/n_successes": self.n_successes,
            "region/n_judged": self.n_judged,
            "region/n_closed": self.n_closed,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store."""
        return {
            "region/centre": self.centre,
            "region/closed": self.closed,
            "region/stretch": self.stretch,
        }

    @property
    def is_home(self) -> bool:
        """Whether this is the first region, which follows the best result anywhere."""
        return self.n_closed == 0

    def sides(self) -> Array:
        """Return the side of each column, ``(D,)``."""
        return self.length * self.stretch


class RegionSearch:
    """The trust region of one study: its state, and the batches chosen from it."""

    def __init__(
        self,
        context: StrategyContext,
        settings: GPSettings,
        *,
        state: StrategyState | None = None,
    ) -> None:
        """Start, or continue.

        Args:
            context: The study.
            settings: Of the local model.
            state: Of the strategy, with what ``scalars`` and ``arrays`` gave.
        """
        self._context = context
        self._settings = settings
        self.region: Region | None = None
        self.saved: Hyperparameters | None = None
        """Of the local model; ``None`` before the first fit in this region."""
        self._fitted_at = 0
        if state is not None:
            self.region = Region.read(state.scalars, state.arrays)
            if "region/theta" in state.arrays:
                theta = np.array(state.arrays["region/theta"], dtype=np.float64)
                self.saved = Hyperparameters(theta, int(state.scalars["region/n_fitted"]))
                self._fitted_at = int(state.scalars["region/fitted_at"])

    def scalars(self) -> dict[str, int | float]:
        """Return what to store besides the arrays; nothing before the first wide batch."""
        stored = {} if self.region is None else self.region.scalars()
        if self.saved is not None:
            stored["region/n_fitted"] = self.saved.n_fitted
            stored["region/fitted_at"] = self._fitted_at
        return stored

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store."""
        stored = {} if self.region is None else self.region.arrays()
        if self.saved is not None:
            stored["region/theta"] = self.saved.theta
        return stored

    def is_usable(self, is_improving: bool) -> bool:
        """Whether wide batches can come from the region: something feasible is known, and
        nearness means something in some column.
        """
        codec = self._context.codec
        return is_improving and any(column.n_levels == 0 for column in codec.columns)

    # ------------------------------------------------------------------ the region

    def _eligible(self) -> Mask:
        columns = self._context.columns
        return columns.feasible & np.isfinite(columns.Y[:, 0])

    def advance(self, n_pending: int, anywhere: GPModel) -> Region:
        """Judge the region by the results since it was judged last.

        Args:
            n_pending: Points outstanding; results of a round come one by one where there are
                many workers, and a round is no shorter than what is outstanding.
            anywhere: The objective's model of the whole space.
        """
        columns = self._context.columns
        n, eligible = len(columns), self._eligible()
        clipped = np.clip(columns.Y[:, 0], -LARGEST_VALUE, LARGEST_VALUE)
        values = np.where(eligible, clipped, -np.inf)
        region = self.region
        if region is None:
            best = int(np.argmax(values))
            dim = self._context.codec.dim
            region = Region(
                columns.X[best].copy(),
                best=float(values[best]),
                n_judged=n,
                closed=np.empty((0, dim)),
                stretch=np.ones(dim),
            )
        elif n - region.n_judged >= max(4, self._context.codec.dim, n_pending):
            region = self._judged(region, values)
            if self._is_spent(region, values):
                region = self._opened(region, anywhere)
        self.region = region
        return region

    def _inside(self, region: Region, X: Array) -> Mask:
        """Say which rows may be the centre next."""
        half = 0.5 * region.sides() + 1e-9
        apart = np.abs(X - region.centre)
        is_free = ~is_boxed(self._context.codec)
        is_inside: Mask = np.all((apart <= half) | is_free, axis=1)
        for centre in region.closed:
            is_inside &= np.any((np.abs(X - centre) > CLOSED_RADIUS) & ~is_free, axis=1)
        return is_inside

    def _judged(self, region: Region, values: Array) -> Region:
        columns = self._context.columns
        is_candidate = np.isfinite(values)
        if not region.is_home:
            is_candidate &= self._inside(region, columns.X)
        n = len(columns)
        if not is_candidate.any():
            return replace(region, length=region.length / 2.0, n_judged=n)
        best = int(np.argmax(np.where(is_candidate, values, -np.inf)))
        margin = MARGIN * self._spread(region, values)
        is_success = values[best] > region.best + margin
        n_successes = region.n_successes + 1 if is_success else 0
        length = region.length if is_success else region.length / 2.0
        if n_successes == SUCCESSES:
            length, n_successes = min(2.0 * length, LENGTH_MAX), 0
        return replace(
            region,
            centre=columns.X[best].copy(),
            length=length,
            best=float(values[best]),
            n_successes=n_successes,
            n_judged=n,
        )

    def _spread(self, region: Region, values: Array) -> float:
        """Return how much the results near the centre differ."""
        near = values[self.rows(region)]
        near = near[np.isfinite(near)]
        return float(near.max() - np.median(near)) if len(near) else 0.0

    def _is_spent(self, region: Region, values: Array) -> bool:
        if region.length >= LENGTH_SMALL:
            return False
        best = float(values.max())
        spread = self._spread(region, values)
        everywhere = best - float(np.median(values[np.isfinite(values)]))
        if region.length < LENGTH_MIN or spread <= PRECISION * max(everywhere, abs(best)):
            return True
        if self._is_noise():
            return True
        return region.best < best - spread

    def _is_noise(self) -> bool:
        """Whether the local model last saw nothing but noise."""
        if self.saved is None:
            return False
        noise, scale = self.saved.theta[:, -2], self.saved.theta[:, -1]
        return bool((noise > scale).all())

    def _opened(self, region: Region, anywhere: GPModel) -> Region:
        """Return a new region where one draw of what may be true is highest."""
        codec = self._context.codec
        closed = np.concatenate([region.closed, region.centre[None]])
        rng = stream(self._context.seed, "gp", "region", len(closed))
        rows = codec.sample(rng, N_STARTS)
        apart = np.abs(rows[:, None] - closed).max(axis=2).min(axis=1)
        path = SamplePaths(anywhere, 1, rng=rng).values(
            torch.from_numpy(rows).to(anywhere.device)
        )
        score = np.where(apart > np.quantile(apart, 0.5), path[0].cpu().numpy(), -np.inf)
        self.saved = None
        return Region(
            rows[int(np.argmax(score))],
            closed,
            np.ones(codec.dim),
            LENGTH / 2.0,
            n_judged=region.n_judged,
            n_closed=region.n_closed + 1,
        )

    # ------------------------------------------------------------------ the local model

    def rows(self, region: Region) -> Rows:
        """Return the results that the local model stands on: those within a side of the
        centre, at least some and at most ``MAX_ROWS``, the nearest first.
        """
        codec, columns = self._context.codec, self._context.columns
        eligible: Rows = np.flatnonzero(np.isfinite(columns.Y[:, 0]))
        map_ = FeatureMap(codec.columns)
        both = np.concatenate([region.centre[None], columns.X[eligible]])
        features: Array = map_.features(torch.from_numpy(both)).numpy()
        apart = np.abs(features[1:] - features[0]) / region.stretch[map_.group.numpy()]
        n_near = int((apart.max(axis=1) <= region.length).sum())
        least = max(LEAST_ROWS, ROWS_PER_COLUMN * codec.dim)
        order = np.argsort((apart * apart).sum(axis=1), kind="stable")
        chosen: Rows = np.sort(eligible[order[: min(MAX_ROWS, max(least, n_near))]])
        return chosen

    def _fitted(self, rows: Rows, device: torch.device, *, has_time: bool) -> GPModel:
        """Return the local model, with new hyperparameters where they are due."""
        try:
            model = self._model(rows, device)
        except FAILURES:
            self.saved = None
            return self._model(rows, device)
        n = len(self._context.columns)
        is_due = self.saved is None or n - self._fitted_at >= REFIT_GROWTH * len(rows)
        if has_time and is_due:
            try:
                model.refit()
            except FAILURES:
                return model
            self.saved, self._fitted_at = model.hyperparameters, n
        return model

    def _model(self, rows: Rows, device: torch.device) -> GPModel:
        columns = self._context.columns
        usable = None
        if self.saved is not None:
            usable = Hyperparameters(self.saved.theta, len(rows))
        return GPModel.restored(
            self._context.codec.columns,
            columns.X[rows],
            columns.Y[rows, 0],
            hyperparameters=usable,
            noise_sd=known_noise_sd(columns.variance[rows, 0]),
            settings=self._settings,
            device=device,
        )

    # ------------------------------------------------------------------ batches

    def choose(
        self,
        n: int,
        pending: Array,
        *,
        anywhere: GPModel,
        n_outstanding: int,
        draw_feasibility: DrawFeasibility,
        rng: np.random.Generator,
        has_time: bool,
    ) -> list[Found]:
        """Choose points of a batch; the first of a longer batch are those of a shorter one.

        Args:
            n: How many.
            pending: Outstanding rows, those chosen earlier for the same batch included.
            anywhere: The objective's model of the whole space; the local one lives on the
                same device.
            n_outstanding: Rows that were outstanding before the batch.
            draw_feasibility: Says what is feasible in each of some worlds.
            rng: The only source of randomness.
            has_time: Whether there is time to fit the local model.
        """
        region = self.advance(n_outstanding, anywhere)
        columns, rows = self._context.columns, self.rows(region)
        model = self._fitted(rows, anywhere.device, has_time=has_time)
        self.region = region = replace(region, stretch=_stretch(model))
        return choose_batch(
            self._context.codec,
            model,
            n,
            centre=region.centre,
            sides=region.sides(),
            measured=columns.X,
            achieved=columns.X[rows[columns.feasible[rows]]],
            pending=pending,
            draw_feasibility=draw_feasibility,
            rng=rng,
            reason=f"trust region {region.n_closed + 1}, side {region.length:.2g}",
        )

    def forget_hyperparameters(self) -> None:
        """Go back to the prior's mode."""
        self.saved = None


def _stretch(model: GPModel) -> Array:
    """Return the sides of a region over its length: as the length scales, but within limits,
    and of geometric mean 1.
    """
    scales = model.length_scales
    relative = np.clip(scales / np.exp(np.log(scales).mean()), *STRETCH)
    stretch: Array = relative / np.exp(np.log(relative).mean())
    return stretch
