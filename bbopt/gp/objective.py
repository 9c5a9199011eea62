"""The log posterior of the hyperparameters and its gradient, in closed form.

One evaluation is a matrix product for the distances, one kernel pass, a Cholesky factorization,
an inverse and one more matrix product: no tensor of size n x n x d, no autograd. The constant
mean is profiled out (its maximum-likelihood value given everything else).
"""

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbopt.gp.kernels import (
    Kernel,
    ensemble_value_and_derivative,
    squared_distances,
)
from bbopt.gp.priors import HyperPriors
from bbopt.numerics.devices import to_device, to_host

Array = NDArray[np.float64]
Index = NDArray[np.intp]
LOG_2PI: Final = math.log(2.0 * math.pi)
BASE_JITTER: Final = 1e-10
"""Added to every diagonal; a hundredth of a percent of the smallest noise the model allows."""
BROKEN_VALUE: Final = 1e10
"""What a line search sees where the factorization fails: worse than anything real."""


class MapObjective:
    """Log marginal likelihood plus log prior of a few kernels for one target.

    Several settings of the hyperparameters are evaluated as one tensor program, so that all
    kernels, and warm and cold starts, can be fitted together.
    """

    def __init__(
        self,
        features: Tensor,
        y: Tensor,
        *,
        kernels: tuple[Kernel, ...],
        priors: HyperPriors,
        group: Tensor,
        noise_variances: Tensor | None = None,
    ) -> None:
        """Keep the data; nothing is computed yet.

        Args:
            features: Shape ``(n, F)``, n >= 1.
            y: Standardized targets, shape ``(n,)``.
            kernels: The covariance families.
            priors: Priors of ``theta``.
            group: Length-scale index of each feature, shape ``(F,)``.
            noise_variances: Known variance of each observation in standardized units, shape
                ``(n,)``, added to the fitted or fixed noise; ``None`` is zero.
        """
        self.kernels = kernels
        self._features = features
        self._y = y
        self._targets = torch.stack([y, torch.ones_like(y)])  # (2, n)
        self._n_length_scales = priors.n_length_scales
        self._log_prior = priors.packed().log_density
        self._group = group.numpy()
        self._is_grouped = len(group) != priors.n_length_scales
        self._known = noise_variances

    @property
    def n(self) -> int:
        """Number of observations."""
        return len(self._y)

    @torch.inference_mode()
    def evaluate(self, thetas: Array, members: Index) -> tuple[Array, Array]:
        """Return the log posterior density and its gradient, up to a constant.

        Args:
            thetas: ``[log length scales (G), log noise variance, log output scale]`` per row,
                shape ``(R, G + 2)``.
            members: Which kernel each row is for, shape ``(R,)``.

        Returns:
            Values in nats, ``(R,)``, and gradients, ``(R, G + 2)``; ``(-inf, 0)`` where the
            covariance cannot be factorized.
        """
        g = self._n_length_scales
        n = len(self._y)
        hyper = np.exp(thetas)
        noise, output_scale, inverse_scales = to_device(
            self._features.device, hyper[:, g], hyper[:, g + 1], 1.0 / hyper[:, self._group]
        )
        z = self._features * inverse_scales[:, None, :]  # (R, n, F)

        kernels = [self.kernels[member] for member in members]
        covariance, derivative = ensemble_value_and_derivative(
            kernels, squared_distances(z, z), output_scale[:, None, None]
        )
        diagonal = (noise + BASE_JITTER)[:, None].expand(-1, n)  # (R, n)
        if self._known is not None:
            diagonal = diagonal + self._known
        covariance.diagonal(dim1=-2, dim2=-1).copy_(output_scale[:, None] + diagonal)
        lower, info = torch.linalg.cholesky_ex(covariance)

        inverse = torch.cholesky_inverse(lower)
        solved = self._targets @ inverse  # (R, 2, n): K^-1 y, K^-1 1
        sums = solved.sum(2)
        mean = (sums[:, 0] / sums[:, 1])[:, None]
        alpha = solved[:, 0] - mean * solved[:, 1]  # (R, n)
        fit = ((self._y - mean) * alpha).sum(1)
        log_determinant = 2.0 * lower.diagonal(dim1=-2, dim2=-1).log().sum(1)
        value = -0.5 * (fit + log_determinant + n * LOG_2PI)

        curvature = alpha.square() - inverse.diagonal(dim1=-2, dim2=-1)  # (R, n)
        noise_part = 0.5 * noise * curvature.sum(1)
        # tr((a a' - K^-1) K_f) with K_f = K - noise, so no further n^2 pass is needed.
        scale_part = 0.5 * (fit - n - (curvature * diagonal).sum(1))
        weights = torch.addcmul(inverse, alpha[:, :, None], alpha[:, None, :], value=-1.0)
        feature_part = self._by_feature(weights.mul_(derivative), z.mT)
        parts = [value[:, None], feature_part, noise_part[:, None], scale_part[:, None]]
        packed, status = to_host(torch.cat(parts, dim=1), info)
        return self._with_prior(thetas, packed, status == 0)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return what a minimiser wants for the first kernel: both with the sign turned.

        Args:
            theta: Shape ``(G + 2,)``.

        Returns:
            The value and the gradient; ``(1e10, 0)`` where the covariance cannot be factorized.
        """
        return self.for_minimiser(theta, 0)

    def for_minimiser(self, theta: Array, member: int) -> tuple[float, Array]:
        """Do as ``__call__`` for any kernel."""
        value, gradient = self.evaluate(theta[None], np.array([member]))
        return (-float(value[0]) if np.isfinite(value[0]) else BROKEN_VALUE), -gradient[0]

    def _by_feature(self, weights: Tensor, z: Tensor) -> Tensor:
        """Return the derivative of the log likelihood by each feature's log scale, ``(R, F)``.

        It is ``0.5 tr((a a' - K^-1) dK)`` with ``dK_ij = -2 k'(s_ij) (z_if - z_jf)^2``, and
        ``sum_ij W_ij (z_if - z_jf)^2 = 2 (sum_i z_if^2 W_i. - z_f' W z_f)``.

        Args:
            weights: ``W = (K^-1 - a a') k'``, elementwise, shape ``(R, n, n)``.
            z: Scaled features as rows, shape ``(R, F, n)``.
        """
        product = torch.bmm(z, weights)
        return torch.sub(z * weights.sum(2)[:, None, :], product).mul_(z).sum(2).mul_(2.0)

    def _with_prior(
        self, thetas: Array, packed: Array, is_factorized: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        values, gradients = packed[:, 0], packed[:, 1:]
        if self._is_grouped:
            summed = np.zeros_like(thetas)
            np.add.at(summed.T, self._group, gradients[:, :-2].T)
            summed[:, -2:] = gradients[:, -2:]
            gradients = summed
        is_good = is_factorized & np.isfinite(values) & np.isfinite(gradients).all(axis=1)
        prior, prior_gradient = self._log_prior(thetas)
        values = np.where(is_good, values + prior, -np.inf)
        return values, np.where(is_good[:, None], gradients + prior_gradient, 0.0)
