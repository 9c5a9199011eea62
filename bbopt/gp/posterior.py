"""The exact posterior of a few kernels over the same rows, kept up to date in O(n^2).

Only the inverse factor ``L^-1`` is kept, in buffers with spare capacity: appending a row writes
one new row of it, and the variance at a batch of points is a matrix product instead of a
triangular solve. Targets are separate from rows: changing every target (a new output warp after
each observation) costs two matrix-vector products.

All tensors lead with the *member* dimension E: the kernels of an ensemble run as one program.
A state is a pure function of (rows, their known noise, theta, number of rows factorized at
once): built live or rebuilt, it is the same to the last bit on the same build and device.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bbopt.errors import NumericalError
from bbopt.gp.kernels import (
    Kernel,
    ensemble_value_and_derivative,
    kernel_value,
    squared_distances,
)
from bbopt.gp.objective import BASE_JITTER
from bbopt.numerics.linalg import cholesky, inverse_factor

RELATIVE_VARIANCE_FLOOR: Final = 1e-13
"""Smallest posterior variance in units of the output scale; below it rounding decides."""


@dataclass(frozen=True, slots=True)
class Members:
    """The hyperparameters of E kernels, unpacked; everything on the posterior's device."""

    kernels: tuple[Kernel, ...]
    inverse_scales: Tensor
    """Inverse length scale of each feature, shape ``(E, 1, F)``."""
    noise: Tensor
    """Noise variance, shape ``(E,)``."""
    output_scale: Tensor
    """Prior variance, shape ``(E,)``."""

    @classmethod
    def unpack(cls, kernels: tuple[Kernel, ...], theta: Tensor, group: Tensor) -> "Members":
        """Unpack ``theta``.

        Args:
            kernels: One family per member.
            theta: Log hyperparameters, shape ``(E, G + 2)``.
            group: Length-scale index of each feature, shape ``(F,)``.

        Returns:
            The members.
        """
        values = theta.exp()
        inverse = (-theta[:, :-2]).exp()[:, group.to(theta.device)]
        return cls(kernels, inverse[:, None, :].contiguous(), values[:, -2], values[:, -1])

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``k(a, b)`` for scaled rows ``(E, n, F)`` and ``(E, m, F)``: ``(E, n, m)``."""
        s = squared_distances(a, b)
        if all(kernel is self.kernels[0] for kernel in self.kernels):
            kernel_value(self.kernels[0], s)
        else:
            for e, kernel in enumerate(self.kernels):
                kernel_value(kernel, s[e])
        return s.mul_(self.output_scale[:, None, None])

    def covariance_and_derivative(
        self, a: Tensor, b: Tensor, b_norms: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``k(a, b)`` and ``dk/ds``, each ``(E, n, m)``; ``b_norms`` is ``|b|^2``."""
        s = squared_distances(a, b, b_norms=b_norms)
        return ensemble_value_and_derivative(self.kernels, s, self.output_scale[:, None, None])


@dataclass(frozen=True, slots=True)
class Query:
    """Intermediate values at a batch of R points, shared by moments and gradients."""

    z: Tensor
    """Scaled feature rows, ``(E, R, F)``."""
    covariance: Tensor
    """Between the points and the data, ``(E, R, n)``."""
    derivative: Tensor
    """``dk/ds`` of the same, ``(E, R, n)``."""
    whitened: Tensor
    """``k L^-T``, ``(E, R, n)``."""
    variance: Tensor
    """Posterior variance, ``(E, R)``, never below the floor."""


def capacity_for(n: int) -> int:
    """Return the buffer size for ``n`` rows: 32, 64, 128, 192, 256, 384, 512, 768, ..."""
    capacity = 32
    while capacity < n:
        is_power = capacity & (capacity - 1) == 0
        if capacity < 128:
            capacity *= 2
        else:
            capacity = capacity * 3 // 2 if is_power else capacity * 4 // 3
    return capacity


