"""A posterior on the CPU, read a few rows at a time by numpy.

An ascent asks for some ten rows at once: their covariances are a few thousand numbers, and what
an operation of torch costs before it begins is more than its arithmetic. Only matrix products
stay with torch, whose number of threads an ask controls. Distances, the kernel's scale and the
length scales are folded into one product, ``[x, x^2 / l^2, 1] B``.
"""

import math
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.gp.kernels import Kernel
from bbopt.gp.posterior import RELATIVE_VARIANCE_FLOOR, Posterior

Array = NDArray[np.float64]
RBF_SLOPE: Final = -0.5
"""``dk/ds`` of the RBF in units of its value."""
MATERN_SLOPE: Final = -5.0 / 6.0
"""``dk/ds`` of the Matern kernel in units of ``(1 + t) exp(-t)``, ``t = sqrt(5 s)``."""


@dataclass(frozen=True, slots=True)
class HostQuery:
    """Moments at R points, and what their gradients need."""

    features: Array
    """The points, ``(R, F)``."""
    mean: Array
    """Posterior mean, ``(E, R)``."""
    variance: Array
    """Posterior variance, ``(E, R)``, never below the floor."""
    slopes: list[Array]
    """Of each member, ``dk/ds`` but for a constant factor, ``(R, n)``."""
    whitened: list[Tensor]
    """Of each member, ``k L^-T``, ``(R, n)``."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One kernel, its constants folded into matrices."""

    kernel: Kernel
    scale: float
    log_scale: float
    constant: float
    alpha: Tensor
    inverse: Tensor
    """``L^-1``, ``(n, n)``."""
    right: Tensor
    """``B``, whose product with ``left`` is ``log k`` (RBF) or ``5 s`` (Matern)."""
    back: Tensor
    """``[-2 z / l, 1]`` times the slope's constant factor, ``(n, F + 1)``."""
    inverse_squares: Array
    """``1 / l^2``, ``(F,)``."""

    @classmethod
    def of(cls, posterior: Posterior, e: int) -> "_Member":
        kernel = posterior.members.kernels[e]
        scale = float(posterior.members.output_scale[e])
        inverse_scales = posterior.members.inverse_scales[e, 0].numpy()
        z = posterior.scaled_rows[e].numpy()
        n, n_features = z.shape
        factor, slope = (-0.5, RBF_SLOPE) if kernel is Kernel.RBF else (5.0, MATERN_SLOPE)
        right = np.empty((n_features + 2, n))
        right[:-2] = (-2.0 * factor * inverse_scales[:, None]) * z.T
        right[-2] = factor
        right[-1] = factor * np.einsum("nf,nf->n", z, z)
        if kernel is Kernel.RBF:
            right[-1] += math.log(scale)
        back = np.empty((n, n_features + 1))
        back[:, :-1] = z * (-2.0 * slope * inverse_scales)
        back[:, -1] = slope
        return cls(
            kernel,
            scale,
            math.log(scale),
            float(posterior.mean_constant[e]),
            posterior.alpha[e],
            posterior.inverse_factor[e],
            torch.from_numpy(right),
            torch.from_numpy(back),
            inverse_scales * inverse_scales,
        )

    def left(self, features: Array) -> Tensor:
        """Return ``[x, sum x^2 / l^2, 1]``, ``(R, F + 2)``."""
        left = np.empty((len(features), features.shape[1] + 2))
        left[:, :-2] = features
        left[:, -2] = np.einsum("rf,rf,f->r", features, features, self.inverse_squares)
        left[:, -1] = 1.0
        return torch.from_numpy(left)

    def covariance(self, features: Array) -> Tensor:
        """Return ``k``, ``(R, n)``."""
        product = torch.mm(self.left(features), self.right)
        k = product.numpy()
        match self.kernel:
            case Kernel.RBF:
                np.exp(k, out=k)
            case Kernel.MATERN52:
                np.maximum(k, 0.0, out=k)  # 5 s
                t = np.sqrt(k)
                k *= 1.0 / 3.0
                k += t
                k += 1.0
                np.subtract(self.log_scale, t, out=t)
                np.exp(t, out=t)
                k *= t
            case _:
                assert_never(self.kernel)
        return product

    def mean(self, k: Tensor) -> Array:
        """Return the posterior mean, ``(R,)``."""
        mean: Array = torch.mv(k, self.alpha).numpy()
        mean += self.constant
        return mean

    def variance(self, explained: Array) -> Array:
        """Return what the data leave of the prior variance, ``(R,)``."""
        return np.maximum(self.scale - explained, RELATIVE_VARIANCE_FLOOR * self.scale)

    def covariance_and_slope(self, features: Array) -> tuple[Tensor, Array]:
        """Return ``k``, ``(R, n)``, and ``dk/ds`` but for a constant factor."""
        product = torch.mm(self.left(features), self.right)
        k = product.numpy()
        match self.kernel:
            case Kernel.RBF:
                np.exp(k, out=k)
                return product, k
            case Kernel.MATERN52:
                np.maximum(k, 0.0, out=k)  # 5 s
                slope = np.sqrt(k)  # t
                decay = np.subtract(self.log_scale, slope)
                np.exp(decay, out=decay)
                slope += 1.0
                slope *= decay  # (1 + t) exp(-t)
                k *= 1.0 / 3.0
                k *= decay
                k += slope
                return product, slope
            case _:
                assert_never(self.kernel)


