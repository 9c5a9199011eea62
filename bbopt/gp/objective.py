"""The log posterior of the hyperparameters and its gradient, in closed form.

One evaluation is a matrix product for the distances, one kernel pass, a Cholesky factorization,
an inverse and one more matrix product: no tensor of size n x n x d, no autograd. The constant
mean is profiled out (its maximum-likelihood value given everything else).
"""

import math
from collections.abc import Sequence
from copy import copy
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
        self._targets = torch.stack([y, torch.ones_like(y)])  # (2, n)
        self._n_length_scales = priors.n_length_scales
        self._prior = priors.packed()
        self._group = group.numpy()
        self._groups = group.to(features.device)
        self._is_grouped = len(group) != priors.n_length_scales
        self._known = noise_variances

    @classmethod
    def joined(cls, parts: Sequence["MapObjective"]) -> "MapObjective":
        """Return those of several targets as one, which costs less where rows are few.

        Args:
            parts: At least one; rows and priors are the same for all.

        Returns:
            An objective whose members are the kernels of the first part, then those of the
            second, and so on.
        """
        joined = copy(parts[0])
        of_member = [part for part in parts for _ in part.kernels]
        joined.kernels = tuple(kernel for part in parts for kernel in part.kernels)
        joined._targets = torch.stack([part._targets for part in of_member])  # (M, 2, n)
        if any(part._known is not None for part in parts):
            none = torch.zeros_like(parts[0]._targets[0])
            known = [none if part._known is None else part._known for part in of_member]
            joined._known = torch.stack(known)
        return joined

    @property
    def n(self) -> int:
        """Number of observations."""
        return self._targets.shape[-1]

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
        values, gradients, _ = self._evaluate(thetas, members, has_information=False)
        return values, gradients

    def evaluate_with_information(
        self, thetas: Array, members: Index
    ) -> tuple[Array, Array, Array]:
        """Do as ``evaluate``, and say how strongly the log posterior is curved.

        Args:
            thetas: As for ``evaluate``.
            members: As for ``evaluate``.

        Returns:
            Values, gradients and the average information plus the prior's precision, shape
            ``(R, G + 2, G + 2)``, positive semidefinite: the mean of the observed and the
            expected information but for second derivatives of the covariance, which costs a
            few products of the matrices at hand with vectors.

        Source:
            Gilmour, Thompson & Cullis (1995), "Average Information REML".
        """
        return self._evaluate(thetas, members, has_information=True)

    @torch.inference_mode()
    def _evaluate(
        self, thetas: Array, members: Index, *, has_information: bool
    ) -> tuple[Array, Array, Array]:
        g = self._n_length_scales
        hyper = np.exp(thetas)
        noise = hyper[:, g]
        given = np.column_stack(
            [1.0 / hyper[:, self._group], noise + BASE_JITTER, hyper[:, g:]]
        )
        (on_device,) = to_device(self._features.device, given)
        z = self._features * on_device[:, None, :-3]  # (R, n, F)

        kernels = [self.kernels[member] for member in members]
        covariance, derivative = ensemble_value_and_derivative(
            kernels, squared_distances(z, z), on_device[:, -1, None, None]
        )
        targets, known = self._targets, self._known
        if targets.dim() == 3:  # of each member its own
            rows = torch.from_numpy(members).to(targets.device)
            targets = targets[rows]
            known = None if known is None else known[rows]
        diagonal = on_device[:, -3, None]
        if known is not None:
            diagonal = diagonal + known  # (R, n)
        covariance.diagonal(dim1=-2, dim2=-1).copy_(on_device[:, -1, None] + diagonal)
        lower, info = torch.linalg.cholesky_ex(covariance)

        inverse = torch.cholesky_inverse(lower)
        solved = targets @ inverse  # (R, 2, n): K^-1 y, K^-1 1
        sums = solved.sum(2, keepdim=True)
        mean = sums[:, 0] / sums[:, 1]
        solved_ones = solved[:, 1]
        alpha = torch.addcmul(solved[:, 0], solved_ones, mean, value=-1.0)  # (R, n)
        residual = targets[..., 0, :] - mean
        curvature = alpha.square().sub_(inverse.diagonal(dim1=-2, dim2=-1))  # (R, n)
        scalars = [
            (residual * alpha).sum(1),
            lower.diagonal(dim1=-2, dim2=-1).log().sum(1),
            curvature.sum(1),
            (curvature * diagonal).sum(1),
        ]
        weights = torch.addcmul(inverse, alpha[:, :, None], alpha[:, None, :], value=-1.0)
        by_feature = self._by_feature(weights.mul_(derivative), z.mT)
        parts = [torch.stack(scalars, dim=1), by_feature]
        if has_information:
            own = torch.stack(
                [on_device[:, -2, None] * alpha, residual - diagonal * alpha], dim=1
            )
            pulled = self._pulled(derivative, z.mT, alpha)
            parts.append(
                _average_information(torch.cat([pulled, own], dim=1), inverse, solved_ones)
            )
        packed, status = to_host(torch.cat(parts, dim=1), info)

        fit, log_determinant, summed, weighed = packed[:, :4].T
        value = -0.5 * (fit + 2.0 * log_determinant + self.n * LOG_2PI)
        # tr((a a' - K^-1) K_f) with K_f = K - noise, so no further n^2 pass is needed.
        by_scale = 0.5 * (fit - self.n - weighed)
        gradient = np.column_stack(
            [
                self._by_length_scale(packed[:, 4 : 4 + z.shape[2]]),
                0.5 * noise * summed,
                by_scale,
            ]
        )
        information = packed[:, 4 + z.shape[2] :].reshape(len(thetas), -1, thetas.shape[1])
        return self._with_prior(thetas, value, gradient, information, status == 0)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return what a minimiser wants for the first kernel: both with the sign turned.

        Args:
            theta: Shape ``(G + 2,)``.

        Returns:
            The value and the gradient; ``(1e10, 0)`` where the covariance cannot be factorized.
        """
        value, gradient = self.evaluate(theta[None], np.zeros(1, dtype=np.intp))
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
        by_row: Tensor = torch.sub(z * weights.sum(2)[:, None, :], product)
        return by_row.mul_(z).sum(2).mul_(2.0)

    def _by_length_scale(self, by_feature: Array) -> Array:
        if not self._is_grouped:
            return by_feature
        summed = np.zeros((len(by_feature), self._n_length_scales))
        np.add.at(summed.T, self._group, by_feature.T)
        return summed

    def _pulled(self, derivative: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
        """Return ``dK alpha`` for each log length scale, ``(R, G, n)``, in O(n^2 F).

        ``sum_j k'_ij (z_if - z_jf)^2 a_j`` is three products with ``k'``, of ``a``, ``z_f a``
        and ``z_f^2 a``.

        Args:
            derivative: ``k'``, shape ``(R, n, n)``.
            z: Scaled features as rows, shape ``(R, F, n)``.
            alpha: Shape ``(R, n)``.
        """
        first = z * alpha[:, None, :]
        vectors = torch.cat([alpha[:, None, :], first, first * z], dim=1)
        plain, by_z, by_square = torch.bmm(vectors, derivative).split(
            [1, z.shape[1], z.shape[1]], dim=1
        )
        pulled: Tensor = (
            by_z.mul(z).mul_(-2.0).add_(by_square).addcmul_(z * z, plain).mul_(-2.0)
        )
        if not self._is_grouped:
            return pulled
        grouped = pulled.new_zeros(len(z), self._n_length_scales, z.shape[2])
        return grouped.index_add_(1, self._groups, pulled)

    def _with_prior(
        self,
        thetas: Array,
        value: Array,
        gradient: Array,
        information: Array,
        is_factorized: NDArray[np.bool_],
    ) -> tuple[Array, Array, Array]:
        prior, prior_gradient = self._prior.log_density(thetas)
        value, gradient = value + prior, gradient + prior_gradient
        if information.shape[1]:
            diagonal = np.arange(thetas.shape[1])
            information[:, diagonal, diagonal] += self._prior.root_precision**2
        if is_factorized.all() and math.isfinite(value.sum() + gradient.sum()):
            return value, gradient, information
        is_good = is_factorized & np.isfinite(value) & np.isfinite(gradient).all(axis=1)
        is_bad = ~is_good
        value[is_bad], gradient[is_bad] = -np.inf, 0.0
        if information.shape[1]:
            information[is_bad] = np.eye(thetas.shape[1])
        return value, gradient, information


def _average_information(vectors: Tensor, inverse: Tensor, solved_ones: Tensor) -> Tensor:
    """Return ``0.5 V P V'``, row after row, with ``P`` the inverse covariance without the
    constant mean.

    Args:
        vectors: ``dK alpha`` of every hyperparameter, shape ``(R, p, n)``.
        inverse: ``K^-1``, shape ``(R, n, n)``.
        solved_ones: ``K^-1 1``, shape ``(R, n)``.
    """
    product = torch.bmm(torch.bmm(vectors, inverse), vectors.mT)
    along = torch.bmm(vectors, solved_ones[:, :, None])  # (R, p, 1)
    along /= solved_ones.sum(1).sqrt()[:, None, None]
    return product.baddbmm_(along, along.mT, beta=0.5, alpha=-0.5).flatten(1)
