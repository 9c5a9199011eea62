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

from bbopt.gp.kernels import Kernel, kernel_value_and_derivative
from bbopt.gp.priors import HyperPriors

Array = NDArray[np.float64]
BASE_JITTER: Final = 1e-10
"""Added to every diagonal; a hundredth of a percent of the smallest noise the model allows."""
BROKEN_VALUE: Final = 1e10
"""What a line search sees where the factorization fails: worse than anything real."""


class MapObjective:
    """Negative log marginal likelihood plus negative log prior of one kernel and one target."""

    def __init__(
        self,
        features: Tensor,
        y: Tensor,
        *,
        kernel: Kernel,
        priors: HyperPriors,
        group: Tensor,
        noise_variances: Tensor | None = None,
    ) -> None:
        """Keep the data; nothing is computed yet.

        Args:
            features: Shape ``(n, F)``, n >= 1.
            y: Standardized targets, shape ``(n,)``.
            kernel: The covariance family.
            priors: Priors of ``theta``.
            group: Length-scale index of each feature, shape ``(F,)``.
            noise_variances: Known variance of each observation in standardized units, shape
                ``(n,)``, added to the fitted or fixed noise; ``None`` is zero.
        """
        self._features = features
        self._targets = torch.stack([y, torch.ones_like(y)], dim=-1)  # (n, 2)
        self._kernel = kernel
        self._priors = priors
        self._group = group.to(features.device)
        self._group_on_cpu = group.cpu().numpy()
        self._known = noise_variances

    @torch.inference_mode()
    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Evaluate the objective, which is to be minimised.

        Args:
            theta: ``[log length scales (G), log noise variance, log output scale]``.

        Returns:
            The value in nats and the gradient, shape ``(G + 2,)``; ``(1e10, 0)`` where the
            covariance cannot be factorized.
        """
        g = self._priors.n_length_scales
        noise = math.exp(theta[g])
        output_scale = math.exp(theta[g + 1])
        inverse_scales = torch.from_numpy(np.exp(-theta[:g])).to(self._features.device)
        z = self._features * inverse_scales[self._group]
        n = z.shape[0]

        covariance, derivative = self._covariance(z, output_scale)
        noise_diagonal = noise + BASE_JITTER + (0.0 if self._known is None else self._known)
        covariance.diagonal().copy_(output_scale + noise_diagonal * torch.ones_like(z[:, 0]))
        lower, info = torch.linalg.cholesky_ex(covariance)
        if int(info) != 0:
            return BROKEN_VALUE, np.zeros_like(theta)

        inverse = torch.cholesky_inverse(lower)
        solved = inverse @ self._targets  # (n, 2): K^-1 y, K^-1 1
        y_sum, one_sum = solved.sum(0).tolist()
        mean = y_sum / one_sum
        alpha = solved[:, 0] - mean * solved[:, 1]
        fit = float((self._targets[:, 0] - mean) @ alpha)
        value = (
            0.5 * fit + float(lower.diagonal().log().sum()) + 0.5 * n * math.log(2 * math.pi)
        )

        inverse_diagonal = inverse.diagonal()
        curvature = alpha.square() - inverse_diagonal
        noise_part = float(curvature.sum())
        # tr((a a' - K^-1) K_f) with K_f = K - noise, so no further n^2 pass is needed.
        scale_part = fit - n - float((curvature * noise_diagonal).sum())
        weights = torch.addr(inverse, alpha, alpha, beta=-1.0).mul_(derivative)
        length_part = self._length_scale_part(weights, z)

        log_prior, prior_gradient = self._priors.log_density(theta)
        gradient = np.concatenate(
            [-length_part, [-0.5 * noise_part * noise, -0.5 * scale_part]]
        )
        return value - log_prior, gradient - prior_gradient

    def _covariance(self, z: Tensor, output_scale: float) -> tuple[Tensor, Tensor]:
        """Return ``K_f`` and ``dK_f/ds``, both ``(n, n)``."""
        norms = z.square().sum(-1)
        s = torch.addmm(norms[:, None] + norms, z, z.mT, alpha=-2.0).clamp_(min=0.0)
        value, derivative = kernel_value_and_derivative(self._kernel, s)
        return value.mul_(output_scale), derivative.mul_(output_scale)

    def _length_scale_part(self, weights: Tensor, z: Tensor) -> Array:
        """Return ``-0.5 tr(W dK/dlog l)`` negated, i.e. ``d(log likelihood)/d log l``, ``(G,)``.

        Uses ``sum_ij W_ij (z_if - z_jf)^2 = 2 (sum_i z_if^2 W_i. - z_f' W z_f)``, with
        ``dK_ij / dlog l = -2 k'(s_ij) (z_if - z_jf)^2``.
        """
        rows = weights.sum(1)
        product = weights @ z
        per_feature = (z.square() * rows[:, None] - z * product).sum(0)  # (F,)
        per_feature_np = per_feature.cpu().numpy()
        out = np.zeros(self._priors.n_length_scales)
        np.add.at(out, self._group_on_cpu, per_feature_np)
        return -2.0 * out
