"""Log probability that a constraint holds, under its own model."""

import torch
from torch import Tensor

from bbopt.acquisition.ensemble import mix, value_in_chunks
from bbopt.gp import GPModel
from bbopt.numerics import log_ndtr


class LogProbabilityOfFeasibility:
    """``log sum_e w_e Phi((threshold - mean_e) / sd_e)`` for a constraint value ``c(x)``.

    Source:
        Gardner et al. (2014), "Bayesian Optimization with Inequality Constraints".
    """

    def __init__(self, model: GPModel, threshold: float = 0.0) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models the raw constraint value; it must not change while this is in use.
            threshold: Feasible at or below this, in the metric's unit.
        """
        self._posterior, self._log_weights, _ = model.searchable()
        self._threshold = model.target(threshold)
        self._map = model.feature_map
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``, at most 0."""
        return value_in_chunks(self._value, X, n_per_row=self._posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        mean, variance = self._posterior.predict(self._map.features(X))
        return mix(log_ndtr((self._threshold - mean) / variance.sqrt())[0], self._log_weights)[
            0
        ]

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        posterior = self._posterior
        query = posterior.query(self._map.features(X))
        sd = query.variance.sqrt()
        z = (self._threshold - posterior.mean_of(query)) / sd
        log_value, ratio = log_ndtr(z)
        value, share = mix(log_value, self._log_weights)
        pull = share * ratio  # (E, R), d value / dz
        by_mean = (-pull / sd)[:, :, None] * posterior.alpha[:, None, :]
        gradient = posterior.pull_back(query, by_mean, -0.5 * pull * z / query.variance)
        return value, self._map.pull_back(X, gradient)


class LogVariance:
    """``log sum_e w_e var_e``: a bonus for places about which a model knows little."""

    def __init__(self, model: GPModel, factor: float = 1.0) -> None:
        """Freeze the model's current posterior.

        Args:
            model: The model; it must not change while this is in use.
            factor: Multiplies value and gradient.
        """
        self._posterior, self._log_weights, _ = model.searchable()
        self._factor = factor
        self._map = model.feature_map
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``."""
        return value_in_chunks(self._value, X, n_per_row=self._posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        _, variance = self._posterior.predict(self._map.features(X))
        return self._factor * mix(variance.log(), self._log_weights)[0]

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        query = self._posterior.query(self._map.features(X))
        value, share = mix(query.variance.log(), self._log_weights)
        none = torch.zeros_like(query.covariance)
        gradient = self._posterior.pull_back(query, none, share / query.variance)
        return self._factor * value, self._factor * self._map.pull_back(X, gradient)
