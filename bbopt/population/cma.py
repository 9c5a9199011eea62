"""CMA-ES with margin: a normal distribution that learns where good points are.

The arithmetic is that of the ``cmaes`` package (``CMAwM``; without discrete coordinates it is
plain CMA-ES). Here its numbers are an explicit, small state, its random numbers are seeded for
every draw, and its ranking may be given by anything. The package keeps its state in private
attributes; hence the narrow version range in ``pyproject.toml`` and a test against the bare
package.

Source: Hansen, "The CMA evolution strategy: a tutorial" (2016); Hamano et al., "CMA-ES with
margin" (2022).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

MIN_RESULTS: Final = 4
"""With fewer, no rank-mu update exists."""
MIN_STEP: Final = 1e-12
"""Largest standard deviation, on the unit cube, of a distribution that has converged."""
MAX_STEP: Final = 10.0
"""Largest standard deviation of one that can still find its way back into the cube."""
MAX_CONDITION: Final = 1e14
"""Of a covariance that double precision can still handle."""


def default_population(n_coordinates: int) -> int:
    """Return the usual number of points in a generation."""
    return 4 + math.floor(3 * math.log(n_coordinates))


@dataclass(frozen=True, slots=True)
class Coordinates:
    """What the distribution is over: real coordinates in bounds, discrete ones on levels."""

    bounds: Array
    """Lowest and highest value, ``(d, 2)``; infinite for a coordinate that wraps around."""
    levels: tuple[Array, ...]
    """Ascending levels of each coordinate; empty for a real one."""
    discrete: NDArray[np.int64] = field(init=False)
    real: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        is_discrete = np.array([len(each) > 0 for each in self.levels], dtype=bool)
        object.__setattr__(self, "discrete", np.flatnonzero(is_discrete))
        object.__setattr__(self, "real", np.flatnonzero(~is_discrete))

    def __len__(self) -> int:
        return len(self.levels)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A normal distribution and how it has been moving."""

    mean: Array
    """``(d,)``."""
    sigma: float
    covariance: Array
    """Symmetric, ``(d, d)``; the distribution's is ``sigma**2`` times this."""
    path_sigma: Array
    path_c: Array
    margin: Array
    """Factor that keeps neighbouring levels of a discrete coordinate likely, ``(d,)``."""
    n_updates: int = 0

    @classmethod
    def start(cls, mean: Array, sigma: float) -> "Distribution":
        """Return a distribution that has not learned anything."""
        d = len(mean)
        return cls(mean.copy(), sigma, np.eye(d), np.zeros(d), np.zeros(d), np.ones(d))

    @property
    def is_finite(self) -> bool:
        """Whether arithmetic has left it usable."""
        arrays = (self.mean, self.covariance, self.path_sigma, self.path_c, self.margin)
        is_positive = math.isfinite(self.sigma) and self.sigma > 0.0
        return is_positive and all(np.isfinite(array).all() for array in arrays)


class Sampler:
    """Draws from one distribution; each draw depends on its own random words alone."""

    def __init__(self, coordinates: Coordinates, distribution: Distribution) -> None:
        self._package = _package(coordinates, distribution, MIN_RESULTS)

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw a point: up to 100 times until it is within bounds, then clipped.

        Returns:
            The point with discrete coordinates on their levels, to be evaluated, and the draw
            as it was, to be told; both ``(d,)``.
        """
        self._package.reseed_rng(rng.integers(2**32, size=4))
        rounded, raw = self._package.ask()
        return np.asarray(rounded, dtype=np.float64), np.asarray(raw, dtype=np.float64)


def update(
    coordinates: Coordinates, distribution: Distribution, ranked: Sequence[Array], *, size: int
) -> Distribution:
    """Move a distribution towards the better of its draws.

    Args:
        coordinates: What it is over.
        distribution: From which the points were drawn.
        ranked: The draws as they were, best first, at least ``MIN_RESULTS``. Weights and
            learning rates are those of a generation of so many.
        size: Points in a regular generation; sets the margin.

    Returns:
        The distribution of the next generation. It may not be finite if the ranking forced it
        out of range.
    """
    package = _package(coordinates, distribution, len(ranked), margin_of=size)
    with np.errstate(all="ignore"):
        package.tell([(point, float(rank)) for rank, point in enumerate(ranked)])
    cma = package._cma
    has_margin = len(coordinates.discrete) > 0
    return Distribution(
        np.array(cma._mean),
        float(cma._sigma),
        (cma._C + cma._C.T) / 2.0,
        np.array(cma._p_sigma),
        np.array(cma._pc),
        np.array(package._A) if has_margin else distribution.margin,
        distribution.n_updates + 1,
    )


def has_converged(coordinates: Coordinates, distribution: Distribution) -> bool:
    """Whether further draws would differ by rounding only, or the arithmetic has broken down.

    Discrete coordinates never converge: their margin keeps them moving.
    """
    if not distribution.is_finite:
        return True
    real = coordinates.real
    if len(real) == 0:
        return False
    with np.errstate(all="ignore"):
        variances = np.linalg.eigvalsh(distribution.covariance[np.ix_(real, real)])
    smallest, largest = float(variances[0]), float(variances[-1])
    if smallest <= 0.0 or largest > MAX_CONDITION * smallest:
        return True
    step = distribution.sigma * math.sqrt(largest)
    return not MIN_STEP <= step <= MAX_STEP


def _package(
    coordinates: Coordinates,
    distribution: Distribution,
    population: int,
    *,
    margin_of: int | None = None,
) -> Any:  # noqa: ANN401 - the package has no types
    """Return the package's optimizer in the state of a distribution."""
    # It imports half of scipy, a sixth of what an engine takes to start that never needs it.
    from cmaes import CMAwM

    low, high = coordinates.bounds.T
    # The mean is checked against the bounds, which rounding may have carried it across.
    centre = np.clip(0.5, low, high)
    steps = np.zeros(len(coordinates))
    steps[coordinates.discrete] = (high - low)[coordinates.discrete]
    package = CMAwM(
        mean=centre,
        sigma=distribution.sigma,
        bounds=coordinates.bounds.copy(),
        steps=steps,
        population_size=population,
        margin=1.0 / (len(coordinates) * (margin_of or population)),
        seed=0,
    )
    cma = package._cma
    cma._mean = distribution.mean.copy()
    cma._C = distribution.covariance.copy()
    cma._p_sigma = distribution.path_sigma.copy()
    cma._pc = distribution.path_c.copy()
    cma._g = distribution.n_updates
    if len(coordinates.discrete) > 0:
        package.z_space, package.z_lim = _grids(coordinates)
        package._A = distribution.margin.copy()
    return package


def _grids(coordinates: Coordinates) -> tuple[Array, Array]:
    """Return levels and the midpoints between them, padded to equal length with the last."""
    levels = [coordinates.levels[j] for j in coordinates.discrete]
    longest = max(len(each) for each in levels)
    spaces = np.array([np.pad(each, (0, longest - len(each)), mode="edge") for each in levels])
    middles = [(each[1:] + each[:-1]) / 2.0 for each in levels]
    limits = np.array(
        [np.pad(each, (0, longest - 1 - len(each)), mode="edge") for each in middles]
    )
    return spaces, limits
