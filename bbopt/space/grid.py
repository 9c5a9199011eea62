"""Evenly spaced values, written the way people write them.

``0.1 + 6 * 0.1`` is not ``0.7`` in floating point. Where low and step are short decimals the
grid is counted in integers and divided once, so that its values are the nearest doubles of
the decimals: what a person types is on the grid, bit for bit.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

N_DECIMALS = 12
"""Low and step with more decimals than this are added up as they are."""
SLACK = 1e-9
"""Fraction of a step by which a value may miss the grid and still count as on it."""


@dataclass(frozen=True, slots=True)
class Grid:
    """``low, low + step, ...`` up to ``high``."""

    low: float
    high: float
    step: float

    @property
    def n_levels(self) -> int:
        """How many values there are."""
        return math.floor((self.high - self.low) / self.step + SLACK) + 1

    def values(self, index: IntArray) -> FloatArray:
        """Return the values at positions ``0 .. n_levels - 1``, never outside the range."""
        start, stride, denominator = _in_integers(self.low, self.step)
        values = (start + index * stride) / denominator
        return np.asarray(np.clip(values, self.low, self.high), dtype=np.float64)

    def value(self, index: int) -> float:
        """Return one value; the same double as ``values`` gives."""
        start, stride, denominator = _in_integers(self.low, self.step)
        return min(max((start + index * stride) / denominator, self.low), self.high)

    def index(self, values: FloatArray) -> IntArray:
        """Return the positions of the nearest grid values."""
        nearest = np.rint((np.asarray(values, dtype=np.float64) - self.low) / self.step)
        return np.asarray(np.clip(nearest, 0, self.n_levels - 1), dtype=np.int64)

    def position(self, value: float) -> int:
        """Return the position of the grid value nearest to ``value``."""
        return min(max(round((value - self.low) / self.step), 0), self.n_levels - 1)

    def nearest(self, value: float) -> float:
        """Return the grid value nearest to ``value``."""
        return self.value(self.position(value))

    def contains(self, value: float) -> bool:
        """Say whether ``value`` is on the grid, up to rounding."""
        slack = max(SLACK * self.step, 4.0 * math.ulp(value), 4.0 * math.ulp(self.low))
        return abs(value - self.nearest(value)) <= slack


@lru_cache(maxsize=4096)
def _in_integers(low: float, step: float) -> tuple[float, float, float]:
    """Find ``(a, s, m)``, integers if possible, with ``low = a / m`` and ``step = s / m``."""
    for n_decimals in range(N_DECIMALS + 1):
        denominator = 10.0**n_decimals
        start, stride = round(low * denominator), round(step * denominator)
        if max(abs(start), abs(stride)) > 2**53:
            break
        if start / denominator == low and stride / denominator == step:
            return float(start), float(stride), denominator
    return low, step, 1.0
