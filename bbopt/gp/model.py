"""``GPModel``: the default surrogate of one metric, an evidence-weighted pair of Gaussian
processes.

A model holds the rows and raw values of one metric and answers in two ways: acquisitions read
its ``posterior`` (standardized units, one row of tensors per kernel) and its ``weights``;
people read ``predict`` (the metric's own unit).

Life cycle: ``observe`` appends, ``refit_if_due`` renews the hyperparameters,
``hyperparameters`` is what to store, ``GPModel.restored`` rebuilds. A rebuilt model is
bit-identical to the live one: both factorize the first ``n_fitted`` rows at once and append the
others one by one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bbopt.gp.features import FeatureColumn, FeatureMap
from bbopt.gp.fit import FitSettings, RefitSchedule, fit_map
from bbopt.gp.kernels import Kernel
from bbopt.gp.moments import Prediction, mixture_moments
from bbopt.gp.objective import BASE_JITTER, MapObjective
from bbopt.gp.posterior import Members, Posterior
from bbopt.gp.priors import (
    CATEGORY_SCALE,
    FixedNoise,
    HyperPriors,
    LearnedNoise,
    LogNormalPrior,
)
from bbopt.gp.warp import IdentityWarp, OutputWarp, WarpKind, fit_warp, variance_of_targets

Array = NDArray[np.float64]
LARGEST_VALUE: Final = 1e300
"""Larger magnitudes count as this, so that differences and ranges of values stay finite."""
NEGLIGIBLE_WEIGHT: Final = 1e-4
"""Members below this share of the evidence are left out of searches: half the cost, and their
improvement would have to be ten thousand times larger to matter."""
LEAVE_OUT_BEHIND: Final = -math.log(NEGLIGIBLE_WEIGHT)
"""Nats: a kernel without evidence is only fitted again when everything starts cold."""


@dataclass(frozen=True, slots=True)
class GPSettings:
    """What kind of model to build; the defaults are the engine's default strategy."""

    kernels: tuple[Kernel, ...] = (Kernel.MATERN52, Kernel.RBF)
    warp: WarpKind = WarpKind.HALF_RANK
    noise: LearnedNoise | FixedNoise = field(default_factory=LearnedNoise)
    category_scale: LogNormalPrior | None = CATEGORY_SCALE
    """Prior of the length scales of categorical columns; ``None`` is that of all others."""
    fit: FitSettings = field(default_factory=FitSettings)
    schedule: RefitSchedule = field(default_factory=RefitSchedule)

    def __post_init__(self) -> None:
        """Refuse an ensemble of nothing."""
        if not self.kernels:
            raise ValueError("a model needs at least one kernel")


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """All that a strategy must store about a model, besides the data."""

    theta: Array
    """``[log length scales, log noise variance, log output scale]`` per kernel, ``(E, G +
    2)``."""
    n_fitted: int
    """Number of observations at the fit; 0 for the prior's mode."""


