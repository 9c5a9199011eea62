"""Logarithms of normal-distribution quantities that stay finite and smooth where the plain ones
underflow.

Expected improvement is below the smallest double a few units away from the data; its logarithm
and the derivative of that are ordinary numbers everywhere. All functions are elementwise on
float64 tensors of any shape and device; two of them also take arrays, with less overhead.
"""

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from scipy.special import erfcx
from torch import Tensor

from bbopt.numerics.elementwise import Values

Array = NDArray[np.float64]
SQRT_2: Final = math.sqrt(2.0)
SQRT_HALF_PI: Final = math.sqrt(0.5 * math.pi)
HALF_LOG_2PI: Final = 0.5 * math.log(2.0 * math.pi)
# Below this the closed form 1 + z Phi/phi has lost z^2 eps of its digits to cancellation and
# the asymptotic series is exact to 1e-13; both are within 1e-11 of the truth at the seam.
ASYMPTOTIC_BELOW: Final = -100.0
# Above this Phi/phi comes near the largest double; h(z) is z there to the last bit.
LINEAR_ABOVE: Final = 30.0


def log_h(z: Values) -> tuple[Values, Values]:
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
    if not isinstance(z, Tensor):
        return _log_h_on_host(z)
    # Nearly always all arguments are in the middle, and another device than the CPU would have
    # to be waited for to know. A branch for arguments beyond it sees them clamped into its own
    # regime, so that none makes a NaN.
    if z.device.type == "cpu":
        lowest, highest = map(float, torch.aminmax(z)) if z.numel() else (0.0, 0.0)
        if lowest >= ASYMPTOTIC_BELOW and highest <= LINEAR_ABOVE:
            return _log_h_middle(z)
    log_value, ratio = _log_h_middle(z.clamp(min=ASYMPTOTIC_BELOW, max=LINEAR_ABOVE))
    is_tail, is_top = z < ASYMPTOTIC_BELOW, z > LINEAR_ABOVE
    log_tail, tail_ratio = _log_h_tail(z)
    top = z.clamp(min=LINEAR_ABOVE)
    log_value = torch.where(is_tail, log_tail, torch.where(is_top, top.log(), log_value))
    return log_value, torch.where(is_tail, tail_ratio, torch.where(is_top, 1.0 / top, ratio))


def _log_h_on_host(z: Array) -> tuple[Array, Array]:
    """Return ``log h`` and its derivative as new arrays."""
    if z.size and (z.min() < ASYMPTOTIC_BELOW or z.max() > LINEAR_ABOVE):
        log_value, ratio = log_h(torch.from_numpy(z))
        return log_value.numpy(), ratio.numpy()
    mills = erfcx(z * (-1.0 / SQRT_2))
    mills *= SQRT_HALF_PI  # Phi / phi
    rest = z * mills
    rest += 1.0  # h / phi
    middle = np.log(rest)
    middle -= 0.5 * z * z + HALF_LOG_2PI
    mills /= rest
    return middle, mills


def _log_h_middle(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log h`` and ``Phi / h`` for ``-100 <= z <= 30``, from Mills' ratio."""
    mills = torch.special.erfcx(z * (-1.0 / SQRT_2)).mul_(SQRT_HALF_PI)  # Phi / phi
    rest = torch.mul(z, mills).add_(1.0)  # h / phi
    log_value = torch.log(rest).addcmul_(z, z, value=-0.5).sub_(HALF_LOG_2PI)
    return log_value, mills.div_(rest)


def _log_h_tail(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``log h`` and ``Phi / h`` for ``z <= -100``, from the asymptotic series."""
    tail = z.clamp(max=ASYMPTOTIC_BELOW)
    w = (1.0 / tail).square()
    numerator = 1.0 + w * (-1.0 + w * (3.0 - 15.0 * w))
    denominator = 1.0 + w * (-3.0 + w * (15.0 - 105.0 * w))
    log_value = torch.log(w * denominator).addcmul_(tail, tail, value=-0.5).sub_(HALF_LOG_2PI)
    return log_value, -tail * numerator / denominator


def log_ndtr(z: Values) -> tuple[Values, Values]:
    """Return ``log Phi(z)`` and its derivative ``phi / Phi``.

    Args:
        z: Any shape.

    Returns:
        ``log Phi(z)`` and ``phi(z) / Phi(z)``, both of the shape of ``z``.
    """
    # Far above zero erfcx overflows, and the ratio is less than the smallest double.
    if isinstance(z, Tensor):
        scaled = torch.special.erfcx(z * (-1.0 / SQRT_2))
        return torch.special.log_ndtr(z), scaled.reciprocal_().mul_(1.0 / SQRT_HALF_PI)
    return special.log_ndtr(z), (1.0 / SQRT_HALF_PI) / erfcx(z * (-1.0 / SQRT_2))


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
