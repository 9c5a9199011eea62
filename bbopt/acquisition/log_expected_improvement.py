"""Log expected improvement under an evidence-weighted ensemble of Gaussian processes."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.acquisition.ensemble import (
    log_augmentation,
    mix,
    mix_on_host,
    per_member,
    value_in_chunks,
)
from bbopt.gp import GPModel, HostPosterior, Posterior
from bbopt.numerics import log_h, log_h_on_host

Array = NDArray[np.float64]
BOUND_FROM: Final = 80
"""Observations, times kernels, from which an O(n^2) variance costs more than a bound before
it."""


def read_on_host(posterior: Posterior, device: torch.device) -> HostPosterior | None:
    """Return what reads the posterior by numpy where that is possible and quicker."""
    return HostPosterior(posterior) if device.type == "cpu" else None


class LogExpectedImprovement:
    """``log sum_e w_e sd_e h((mean_e - best_e) / sd_e)``, finite however small it is.

    Augmented, every member's improvement is weighed with ``log_augmentation``: points that
    have been measured as well as the noise allows are left for others.

    Source:
        Ament et al. (2023), arXiv:2310.20708, for the logarithmic form.
    """

    def __init__(
        self, model: GPModel, best: Tensor | float, *, is_augmented: bool = False
    ) -> None:
        """Freeze the model's current posterior.

        Args:
            model: The objective's model; it must not change while this is in use.
            best: The incumbent's value in standardized units, per kernel ``(E,)`` or one
                number; see ``incumbent_value``.
            is_augmented: Whether to count what noise takes from an improvement.
        """
        self._posterior, self._log_weights, kept = model.searchable()
        self._noise = self._posterior.usual_noise[:, None] if is_augmented else None
        self._best = per_member(best, model, kept)[:, None]  # (E', 1)
        self._map = model.feature_map
        self._on_host = read_on_host(self._posterior, model.device)
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)`` in log standardized units."""
        return value_in_chunks(self._value, X, n_per_row=self._posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        if self._on_host is not None:
            return self._of_host_moments(*self._on_host.predict(self._map.features(X).numpy()))
        return self._of_moments(*self._posterior.predict(self._map.features(X)))

    @property
    def does_bound_pay(self) -> bool:
        """Whether many rows are better screened by ``upper_bound`` first."""
        return self._posterior.n_covariances >= BOUND_FROM

    def upper_bound(self, X: Tensor) -> Tensor:
        """Return what the values of rows ``(n, D)`` do not exceed, in O(N) a row; ``(n,)``."""
        return value_in_chunks(self._bound, X, n_per_row=self._posterior.n_covariances)

    def _bound(self, X: Tensor) -> Tensor:
        if self._on_host is not None:
            return self._of_host_moments(
                *self._on_host.predict_with_variance_bound(self._map.features(X).numpy())
            )
        return self._of_moments(
            *self._posterior.predict_with_variance_bound(self._map.features(X))
        )

    def _of_host_moments(self, mean: Array, variance: Array) -> Tensor:
        sd = np.sqrt(variance)
        value = log_h_on_host((mean - self._best.numpy()) / sd)[0]
        value += np.log(sd)
        if self._noise is not None:
            value += log_augmentation(torch.from_numpy(variance), self._noise)[0].numpy()
        return torch.from_numpy(mix_on_host(value, self._log_weights.numpy())[0])

    def _of_moments(self, mean: Tensor, variance: Tensor) -> Tensor:
        sd = variance.sqrt()
        value = log_h((mean - self._best) / sd)[0] + sd.log()
        if self._noise is not None:
            value += log_augmentation(variance, self._noise)[0]
        return mix(value, self._log_weights)[0]

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        if self._on_host is not None:
            return self._value_and_gradient_on_host(X, self._on_host)
        posterior = self._posterior
        query = posterior.query(self._map.features(X))
        sd = query.variance.sqrt()
        z = (posterior.mean_of(query) - self._best) / sd
        log_value, ratio = log_h(z)
        log_value = log_value + sd.log()
        slope: Tensor | None = None
        if self._noise is not None:
            augmentation, slope = log_augmentation(query.variance, self._noise)
            log_value += augmentation
        value, share = mix(log_value, self._log_weights)
        pull = ratio.mul_(share)  # (E, R), d value / dz
        by_variance = torch.addcmul(share, pull, z, value=-1.0).div_(query.variance).mul_(0.5)
        if slope is not None:
            by_variance.addcmul_(share, slope)
        by_mean = pull.div_(sd)[:, :, None] * posterior.alpha[:, None, :]
        gradient = posterior.pull_back(query, by_mean, by_variance)
        return value, self._map.pull_back(X, gradient)

    def _value_and_gradient_on_host(
        self, X: Tensor, posterior: HostPosterior
    ) -> tuple[Tensor, Tensor]:
        query = posterior.query(self._map.features(X).numpy())
        sd = np.sqrt(query.variance)
        z = (query.mean - self._best.numpy()) / sd
        log_value, pull = log_h_on_host(z)
        log_value += np.log(sd)
        slope: Tensor | None = None
        if self._noise is not None:
            variance = torch.from_numpy(query.variance)
            augmentation, slope = log_augmentation(variance, self._noise)
            log_value += augmentation.numpy()
        value, share = mix_on_host(log_value, self._log_weights.numpy())
        pull *= share  # (E, R), d value / dz
        by_variance = (share - pull * z) * (0.5 / query.variance)
        if slope is not None:
            by_variance += share * slope.numpy()
        pull /= sd
        gradient = posterior.pull_back(query, pull, by_variance)
        return torch.from_numpy(value), self._map.pull_back(X, torch.from_numpy(gradient))
