"""Quasi-random points: one fixed scrambled Sobol pool per dimension, turned by a random shift.

Drawing and scrambling a Sobol sequence costs more than a whole small search; shifting a fixed
one modulo 1 costs nothing and keeps its evenness.
"""

import functools
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.quasirandom import SobolEngine

Array = NDArray[np.float64]
POOL_SIZE: Final = 4096
SCRAMBLE_SEED: Final = 1234


@functools.lru_cache(maxsize=16)
def sobol_pool(dimension: int) -> Array:
    """Return the pool of a dimension: always the same points, read-only, ``(4096, d)``.

    Args:
        dimension: Number of columns d, 1 to 21201.
    """
    engine = SobolEngine(dimension, scramble=True, seed=SCRAMBLE_SEED)
    pool = engine.draw(POOL_SIZE, dtype=torch.float64).numpy()
    pool.setflags(write=False)
    return pool


def shifted_sobol(dimension: int, n: int, rng: np.random.Generator) -> Array:
    """Return evenly spread points of the unit cube.

    Args:
        dimension: Number of columns d.
        n: Number of points, at most 4096.
        rng: Draws which stretch of the pool and the shift.

    Returns:
        Shape ``(n, d)``, in ``[0, 1)``.

    Source:
        Cranley & Patterson (1976), doi:10.1137/0713071, for the random shift.
    """
    if not 0 <= n <= POOL_SIZE:
        raise ValueError(f"between 0 and {POOL_SIZE} points, not {n}")
    # Stretches start at multiples of a power of two >= n, where Sobol points are balanced.
    block = 1 << max(n - 1, 0).bit_length()
    start = int(rng.integers(POOL_SIZE // block)) * block
    points: Array = sobol_pool(dimension)[start : start + n] + rng.random(dimension)
    points -= points >= 1.0
    return points