class HostPosterior:
    """What an acquisition reads of a posterior that does not change while this is in use."""

    def __init__(self, posterior: Posterior) -> None:
        """Fold the constants of every member.

        Args:
            posterior: On the CPU, with targets.
        """
        self._members = [_Member.of(posterior, e) for e in range(posterior.n_members)]
        self._posterior = posterior

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Return mean and variance, each ``(E, R)``, of feature rows ``(R, F)``."""
        mean = np.empty((len(self._members), len(features)))
        variance = np.empty_like(mean)
        for e, member in enumerate(self._members):
            k = member.covariance(features)
            w = torch.mm(k, member.inverse.mT).numpy()
            variance[e] = member.variance(np.einsum("rn,rn->r", w, w))
            mean[e] = member.mean(k)
        return mean, variance

    def predict_with_variance_bound(self, features: Array) -> tuple[Array, Array]:
        """Do as ``Posterior.predict_with_variance_bound`` on arrays."""
        mean = np.empty((len(self._members), len(features)))
        bound = np.empty_like(mean)
        largest = self._posterior.prior_variances.amax(1).tolist()
        for e, member in enumerate(self._members):
            k = member.covariance(features)
            closest = torch.amax(k, -1).numpy()
            bound[e] = member.variance(closest * closest / largest[e])
            mean[e] = member.mean(k)
        return mean, bound

    def query(self, features: Array) -> HostQuery:
        """Compute moments at R points and what their gradients need.

        Args:
            features: Feature rows, shape ``(R, F)``.
        """
        mean = np.empty((len(self._members), len(features)))
        variance = np.empty_like(mean)
        slopes, all_whitened = [], []
        for e, member in enumerate(self._members):
            k, slope = member.covariance_and_slope(features)
            whitened = torch.mm(k, member.inverse.mT)
            w = whitened.numpy()
            variance[e] = member.variance(np.einsum("rn,rn->r", w, w))
            mean[e] = member.mean(k)
            slopes.append(slope)
            all_whitened.append(whitened)
        return HostQuery(features, mean, variance, slopes, all_whitened)

    def pull_back(self, query: HostQuery, by_mean: Array, by_variance: Array) -> Array:
        """Differentiate a weighted sum of moments with respect to features.

        Args:
            query: The query at R points.
            by_mean: Weight of each mean, shape ``(E, R)``.
            by_variance: Weight of each variance, shape ``(E, R)``.

        Returns:
            ``d/dx sum_e (by_mean mean + by_variance variance)``, ``(R, F)``.
        """
        gradient = np.zeros_like(query.features)
        twice = -2.0 * by_variance
        for e, member in enumerate(self._members):
            solved = torch.mm(query.whitened[e], member.inverse)  # K^-1 k
            w = solved.numpy()
            w *= twice[e, :, None]
            w += by_mean[e, :, None] * member.alpha.numpy()
            w *= query.slopes[e]
            product = torch.mm(solved, member.back).numpy()
            gradient += product[:, :-1]
            gradient += query.features * (2.0 * product[:, -1:]) * member.inverse_squares
        return gradient
