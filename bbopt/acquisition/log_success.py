"""Log probability that an evaluation succeeds at all, learned from crashes.

The model is a Gaussian-process regression on labels, +1 for a trial that worked and -1 for one
whose point was to blame, squashed by a probit. Unlike a constraint it never rules a place out:
a floor keeps the price of a certain crash finite, because labels may be wrong.
"""

from typing import Final

from torch import Tensor
from torch.special import ndtr

from bbopt.acquisition.ensemble import value_in_chunks
from bbopt.gp import GPModel
from bbopt.numerics.safe_math import log_ndtr

PROBABILITY_FLOOR: Final = 1e-4
"""A certain crash costs 9.2 nats of improvement."""


class LogProbabilityOfSuccess:
    """``log(floor + (1 - floor) sum_e w_e Phi(mean_e / sqrt(var_e + noise_e)))``."""

    def __init__(self, model: GPModel, floor: float = PROBABILITY_FLOOR) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models labels +1 and -1 with ``WarpKind.IDENTITY``.
            floor: Smallest probability, in (0, 1).
        """
        if not 0.0 < floor < 1.0:
            raise ValueError(f"the floor must be in (0, 1), got {floor}")
        self._posterior, log_weights, _ = model.searchable()
        self._weights = log_weights.exp()[:, None]
        self._floor = floor
        self._map = model.feature_map
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``, between ``log floor`` and 0."""
        return value_in_chunks(self._value, X, n_per_row=self._posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        mean, variance = self._posterior.predict(self._map.features(X))
        total = (variance + self._posterior.members.noise[:, None]).sqrt()
        probability: Tensor = (self._weights * ndtr(mean / total)).sum(0)
        return (self._floor + (1.0 - self._floor) * probability).log()

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        posterior = self._posterior
        query = posterior.query(self._map.features(X))
        total = query.variance + posterior.members.noise[:, None]
        z = posterior.mean_of(query) / total.sqrt()
        log_part, ratio = log_ndtr(z)
        part = log_part.exp()
        mixed = self._floor + (1.0 - self._floor) * (self._weights * part).sum(0)
        pull = (1.0 - self._floor) * self._weights * part * ratio / mixed  # (E, R)
        by_mean = (pull / total.sqrt())[:, :, None] * posterior.alpha[:, None, :]
        gradient = posterior.pull_back(query, by_mean, -0.5 * pull * z / total)
        return mixed.log(), self._map.pull_back(X, gradient)
