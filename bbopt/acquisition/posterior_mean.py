"""Posterior mean: where the model believes the best point is, for recommendations."""

from torch import Tensor

from bbopt.acquisition.ensemble import value_in_chunks
from bbopt.gp import GPModel


class PosteriorMean:
    """``sum_e w_e mean_e`` in standardized units, which order points as the metric does."""

    def __init__(self, model: GPModel) -> None:
        """Freeze the model's current posterior.

        Args:
            model: The model; it must not change while this is in use.
        """
        self._posterior, log_weights, _ = model.searchable()
        self._weights = log_weights.exp()[:, None]
        self._map = model.feature_map
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``."""
        return value_in_chunks(self._value, X, n_per_row=self._posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        mean, _ = self._posterior.predict(self._map.features(X))
        return (self._weights * mean).sum(0)

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        posterior = self._posterior
        query = posterior.query(self._map.features(X))
        mean = posterior.mean_of(query)
        by_mean = (self._weights[:, :, None] * posterior.alpha[:, None, :]).expand_as(
            query.covariance
        )
        gradient = posterior.pull_back(query, by_mean, mean.new_zeros(mean.shape))
        return (self._weights * mean).sum(0), self._map.pull_back(X, gradient)
