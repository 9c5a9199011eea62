"""What a mixture of normals in standardized units says in a metric's own unit."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_hermitenorm
from torch import Tensor

from bbopt.gp.warp import OutputWarp

Array = NDArray[np.float64]
N_QUADRATURE: Final = 15
"""Gauss-Hermite nodes for moments through the inverse warp; exact where the warp is linear."""
NODES, _WEIGHTS = roots_hermitenorm(N_QUADRATURE)
NODE_WEIGHTS: Final = _WEIGHTS / _WEIGHTS.sum()
LARGEST_SAMPLE: Final = 1e307
"""Larger magnitudes count as this, so that sums and differences of samples stay finite."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Moments in the metric's own unit, each of shape ``(n,)``."""

    mean: Array
    sd: Array


def mixture_moments(
    warp: OutputWarp, mean: Tensor, variance: Tensor, weights: Array
) -> Prediction:
    """Return the moments of a mixture, pushed through the inverse of a warp.

    Args:
        warp: From the metric's unit to targets.
        mean: Of each member in standardized units, shape ``(E, n)``.
        variance: Likewise, ``(E, n)``.
        weights: Of the members, shape ``(E,)``, summing to one.
    """
    sd = variance.sqrt().cpu().numpy()
    samples = warp.inverse(mean.cpu().numpy()[..., None] + sd[..., None] * NODES)
    np.clip(samples, -LARGEST_SAMPLE, LARGEST_SAMPLE, out=samples)
    # Moments about a central value, in units of the spread: 1e300 must not overflow.
    center = samples[..., N_QUADRATURE // 2].mean(axis=0)  # (n,)
    deviations = samples - center[None, :, None]
    unit = np.maximum(np.abs(deviations).max(axis=(0, 2)), np.finfo(np.float64).tiny)
    scaled = deviations / unit[None, :, None]
    first = weights @ (scaled @ NODE_WEIGHTS)
    second = weights @ (scaled**2 @ NODE_WEIGHTS)
    spread = np.sqrt(np.maximum(second - first**2, 0.0))
    return Prediction(center + first * unit, spread * unit)
