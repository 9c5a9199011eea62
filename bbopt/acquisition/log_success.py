"""Log probability that an evaluation succeeds at all, learned from crashes, and what a search
makes of it.

The model is a Gaussian-process regression on labels, +1 for a trial that worked and -1 for one
whose point was to blame, squashed by a probit. Unlike a constraint it never rules a place out:
a floor keeps the price of a certain crash finite, because labels may be wrong.
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.special import ndtr

from bbopt.acquisition.ensemble import value_in_chunks
from bbopt.gp import GPModel
from bbopt.numerics.safe_math import log_ndtr

PROBABILITY_FLOOR: Final = 1e-4
"""A certain crash costs 9.2 nats of improvement."""
LIKELY: Final = 0.3
"""Below this probability a search avoids a place more than expected improvement does."""
AVERSION: Final = 2.0
"""Nats by which it does, per nat below ``LIKELY``."""


class LogProbabilityOfSuccess:
    """``log(floor + (1 - floor) sum_e w_e Phi(mean_e / sqrt(var_e + noise_e)))``."""

    def __init__(
        self, model: GPModel, floor: float = PROBABILITY_FLOOR, *, has_noise: bool = True
    ) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models labels +1 and -1 with ``WarpKind.IDENTITY``.
            floor: Smallest probability, in (0, 1).
            has_noise: Count what the point does not explain: the probability that one
                evaluation works. Without, that the place is not one where they mostly crash.
        """
        if not 0.0 < floor < 1.0:
            raise ValueError(f"the floor must be in (0, 1), got {floor}")
        self._posterior, log_weights, _ = model.searchable()
        self._weights = log_weights.exp()[:, None]
        posterior_noise = self._posterior.members.noise[:, None]
        self._floor = floor
        self._noise = posterior_noise if has_noise else torch.zeros_like(posterior_noise)
        self._map = model.feature_map
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``, between ``log floor`` and 0."""
        return value_in_chunks(self._value, X, n_per_row=self._posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        mean, variance = self._posterior.predict(self._map.features(X))
        total = (variance + self._noise).sqrt()
        probability: Tensor = (self._weights * ndtr(mean / total)).sum(0)
        return (self._floor + (1.0 - self._floor) * probability).log()

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        posterior = self._posterior
        query = posterior.query(self._map.features(X))
        total = query.variance + self._noise
        z = posterior.mean_of(query) / total.sqrt()
        log_part, ratio = log_ndtr(z)
        part = log_part.exp()
        mixed = self._floor + (1.0 - self._floor) * (self._weights * part).sum(0)
        pull = (1.0 - self._floor) * self._weights * part * ratio / mixed  # (E, R)
        by_mean = (pull / total.sqrt())[:, :, None] * posterior.alpha[:, None, :]
        gradient = posterior.pull_back(query, by_mean, -0.5 * pull * z / total)
        return mixed.log(), self._map.pull_back(X, gradient)


class CrashAversion:
    """``l + 2 min(0, l - log 0.3)``, where ``l`` is the log probability of success without
    noise.

    Just beyond the border of a region that crashes a model promises much and measures nothing,
    for ever: weighed with the plain probability, such places win over every small improvement
    that is left on the near side, and nine asks in ten crash. Where failures are as likely
    everywhere this adds a constant, so that nothing is excluded because machines are flaky.
    """

    def __init__(self, model: GPModel) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models labels +1 and -1 with ``WarpKind.IDENTITY``.
        """
        self._success = LogProbabilityOfSuccess(model, has_noise=False)
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``, at most 0."""
        value = self._success.value(X)
        return value + AVERSION * (value - math.log(LIKELY)).clamp(max=0.0)

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        value, gradient = self._success.value_and_gradient(X)
        excess = value - math.log(LIKELY)
        factor = 1.0 + AVERSION * (excess < 0.0).to(gradient.dtype)
        return value + AVERSION * excess.clamp(max=0.0), gradient * factor[:, None]