class Posterior:
    """E exact Gaussian processes over the same n rows and targets."""

    def __init__(self, members: Members, features: Tensor, noise_variances: Tensor) -> None:
        """Factorize the covariance of the first rows; targets are zero until set.

        Args:
            members: The hyperparameters.
            features: Feature rows, shape ``(n, F)``, n >= 0.
            noise_variances: Known variance of each row in standardized units, shape ``(n,)``.

        Raises:
            NumericalError: The covariance cannot be factorized.
        """
        self.members = members
        self.n = 0
        e = len(members.kernels)
        self._jitter = torch.full_like(members.noise, BASE_JITTER)
        self._known_noise = noise_variances
        self._allocate(capacity_for(features.shape[0]), e, features)
        self._factorize(features, noise_variances)
        self.set_targets(features.new_zeros(features.shape[0]))

    # ------------------------------------------------------------------ building

    @torch.inference_mode()
    def _allocate(self, capacity: int, e: int, like: Tensor) -> None:
        self.capacity = capacity
        self._z = like.new_zeros(e, capacity, like.shape[1])
        self._norms = like.new_zeros(e, capacity)
        self._inverse = like.new_zeros(e, capacity, capacity)

    @torch.inference_mode()
    def _factorize(self, features: Tensor, noise_variances: Tensor) -> None:
        n = features.shape[0]
        if n == 0:
            return
        z = features * self.members.inverse_scales
        matrix = self.members.covariance(z, z)
        diagonal = self._prior_variances(noise_variances)
        matrix.diagonal(dim1=-2, dim2=-1).copy_(diagonal)
        factor = cholesky(matrix)
        self._jitter = self._jitter + factor.jitter
        self._inverse[:, :n, :n] = inverse_factor(factor.lower)
        self._z[:, :n] = z
        self._norms[:, :n] = z.square().sum(-1)
        self.n = n

    def _prior_variances(self, noise_variances: Tensor) -> Tensor:
        own = self.members.output_scale + self.members.noise + self._jitter
        return own[:, None] + noise_variances  # (E, n)

    @torch.inference_mode()
    def append(self, feature: Tensor, noise_variance: float = 0.0) -> None:
        """Add one row in O(n^2), in place; targets must be set again before predicting.

        Args:
            feature: Shape ``(F,)``.
            noise_variance: Known variance of the new observation in standardized units.

        Raises:
            NumericalError: The row is not finite.
        """
        if self.n == self.capacity:
            self._grow()
        n = self.n
        z = feature * self.members.inverse_scales  # (E, 1, F)
        k = self.members.covariance(z, self._z[:, :n])  # (E, 1, n)
        inverse = self._inverse[:, :n, :n]
        whitened = torch.bmm(k, inverse.mT)
        noise = self.members.noise + self._jitter + noise_variance
        latent = self.members.output_scale - whitened.square().sum(-1)[:, 0]
        # Rounding can push the variance of a repeated point below what noise guarantees.
        pivot = torch.sqrt(latent.clamp(min=0.0) + noise)
        if not bool(torch.isfinite(pivot).all()):
            raise NumericalError("a row with a non-finite entry cannot join the model")
        self._inverse[:, n, :n] = (torch.bmm(whitened, inverse) / -pivot[:, None, None])[:, 0]
        self._inverse[:, n, n] = 1.0 / pivot
        self._z[:, n] = z[:, 0]
        self._norms[:, n] = z[:, 0].square().sum(-1)
        extra = self._known_noise.new_full((1,), noise_variance)
        self._known_noise = torch.cat([self._known_noise, extra])
        self.n = n + 1

    def _grow(self) -> None:
        n, z, norms, inverse = self.n, self._z, self._norms, self._inverse
        self._allocate(capacity_for(n + 1), z.shape[0], z[0])
        with torch.inference_mode():
            self._z[:, :n] = z[:, :n]
            self._norms[:, :n] = norms[:, :n]
            self._inverse[:, :n, :n] = inverse[:, :n, :n]

    @torch.inference_mode()
    def set_targets(self, y: Tensor) -> None:
        """Take new targets for all rows; the factor stays as it is.

        Args:
            y: Standardized targets, shape ``(n,)``.
        """
        inverse = self._inverse[:, : self.n, : self.n]
        # Vectors go in as rows: the same products with columns are ten times slower in MKL.
        pair = torch.stack([y, torch.ones_like(y)]).expand(inverse.shape[0], -1, -1)
        whitened = torch.bmm(pair, inverse.mT)  # (E, 2, n)
        ones = whitened[:, 1]
        denominator = ones.square().sum(-1)
        if self.n == 0:
            denominator = torch.ones_like(denominator)
        self.y = y
        self.mean_constant = (ones * whitened[:, 0]).sum(-1) / denominator  # (E,)
        self._residual = whitened[:, 0] - self.mean_constant[:, None] * ones
        self.alpha = torch.bmm(self._residual[:, None, :], inverse)[:, 0]  # (E, n)

    # ------------------------------------------------------------------ reading

    @property
    def n_members(self) -> int:
        """Number of kernels E."""
        return len(self.members.kernels)

    @property
    def n_covariances(self) -> int:
        """Number of covariances that one query point needs."""
        return self.n_members * self.n

    @property
    def jitter(self) -> Tensor:
        """What was added to each member's diagonal beyond its noise, shape ``(E,)``."""
        return self._jitter

    @torch.inference_mode()
    def fitted_means(self) -> Tensor:
        """Return the latent posterior mean at the model's own rows, ``(E, n)``, in O(n).

        Uses ``K_f alpha = (y - m) - noise alpha``.
        """
        return self.y - self.noise_variances * self.alpha

    @property
    def noise_variances(self) -> Tensor:
        """Variance of each observation's noise, jitter included, ``(E, n)``."""
        return (self.members.noise + self._jitter)[:, None] + self._known_noise

    @property
    def prior_variances(self) -> Tensor:
        """Variance of each observation before any was made, noise included, ``(E, n)``."""
        return self._prior_variances(self._known_noise)

    @property
    def usual_noise(self) -> Tensor:
        """Noise variance of a usual observation, jitter included, ``(E,)``.

        The median: what is known may differ from one observation to another.
        """
        return self.members.noise + self._jitter + self._usual_known_noise()

    def _usual_known_noise(self) -> Tensor:
        known = self._known_noise
        return known.median() if self.n else known.new_zeros(())

    @property
    def inverse_factor(self) -> Tensor:
        """``L^-1``, a view of shape ``(E, n, n)``."""
        return self._inverse[:, : self.n, : self.n]

    @property
    def scaled_rows(self) -> Tensor:
        """Rows divided by length scales, a view of shape ``(E, n, F)``."""
        return self._z[:, : self.n]

    @torch.inference_mode()
    def log_evidence(self) -> Tensor:
        """Return each member's log marginal likelihood of the targets, in nats, ``(E,)``."""
        log_determinant = -self.inverse_factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        quadratic = self._residual.square().sum(-1)
        return -0.5 * quadratic - log_determinant - 0.5 * self.n * math.log(2.0 * math.pi)

    def query(self, features: Tensor) -> Query:
        """Compute what moments and gradients at R points share.

        Args:
            features: Feature rows, shape ``(R, F)``.

        Returns:
            The intermediate values; hand it to ``mean_of`` and ``pull_back``.
        """
        z = features * self.members.inverse_scales
        k, derivative = self.members.covariance_and_derivative(
            z, self.scaled_rows, self._norms[:, : self.n]
        )
        whitened = torch.bmm(k, self.inverse_factor.mT)
        return Query(z, k, derivative, whitened, self._variance(whitened))

    def _variance(self, whitened: Tensor) -> Tensor:
        scale = self.members.output_scale[:, None]
        variance = scale - torch.linalg.vector_norm(whitened, dim=-1).square()
        return torch.maximum(variance, RELATIVE_VARIANCE_FLOOR * scale)

    def mean_of(self, query: Query) -> Tensor:
        """Return the posterior mean at the points of a query, shape ``(E, R)``."""
        return self._mean(query.covariance)

    def pull_back(self, query: Query, mean_weights: Tensor, variance_weights: Tensor) -> Tensor:
        """Differentiate a weighted sum of moments with respect to features.

        Args:
            query: The query at R points.
            mean_weights: For every point the vector that multiplies ``k(x, data)`` in the
                weighted mean, i.e. ``weight * alpha``, shape ``(E, R, n)``.
            variance_weights: Weight of each variance, shape ``(E, R)``.

        Returns:
            ``d/dx sum_e (weighted mean + weight * variance)`` for each point, ``(R, F)``.
        """
        solved = torch.bmm(query.whitened, self.inverse_factor)  # K^-1 k
        w = torch.addcmul(mean_weights, solved, variance_weights[:, :, None], value=-2.0)
        w.mul_(query.derivative)  # (E, R, n)
        product = torch.mul(query.z, w.sum(-1, keepdim=True))
        product.baddbmm_(w, self.scaled_rows, alpha=-1.0).mul_(self.members.inverse_scales)
        return (product[0] if len(product) == 1 else product.sum(0)).mul_(2.0)

    def _mean(self, covariance: Tensor) -> Tensor:
        product = torch.bmm(self.alpha[:, None, :], covariance.mT)[:, 0]
        return product.add_(self.mean_constant[:, None])

    @torch.inference_mode()
    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent posterior mean and variance.

        Args:
            features: Feature rows, shape ``(R, F)``.

        Returns:
            Mean and variance in standardized units, each ``(E, R)``.
        """
        z = features * self.members.inverse_scales
        k = self.members.covariance(z, self.scaled_rows)
        whitened = torch.bmm(k, self.inverse_factor.mT)
        return self._mean(k), self._variance(whitened)

    @torch.inference_mode()
    def predict_with_variance_bound(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior mean and an upper bound of the variance, in O(n) a point.

        The bound is the variance given nothing but the observation that covaries most with the
        point: all others can only lower it.

        Args:
            features: Feature rows, shape ``(R, F)``.

        Returns:
            Mean and bound in standardized units, each ``(E, R)``.
        """
        z = features * self.members.inverse_scales
        k = self.members.covariance(z, self.scaled_rows)
        scale = self.members.output_scale[:, None]
        diagonal = self.prior_variances.amax(1, keepdim=True)
        variance = scale - k.amax(-1).square() / diagonal
        return self._mean(k), torch.maximum(variance, RELATIVE_VARIANCE_FLOOR * scale)

    @torch.inference_mode()
    def predict_jointly(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent posterior mean ``(E, R)`` and covariance ``(E, R, R)``."""
        z = features * self.members.inverse_scales
        k = self.members.covariance(z, self.scaled_rows)
        whitened = torch.bmm(k, self.inverse_factor.mT)
        prior = self.members.covariance(z, z)
        prior.diagonal(dim1=-2, dim2=-1).copy_(self.members.output_scale[:, None])
        return self._mean(k), prior.sub_(torch.bmm(whitened, whitened.mT))

    @torch.inference_mode()
    def extended(self, features: Tensor) -> "Posterior":
        """Return a copy that also has some rows, as if they had been observed as usual.

        What noise is known of them is the median of that of the others.

        Args:
            features: Feature rows of the pending points, shape ``(p, F)``.

        Returns:
            A posterior over n + p rows; its targets are not set.
        """
        other = object.__new__(Posterior)
        other.members, other._jitter = self.members, self._jitter
        other._known_noise = self._known_noise
        other.n = self.n
        n_all = self.n + features.shape[0]
        other._allocate(n_all, self.n_members, features)
        other._z[:, : self.n] = self.scaled_rows
        other._norms[:, : self.n] = self._norms[:, : self.n]
        other._inverse[:, : self.n, : self.n] = self.inverse_factor
        usual = float(self._usual_known_noise())
        for row in features:
            other.append(row, usual)
        return other

    def select(self, members: list[int]) -> "Posterior":
        """Return a view of some members over the same rows and targets."""
        other = object.__new__(Posterior)
        m = self.members
        kernels = tuple(m.kernels[e] for e in members)
        if len(members) == 1:  # a slice is a view; an index list copies O(n^2)
            pick: slice | list[int] = slice(members[0], members[0] + 1)
        else:
            pick = members
        other.members = Members(
            kernels, m.inverse_scales[pick], m.noise[pick], m.output_scale[pick]
        )
        other.n, other.capacity, other._jitter = self.n, self.capacity, self._jitter[pick]
        other._z, other._norms = self._z[pick], self._norms[pick]
        other._inverse = self._inverse[pick]
        other.y, other.alpha = self.y, self.alpha[pick]
        other._known_noise = self._known_noise
        other.mean_constant, other._residual = self.mean_constant[pick], self._residual[pick]
        return other