class GPModel:
    """The surrogate of one metric; mutable, owned by one strategy."""

    def __init__(
        self,
        columns: Sequence[FeatureColumn],
        settings: GPSettings | None = None,
        *,
        device: torch.device | None = None,
        warp: OutputWarp | None = None,
    ) -> None:
        """Start without data, at the prior's mode.

        Args:
            columns: The columns of the unit cube, at least one.
            settings: What to build.
            device: Where tensors live; ``None`` is the CPU.
            warp: The map to targets, for a model that holds a choice of the data only; ``None``
                fits the one that the settings name to the model's own values.
        """
        self.given_warp = warp
        """The map to targets that was given; ``None`` for one of the model's own."""
        self.settings = settings or GPSettings()
        self.device = device or torch.device("cpu")
        self.feature_map = FeatureMap(columns)
        self.priors = HyperPriors(
            self.feature_map.n_columns,
            self.settings.noise,
            is_category=tuple(column.kind.name == "CATEGORICAL" for column in columns),
            category_scale=self.settings.category_scale,
        )
        self._X = np.empty((0, self.feature_map.n_columns))
        self._y = np.empty(0)
        self._noise_sd = np.empty(0)
        self._newest_warp: tuple[int, OutputWarp] = (-1, IdentityWarp())
        self._weights: Array | None = None
        mode = np.tile(self.priors.mode(), (len(self.settings.kernels), 1))
        self._rebuild(Hyperparameters(mode, 0))

    @classmethod
    def restored(
        cls,
        columns: Sequence[FeatureColumn],
        X: Array,
        y: Array,
        *,
        hyperparameters: Hyperparameters | None = None,
        noise_sd: Array | None = None,
        settings: GPSettings | None = None,
        device: torch.device | None = None,
        warp: OutputWarp | None = None,
    ) -> "GPModel":
        """Build a model from data and stored hyperparameters, without fitting.

        Args:
            columns: The columns of the unit cube.
            X: Rows in the order in which they were observed, shape ``(n, D)``.
            y: Values, shape ``(n,)``.
            hyperparameters: From ``hyperparameters`` of the live model; ``None`` is the prior's
                mode.
            noise_sd: Known standard deviations, shape ``(n,)``; ``None`` is zero.
            settings: Those of the live model.
            device: That of the live model.
            warp: That of the live model, if it was given one.

        Returns:
            A model equal to the live one bit for bit.
        """
        model = cls(columns, settings, device=device, warp=warp)
        model._append_data(X, y, noise_sd)
        model._rebuild(hyperparameters or model.hyperparameters)
        return model

    # ------------------------------------------------------------------ data

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self._y)

    @property
    def X(self) -> Array:  # noqa: N802 - rows of the unit cube are X everywhere
        """Observed rows, shape ``(n, D)``."""
        return self._X

    @property
    def y(self) -> Array:
        """Observed values in the metric's unit, shape ``(n,)``."""
        return self._y

    def observe(self, X: ArrayLike, y: ArrayLike, noise_sd: ArrayLike | None = None) -> None:
        """Append observations; hyperparameters stay as they are.

        The posterior takes them in when it is next read: a refit before that makes it anew.

        Args:
            X: Rows of the unit cube, shape ``(k, D)`` or ``(D,)``.
            y: Finite values in the metric's unit, shape ``(k,)`` or a number.
            noise_sd: Known standard deviation of each value, in the metric's unit.

        Raises:
            ValueError: A row or a value is not finite, or lengths differ.
        """
        self._append_data(X, y, noise_sd)

    def _append_data(self, X: ArrayLike, y: ArrayLike, noise_sd: ArrayLike | None) -> None:
        rows = np.atleast_2d(np.asarray(X, dtype=np.float64))
        values = np.atleast_1d(np.asarray(y, dtype=np.float64))
        sds = np.zeros(len(values)) if noise_sd is None else np.atleast_1d(noise_sd)
        if not len(rows) == len(values) == len(sds):
            raise ValueError(
                f"{len(rows)} rows, {len(values)} values and {len(sds)} noise deviations"
            )
        if not (np.isfinite(rows).all() and np.isfinite(values).all()):
            raise ValueError("rows and values must be finite")
        if not (np.isfinite(sds).all() and (sds >= 0.0).all()):
            raise ValueError("noise deviations must be finite and not negative")
        self._X = np.concatenate([self._X, rows])
        self._y = np.concatenate([self._y, np.clip(values, -LARGEST_VALUE, LARGEST_VALUE)])
        self._noise_sd = np.concatenate([self._noise_sd, sds])

    # ------------------------------------------------------------------ hyperparameters

    @property
    def hyperparameters(self) -> Hyperparameters:
        """What to store so that ``restored`` gives this model again."""
        return Hyperparameters(self._theta.copy(), self._n_fitted)

    @property
    def length_scales(self) -> Array:
        """Length scale of each column for the heaviest kernel, in unit-cube lengths,
        ``(D,)``.
        """
        return np.exp(self._theta[int(np.argmax(self.weights)), : self.priors.n_length_scales])

    @property
    def rescue(self) -> float:
        """Largest variance that had to be added to a kernel's diagonal, beside the noise and
        the constant that is always added, so that it could be factorized; 0 for a healthy one.
        """
        return float(self.posterior.jitter.max()) - BASE_JITTER

    def refit_if_due(self) -> bool:
        """Renew the hyperparameters if ``is_refit_due``; return whether that was so.

        Raises:
            NumericalError: The fit failed; the model keeps its old hyperparameters.
        """
        is_due = self.is_refit_due
        if is_due:
            self.refit()
        return is_due

    @property
    def is_refit_due(self) -> bool:
        """Whether the schedule says to renew the hyperparameters; never twice for the same
        data.
        """
        return self.settings.schedule.is_due(self.n, self._n_fitted)

    @property
    def is_cold_refit_due(self) -> bool:
        """Whether a refit would start cold, or cold as well."""
        schedule = self.settings.schedule
        return self._n_fitted == 0 or schedule.is_cold_due(self.n, self._n_fitted)

    def refit(self, theta: Array | None = None) -> None:
        """Renew the hyperparameters from the current data.

        Args:
            theta: What the fit has found, where several models were fitted together.

        Raises:
            NumericalError: No hyperparameters work; the model keeps its old ones.
        """
        if theta is None:
            theta = fit_map(
                self.objective(),
                self.priors,
                warm_start=None if self._n_fitted == 0 else self._theta,
                is_cold_due=self.is_cold_refit_due,
                leave_out_behind=LEAVE_OUT_BEHIND,
                settings=self.settings.fit,
            ).theta
        self._rebuild(Hyperparameters(theta, self.n))

    def objective(self) -> MapObjective:
        """Return the log posterior of the hyperparameters given the current data."""
        warp = self._fit_warp(self.n)
        known = self._known_variances(warp, self.n)
        return MapObjective(
            self._features(self._X),
            self._tensor(warp.forward(self._y)),
            kernels=self.settings.kernels,
            priors=self.priors,
            group=self.feature_map.group,
            noise_variances=self._tensor(known) if self._noise_sd.any() else None,
        )

    # ------------------------------------------------------------------ state

    def _rebuild(self, hyperparameters: Hyperparameters) -> None:
        """Factorize the first ``n_fitted`` rows at once, append the others one by one."""
        expected = (len(self.settings.kernels), self.priors.size)
        if hyperparameters.theta.shape != expected:
            raise ValueError(f"theta is {hyperparameters.theta.shape}, expected {expected}")
        n_fitted = hyperparameters.n_fitted
        if not 0 <= n_fitted <= self.n:
            raise ValueError(f"fitted on {n_fitted} observations, but there are {self.n}")
        theta = hyperparameters.theta.astype(np.float64)
        members = Members.unpack(
            self.settings.kernels, self._tensor(theta), self.feature_map.group
        )
        # The scale of known noise is frozen at the fit, or L^-1 would change with every tell.
        self._noise_warp = self._fit_warp(n_fitted)
        known = self._known_variances(self._noise_warp, n_fitted)
        posterior = Posterior(members, self._features(self._X[:n_fitted]), self._tensor(known))
        self._theta, self._n_fitted = theta, n_fitted
        self._posterior, self._weights = posterior, None

    @property
    def posterior(self) -> Posterior:
        """The kernels' posterior in standardized units."""
        self._read_all()
        return self._posterior

    @property
    def weights(self) -> Array:
        """Share of each kernel, shape ``(E,)``, summing to one."""
        return self._read_all()

    @property
    def warp(self) -> OutputWarp:
        """From metric values to targets, fitted to all values."""
        return self._fit_warp(self.n)

    def _read_all(self) -> Array:
        """Let the posterior take in what it has not seen yet; return the kernels' weights."""
        first = self._posterior.n
        if self._weights is not None and first == self.n:
            return self._weights
        if first < self.n:
            variances = variance_of_targets(
                self._noise_sd[first:], self._noise_warp, self._y[first:]
            )
            for row, variance in zip(self._features(self._X[first:]), variances, strict=True):
                self._posterior.append(row, float(variance))
        self._posterior.set_targets(self._tensor(self.warp.forward(self._y)))
        self._weights = self._evidence_weights()
        return self._weights

    def _fit_warp(self, n: int) -> OutputWarp:
        """Return the warp of the first ``n`` values; values are only ever appended."""
        if self.given_warp is not None:
            return self.given_warp
        if self._newest_warp[0] != n:
            self._newest_warp = (n, fit_warp(self.settings.warp, self._y[:n]))
        return self._newest_warp[1]

    def _known_variances(self, warp: OutputWarp, n: int) -> Array:
        if not self._noise_sd[:n].any():
            return np.zeros(n)
        return variance_of_targets(self._noise_sd[:n], warp, self._y[:n])

    def _evidence_weights(self) -> Array:
        """Return the softmax of log evidence plus log prior (the MAP value of each kernel)."""
        e = len(self.settings.kernels)
        if e == 1 or self.n == 0:
            return np.full(e, 1.0 / e)
        evidence = self._posterior.log_evidence().cpu().numpy()
        prior = np.array([self.priors.log_density(theta)[0] for theta in self._theta])
        score = evidence + prior
        shares = np.exp(score - score.max())
        return np.asarray(shares / shares.sum(), dtype=np.float64)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _features(self, X: Array) -> Tensor:
        return self.feature_map.features(self._tensor(X))

    # ------------------------------------------------------------------ answers

    def searchable(self) -> tuple[Posterior, Tensor, list[int]]:
        """Return the members worth searching: those with at least 1e-4 of the evidence.

        Returns:
            Their posterior, their log weights renormalised, shape ``(E',)``, and their indices.
        """
        keep = [e for e, weight in enumerate(self.weights) if weight >= NEGLIGIBLE_WEIGHT]
        weights = self.weights[keep] / self.weights[keep].sum()
        log_weights = self._tensor(np.log(weights))
        if len(keep) == len(self.weights):
            return self.posterior, log_weights, keep
        return self.posterior.select(keep), log_weights, keep

    def target(self, value: float) -> float:
        """Return a metric value in standardized units, e.g. a threshold for an acquisition."""
        return float(self.warp.forward(np.array([value]))[0])

    def predict(self, X: ArrayLike) -> Prediction:
        """Predict the noise-free metric in its own unit.

        Args:
            X: Rows of the unit cube, shape ``(n, D)``.

        Returns:
            Mean and standard deviation of the mixture, pushed through the inverse warp by
            Gauss-Hermite quadrature.
        """
        rows = np.atleast_2d(np.asarray(X, dtype=np.float64))
        mean, variance = self.posterior.predict(self._features(rows))
        return mixture_moments(self.warp, mean, variance, self.weights)

    def fitted_means(self) -> Tensor:
        """Return each kernel's posterior mean at the observed rows, shape ``(E, n)``, in O(n).

        Uses ``K_f alpha = (y - m) - noise alpha``.
        """
        return self.posterior.fitted_means()
