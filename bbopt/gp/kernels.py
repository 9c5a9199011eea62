"""Stationary kernels as functions of the squared scaled distance, with their derivative.

Everything the engine differentiates goes through ``dk/ds`` with ``s = |z - z'|^2``: unlike
``dk/dr`` it has no singularity at zero distance.
"""

import enum
import math
from typing import Final, assert_never

import torch
from torch import Tensor

SQRT_5: Final = math.sqrt(5.0)


class Kernel(enum.Enum):
    """Covariance families with unit variance and unit length scale."""

    MATERN52 = "matern52"
    RBF = "rbf"


def kernel_value(kernel: Kernel, s: Tensor) -> Tensor:
    """Evaluate a kernel.

    ``MATERN52``: ``(1 + sqrt(5 s) + 5 s / 3) exp(-sqrt(5 s))``; ``RBF``: ``exp(-s / 2)``.

    Args:
        kernel: The family.
        s: Squared scaled distances, any shape, ``>= 0``.

    Returns:
        Values in ``[0, 1]``, the shape of ``s``.
    """
    match kernel:
        case Kernel.MATERN52:
            t = torch.sqrt(s).mul_(SQRT_5)
            decay = torch.exp(-t)
            return t.add_(1.0).add_(s, alpha=5.0 / 3.0).mul_(decay)
        case Kernel.RBF:
            return torch.exp(s * -0.5)
        case _:
            assert_never(kernel)


def kernel_value_and_derivative(kernel: Kernel, s: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate a kernel and its derivative with respect to the squared scaled distance.

    Args:
        kernel: The family.
        s: Squared scaled distances, any shape, ``>= 0``.

    Returns:
        ``k(s)`` and ``dk/ds``, both of the shape of ``s``; the derivative is finite at 0.
    """
    match kernel:
        case Kernel.MATERN52:
            t = torch.sqrt(s).mul_(SQRT_5)
            decay = torch.exp(-t)
            derivative = t.add_(1.0).mul_(decay)  # (1 + t) exp(-t)
            value = torch.addcmul(derivative, s, decay, value=5.0 / 3.0)
            return value, derivative.mul_(-5.0 / 6.0)
        case Kernel.RBF:
            value = torch.exp(s * -0.5)
            return value, value * -0.5
        case _:
            assert_never(kernel)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return all squared Euclidean distances between two sets of rows, by one matrix product.

    Args:
        a: Shape ``(..., n, F)``.
        b: Shape ``(..., m, F)``.

    Returns:
        Shape ``(..., n, m)``, never negative; absolute error about ``1e-16 max |z|^2``.
    """
    norms = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]
    if a.dim() == 2:
        return torch.addmm(norms, a, b.mT, alpha=-2.0).clamp_(min=0.0)
    return torch.baddbmm(norms, a, b.mT, alpha=-2.0).clamp_(min=0.0)
