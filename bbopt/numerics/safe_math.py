"""Logarithms of normal-distribution quantities that stay finite and smooth where the plain ones
underflow.

Expected improvement is below the smallest double a few units away from the data; its logarithm
and the derivative of that are ordinary numbers everywhere. All functions are elementwise on
float64 tensors of any shape and device.
"""

import math
from typing import Final

import torch
from torch import Tensor

SQRT_2: Final = math.sqrt(2.0)
SQRT_HALF_PI: Final = math.sqrt(0.5 * math.pi)
HALF_LOG_2PI: Final = 0.5 * math.log(2.0 * math.pi)
# Below this the closed form 1 + z Phi/phi has lost z^2 eps of its digits to cancellation and
# the asymptotic series is exact to 1e-13; both are within 1e-11 of the truth at the seam.
ASYMPTOTIC_BELOW: Final = -100.0


def log_h(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log h(z)`` and its derivative, where ``h(z) = phi(z) + z Phi(z)``.

    ``sd * h((mean - best) / sd)`` is the expected improvement of a normal variable.

    Args:
        z: Any shape, finite, ``-1e10 <= z <= 1e3`` and beyond.

    Returns:
        ``log h`` and ``d log h / dz = Phi / h``, both of the shape of ``z``.

    Source:
        Ament et al. (2023), arXiv:2310.20708, for the idea of separate regimes; the
        series and the derivative are worked out here.
    """
    # Three regimes, each evaluated on arguments clamped into it, so that no branch makes a NaN.
    # A regime without any argument in it is skipped, which changes no value.
    lowest, highest = torch.aminmax(z) if z.numel() else (z.new_zeros(()), z.new_zeros(()))
    if lowest > -1.0:
        return _log_h_upper(z)
    log_value, ratio = _log_h_middle(z)
    if lowest < ASYMPTOTIC_BELOW:
        is_tail = z < ASYMPTOTIC_BELOW
        log_tail, tail_ratio = _log_h_tail(z)
        log_value = torch.where(is_tail, log_tail, log_value)
        ratio = torch.where(is_tail, tail_ratio, ratio)
    log_value = torch.addcmul(log_value - HALF_LOG_2PI, z, z, value=-0.5)
    if highest > -1.0:
        is_upper = z > -1.0
        log_upper, upper_ratio = _log_h_upper(z.clamp(min=-1.0))
        log_value = torch.where(is_upper, log_upper, log_value)
        ratio = torch.where(is_upper, upper_ratio, ratio)
    return log_value, ratio


def _log_h_upper(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log h`` and ``Phi / h`` for ``z >= -1``, from the definition."""
    pdf = torch.exp(torch.addcmul(z.new_full((), -HALF_LOG_2PI), z, z, value=-0.5))
    cdf = torch.special.ndtr(z)
    h = torch.addcmul(pdf, z, cdf)
    return torch.log(h), cdf / h


def _log_h_middle(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log(h / phi)`` and ``Phi / h`` for ``-100 <= z <= -1``, from Mills' ratio."""
    middle = z.clamp(min=ASYMPTOTIC_BELOW, max=-1.0)
    mills = torch.special.erfcx(middle * (-1.0 / SQRT_2)).mul_(SQRT_HALF_PI)  # Phi / phi
    rest = torch.addcmul(torch.ones_like(mills), middle, mills)
    return torch.log(rest), mills / rest


def _log_h_tail(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log(h / phi)`` and ``Phi / h`` for ``z <= -100``, from the asymptotic series."""
    tail = z.clamp(max=ASYMPTOTIC_BELOW)
    w = (1.0 / tail).square()
    numerator = 1.0 + w * (-1.0 + w * (3.0 - 15.0 * w))
    denominator = 1.0 + w * (-3.0 + w * (15.0 - 105.0 * w))
    return torch.log(w * denominator), -tail * numerator / denominator


def log_ndtr(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log Phi(z)`` and its derivative ``phi / Phi``.

    Args:
        z: Any shape.

    Returns:
        ``log Phi(z)`` and ``phi(z) / Phi(z)``, both of the shape of ``z``.
    """
    lower = z.clamp(max=0.0)
    upper = z.clamp(min=0.0)
    low_ratio = 1.0 / (SQRT_HALF_PI * torch.special.erfcx(lower * (-1.0 / SQRT_2)))
    high_ratio = torch.exp(-0.5 * upper * upper - HALF_LOG_2PI) / torch.special.ndtr(upper)
    return torch.special.log_ndtr(z), torch.where(z < 0.0, low_ratio, high_ratio)


def logsumexp_with_weights(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return ``log sum exp`` along a dimension and its gradient, the softmax weights.

    Args:
        values: Any shape; entries may be ``-inf``, not all of them along ``dim``.
        dim: The dimension that is summed over.

    Returns:
        The result without ``dim``, and the weights (summing to one along ``dim``) of the shape
        of ``values``.
    """
    top = values.amax(dim=dim, keepdim=True)
    terms = torch.exp(values - top)
    total = terms.sum(dim=dim, keepdim=True)
    return (top + torch.log(total)).squeeze(dim), terms / total


def logmeanexp(values: Tensor, dim: int) -> Tensor:
    """Return the logarithm of the mean of ``exp(values)`` along a dimension.

    Args:
        values: Any shape.
        dim: The dimension that is averaged over.

    Returns:
        ``log mean exp``, the shape of ``values`` without ``dim``.
    """
    return torch.logsumexp(values, dim=dim) - math.log(values.shape[dim])
