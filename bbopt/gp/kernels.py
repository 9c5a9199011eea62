"""Stationary kernels as functions of the squared scaled distance, with their derivative.

Everything the engine differentiates goes through ``dk/ds`` with ``s = |z - z'|^2``: unlike
``dk/dr`` it has no singularity at zero distance.
"""

import enum
import itertools
import math
from collections.abc import Sequence
from typing import Final, assert_never

import torch
from torch import Tensor

SQRT_5: Final = math.sqrt(5.0)


class Kernel(enum.Enum):
    """Covariance families with unit variance and unit length scale."""

    MATERN52 = "matern52"
    RBF = "rbf"


def kernel_value(kernel: Kernel, s: Tensor) -> Tensor:
    """Evaluate a kernel in place.

    ``MATERN52``: ``(1 + sqrt(5 s) + 5 s / 3) exp(-sqrt(5 s))``; ``RBF``: ``exp(-s / 2)``.

    Args:
        kernel: The family.
        s: Squared scaled distances, any shape, ``>= 0``; overwritten, because fresh memory
            costs more than the arithmetic.

    Returns:
        ``s``, which now holds values in ``[0, 1]``.
    """
    match kernel:
        case Kernel.MATERN52:
            t = torch.sqrt(s).mul_(SQRT_5)
            s.mul_(5.0 / 3.0).add_(t).add_(1.0)
            return s.mul_(t.neg_().exp_())
        case Kernel.RBF:
            return s.mul_(-0.5).exp_()
        case _:
            assert_never(kernel)


def kernel_value_and_derivative(
    kernel: Kernel,
    s: Tensor,
    *,
    scale: Tensor | float = 1.0,
    derivative: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Evaluate a scaled kernel and its derivative with respect to the squared scaled distance.

    Args:
        kernel: The family.
        s: Squared scaled distances, any shape, ``>= 0``; overwritten with the value.
        scale: Multiplies both, broadcast against ``s``.
        derivative: Where to write the derivative; ``None`` makes a new tensor.

    Returns:
        ``scale k(s)`` and ``scale dk/ds``, both of the shape of ``s``; the derivative is finite
        at 0.
    """
    derivative = torch.empty_like(s) if derivative is None else derivative
    match kernel:
        case Kernel.MATERN52:
            torch.sqrt(s, out=derivative).mul_(SQRT_5)
            decay = torch.neg(derivative).exp_().mul_(scale)
            derivative.add_(1.0).mul_(decay)  # (1 + t) exp(-t)
            torch.addcmul(derivative, s, decay, value=5.0 / 3.0, out=s)
            derivative.mul_(-5.0 / 6.0)
        case Kernel.RBF:
            s.mul_(-0.5).exp_().mul_(scale)
            torch.mul(s, -0.5, out=derivative)
        case _:
            assert_never(kernel)
    return s, derivative


def ensemble_value_and_derivative(
    kernels: Sequence[Kernel], s: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Evaluate a different scaled kernel on every element of a batch.

    Args:
        kernels: One family per element.
        s: Squared scaled distances, shape ``(E, n, m)``, ``>= 0``; overwritten with the value.
        scale: Output scales, shape ``(E, 1, 1)``.

    Returns:
        ``scale k(s)`` and ``scale dk/ds``, both ``(E, n, m)``.
    """
    if len(kernels) == 1 or all(kernel is kernels[0] for kernel in kernels):
        return kernel_value_and_derivative(kernels[0], s, scale=scale)
    derivative = torch.empty_like(s)
    start = 0
    for kernel, run in itertools.groupby(kernels):
        part = slice(start, start := start + len(list(run)))
        kernel_value_and_derivative(
            kernel, s[part], scale=scale[part], derivative=derivative[part]
        )
    return s, derivative


def squared_distances(a: Tensor, b: Tensor, *, b_norms: Tensor | None = None) -> Tensor:
    """Return all squared Euclidean distances between two sets of rows, by one matrix product.

    Args:
        a: Shape ``(..., n, F)``.
        b: Shape ``(..., m, F)``.
        b_norms: The squared norms of ``b``, shape ``(..., m)``, where they are known.

    Returns:
        Shape ``(..., n, m)``, never negative; absolute error about ``1e-16 max |z|^2``.
    """
    a_norms = torch.sum(a * a, -1, keepdim=True)
    if b_norms is None:
        b_norms = a_norms[..., 0] if b is a else torch.sum(b * b, -1)
    norms = a_norms + b_norms[..., None, :]
    if a.dim() == 2:
        return norms.addmm_(a, b.mT, alpha=-2.0).clamp_(min=0.0)
    return norms.baddbmm_(a, b.mT, alpha=-2.0).clamp_(min=0.0)
