"""Acquisitions that are a formula in one model's posterior mean and variance.

A formula is written once, on small arrays ``(E, R)``, with its derivatives. On the CPU numpy
gives the moments and takes the derivatives back to rows; on other devices tensors do.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from bbopt.acquisition.ensemble import value_in_chunks
from bbopt.gp import GPModel, HostPosterior, Posterior
from bbopt.numerics.elementwise import Values


def read_on_host(posterior: Posterior, device: torch.device) -> HostPosterior | None:
    """Return what reads the posterior by numpy where that is possible and quicker."""
    return HostPosterior(posterior) if device.type == "cpu" else None


class MomentReader:
    """The posterior of a model that does not change while this is in use."""

    def __init__(self, model: GPModel) -> None:
        """Freeze the model's current posterior.

        Args:
            model: The model.
        """
        self.posterior, self.log_weights, self.kept = model.searchable()
        """The kernels worth searching, E of them, their log weights, ``(E,)``, and numbers."""
        self.on_host = read_on_host(self.posterior, model.device)
        self.map = model.feature_map
        self.device = model.device
        """Where rows must live."""


class MomentAcquisition(ABC):
    """An acquisition for which ``of_moments`` says all."""

    bound_from: ClassVar[int] = 240
    """Observations, times kernels, from which a bound of the candidates saves more than it
    costs: measured on sums with one to three constraints or crashes."""

    def __init__(self, reader: MomentReader) -> None:
        """Keep what reads the model."""
        self.reader = reader
        self.device = reader.device
        """Where rows must live."""

    @abstractmethod
    def of_moments(self, mean: Values, variance: Values) -> tuple[Values, Values, Values]:
        """Evaluate R points.

        Args:
            mean: In standardized units, shape ``(E, R)``.
            variance: Likewise, positive, shape ``(E, R)``.

        Returns:
            Values, ``(R,)``, and their derivatives by mean and by variance, each ``(E, R)``.
        """

    def of_bound(self, mean: Values, variance: Values) -> Values:
        """Return what values do not exceed where the variance is at most this, ``(R,)``.

        As it stands, for what grows with the variance.
        """
        return self.of_moments(mean, variance)[0]

    @property
    def does_bound_pay(self) -> bool:
        """Whether many rows are better screened by ``upper_bound`` first."""
        return self.reader.posterior.n_covariances >= self.bound_from

    def upper_bound(self, X: Tensor) -> Tensor:
        """Return what the values of rows ``(n, D)`` do not exceed, in O(N) a row; ``(n,)``."""
        return value_in_chunks(self._bound, X, n_per_row=self.reader.posterior.n_covariances)

    def _bound(self, X: Tensor) -> Tensor:
        reader, features = self.reader, self.reader.map.features(X)
        if reader.on_host is None:
            return self.of_bound(*reader.posterior.predict_with_variance_bound(features))
        moments = reader.on_host.predict_with_variance_bound(features.numpy())
        return torch.from_numpy(self.of_bound(*moments))

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)``."""
        return value_in_chunks(self._value, X, n_per_row=self.reader.posterior.n_covariances)

    def _value(self, X: Tensor) -> Tensor:
        reader, features = self.reader, self.reader.map.features(X)
        if reader.on_host is None:
            return self.of_moments(*reader.posterior.predict(features))[0]
        return torch.from_numpy(self.of_moments(*reader.on_host.predict(features.numpy()))[0])

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        posterior, host = self.reader.posterior, self.reader.on_host
        features = self.reader.map.features(X)
        if host is not None:
            read = host.query(features.numpy())
            found, *by_moments = self.of_moments(read.mean, read.variance)
            value = torch.from_numpy(found)
            gradient = torch.from_numpy(host.pull_back(read, *by_moments))
        else:
            query = posterior.query(features)
            mean = posterior.mean_of(query)
            value, by_mean, by_variance = self.of_moments(mean, query.variance)
            weights = by_mean[:, :, None] * posterior.alpha[:, None, :]
            gradient = posterior.pull_back(query, weights, by_variance)
        return value, self.reader.map.pull_back(X, gradient)
