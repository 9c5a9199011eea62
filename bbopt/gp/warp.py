"""Monotone maps from metric values to the targets of the model, and back.

Objectives: the worse half of the values is replaced by what a normal sample of the same ranks
would look like, so that one terrible trial does not flatten everything near the best; the
better half stays linear; then all is standardised. Constraints keep zero at zero, because zero
is where feasibility starts. Values up to 1e300 in magnitude are accepted, however small or
equal they are; below 1e-305 they count as equal.
"""

import enum
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
RELATIVE_SPREAD_FLOOR: Final = 1e-13
"""A spread below this fraction of the largest magnitude is rounding: the values count as
equal."""
_SMALLEST_UNIT: Final = 1e-305
"""Values below this count as equal: their unit has no finite inverse."""


class WarpKind(enum.Enum):
    """How metric values become targets."""

    HALF_RANK = "half_rank"
    """For objectives (maximised): tames the bad half."""
    STANDARDISE = "standardise"
    """For anything that should stay linear."""
    BILOG = "bilog"
    """For constraints: zero stays zero."""
    IDENTITY = "identity"
    """For labels such as +1 (worked) and -1 (crashed)."""


class OutputWarp(Protocol):
    """A strictly increasing map from metric values to targets."""

    def forward(self, y: Array) -> Array:
        """Map metric values, shape ``(n,)``, to targets."""
        ...

    def inverse(self, w: Array) -> Array:
        """Map targets of any shape back to metric values."""
        ...

    def slope(self, y: Array) -> Array:
        """Return ``d forward / dy`` at metric values, shape ``(n,)``; scales noise."""
        ...


@dataclass(frozen=True, slots=True)
class LinearWarp:
    """``w = (y / unit - shift) / scale``: standardisation, or only scaling when shift is 0."""

    unit: float
    """Divided out first, so that squares neither overflow nor underflow."""
    shift: float
    scale: float

    def forward(self, y: Array) -> Array:
        """Map metric values to targets."""
        return (y / self.unit - self.shift) / self.scale

    def inverse(self, w: Array) -> Array:
        """Map targets back to metric values."""
        return (w * self.scale + self.shift) * self.unit

    def slope(self, y: Array) -> Array:
        """Return the constant slope, once per value."""
        return _relative(np.full(y.shape, 1.0 / self.scale), 0.0, self.unit)


@dataclass(frozen=True, slots=True)
class PiecewiseLinearWarp:
    """Linear between knots and beyond the outer ones; what the half-rank warp becomes."""

    center: float
    unit: float
    knots: Array
    """``(y - center) / unit``, strictly ascending, shape ``(k,)``, k >= 2."""
    targets: Array
    """Targets at the knots, strictly ascending, shape ``(k,)``."""

    def forward(self, y: Array) -> Array:
        """Map metric values to targets."""
        return _interpolate(_relative(y, self.center, self.unit), self.knots, self.targets)

    def inverse(self, w: Array) -> Array:
        """Map targets back to metric values; infinite where the double range ends."""
        with np.errstate(over="ignore"):
            return _interpolate(w, self.targets, self.knots) * self.unit + self.center

    def slope(self, y: Array) -> Array:
        """Return the slope of the segment below each value."""
        slopes = np.diff(self.targets) / np.diff(self.knots)
        index = np.searchsorted(self.knots, _relative(y, self.center, self.unit)) - 1
        return _relative(slopes[np.clip(index, 0, len(slopes) - 1)], 0.0, self.unit)


@dataclass(frozen=True, slots=True)
class BilogWarp:
    """``w = sign(y) log(1 + |y| / unit) / scale``: keeps zero and sign, tames both tails."""

    unit: float
    scale: float

    def forward(self, y: Array) -> Array:
        """Map metric values to targets."""
        relative = _relative(y, 0.0, self.unit)
        return np.sign(relative) * np.log1p(np.abs(relative)) / self.scale

    def inverse(self, w: Array) -> Array:
        """Map targets back to metric values; infinite where the double range ends."""
        with np.errstate(over="ignore"):
            return np.sign(w) * np.expm1(np.abs(w) * self.scale) * self.unit

    def slope(self, y: Array) -> Array:
        """Return the derivative at each value."""
        slopes = 1.0 / (1.0 + np.abs(_relative(y, 0.0, self.unit))) / self.scale
        return _relative(slopes, 0.0, self.unit)


@dataclass(frozen=True, slots=True)
class IdentityWarp:
    """Targets are the values themselves: for labels that already have the right scale."""

    def forward(self, y: Array) -> Array:
        """Return the values."""
        return y

    def inverse(self, w: Array) -> Array:
        """Return the targets."""
        return w

    def slope(self, y: Array) -> Array:
        """Return ones."""
        return np.ones_like(y)


def fit_warp(kind: WarpKind, y: Array) -> OutputWarp:
    """Return the map from metric values to targets that some values call for.

    Args:
        kind: Of the map.
        y: Finite metric values, shape ``(n,)``, magnitudes at most 1e300.
    """
    match kind:
        case WarpKind.HALF_RANK:
            return fit_half_rank(y)
        case WarpKind.STANDARDISE:
            return fit_standardise(y)
        case WarpKind.BILOG:
            return fit_bilog(y)
        case WarpKind.IDENTITY:
            return IdentityWarp()
        case _:
            assert_never(kind)


def fit_standardise(y: Array) -> LinearWarp:
    """Return the map to zero mean and unit (n - 1) standard deviation.

    Args:
        y: Finite metric values, shape ``(n,)``, n >= 0; a constant sample only loses its mean.
    """
    unit = _unit(y)
    u = y / unit
    shift, scale = _mean_and_scale(u)
    return LinearWarp(unit, shift, scale)


def fit_half_rank(y: Array) -> OutputWarp:
    """Return the half-rank warp followed by standardisation.

    Values at or above the median stay linear. A value below it with rank ``r`` among the unique
    values becomes ``median + sd * ndtri(0.5 (r - 0.5) / m)``, where ``sd`` is the root mean
    square distance of the better half from the median and ``m`` the median's rank.

    Args:
        y: Finite metric values, higher is better, shape ``(n,)``.

    Returns:
        The warp; plain standardisation where half of the values or more are equal to the best.

    Source:
        Song et al. (2024), arXiv:2408.11527 (OSS Vizier's output warping, its first stage).
    """
    center = float(np.median(y)) if len(y) else 0.0
    better = y[y >= center] - center
    unit = float(np.max(better, initial=0.0))
    smallest = max(RELATIVE_SPREAD_FLOOR * abs(center), _SMALLEST_UNIT)
    if len(np.unique(y)) < 3 or unit <= smallest:
        return fit_standardise(y)
    # Measured from the median in units of the better half: a single value of -1e300 among
    # ordinary ones then costs no digits of the others.
    u = _relative(y, center, unit)
    spread = float(np.sqrt(np.mean((better / unit) ** 2)))
    unique = np.unique(u)
    below = unique[unique < 0.0]
    denominator = len(below) + (0.5 if 0.0 in unique else 0.0)
    probability = 0.5 * (np.arange(1, len(below) + 1) - 0.5) / denominator
    low_targets = spread * ndtri(np.clip(probability, 1e-9, 0.5))
    # The median joins as a knot: the seam where the linear half begins.
    linear = np.concatenate([[0.0], unique[unique > 0.0]])
    knots = np.concatenate([below, linear])
    targets = np.concatenate([low_targets, linear])
    knots, targets = _where_ascending(knots, targets)
    shift, scale = _mean_and_scale(_interpolate(u, knots, targets))
    # Targets that differ by less than the shift can resolve are one afterwards.
    knots, targets = _where_ascending(knots, (targets - shift) / scale)
    return PiecewiseLinearWarp(center, unit, knots, targets)


def _where_ascending(knots: Array, targets: Array) -> tuple[Array, Array]:
    """Leave out knots whose target the next one has as well."""
    keep = np.concatenate([np.diff(targets) > 0.0, [True]])
    return knots[keep], targets[keep]


def fit_bilog(y: Array) -> BilogWarp:
    """Return the bilog warp for a constraint, scaled to about unit spread around its mean.

    Args:
        y: Finite constraint values, feasible when ``<= 0``, shape ``(n,)``.
    """
    magnitudes = np.abs(y[y != 0.0])
    # Not below 1e-12 of the largest value: the logarithm would see nothing but the outliers.
    unit = 1.0
    if len(magnitudes):
        typical = max(float(np.median(magnitudes)), 1e-12 * float(magnitudes.max()))
        unit = max(typical, _SMALLEST_UNIT)
    _, scale = _mean_and_scale(BilogWarp(unit, 1.0).forward(y))
    return BilogWarp(unit, scale)


def variance_of_targets(sd: Array, warp: OutputWarp, y: Array) -> Array:
    """Return the noise variances of targets, kept below 1e200.

    Args:
        sd: Standard deviations of the metric values, shape ``(n,)``.
        warp: The map to targets; taken as linear around each value.
        y: The metric values, shape ``(n,)``.
    """
    with np.errstate(over="ignore"):
        return np.minimum(sd * warp.slope(y), 1e100) ** 2


def _relative(y: Array, center: float, unit: float) -> Array:
    """Return ``(y - center) / unit``, kept inside +-1e300."""
    with np.errstate(over="ignore"):
        return np.clip((y - center) / unit, -1e300, 1e300)


def _unit(y: Array) -> float:
    largest = float(np.max(np.abs(y), initial=0.0))
    return largest if largest > _SMALLEST_UNIT else 1.0


def _mean_and_scale(u: Array) -> tuple[float, float]:
    """Return mean and standard deviation of values of moderate size; 1 for no spread."""
    if len(u) == 0:
        return 0.0, 1.0
    mean = float(u.mean())
    if len(u) == 1:
        return mean, 1.0
    scale = float(u.std(ddof=1))
    floor = RELATIVE_SPREAD_FLOOR * max(1.0, float(np.abs(u).max()))
    return mean, scale if scale > floor else 1.0


def _interpolate(x: Array, knots: Array, values: Array) -> Array:
    """Interpolate linearly, and beyond the ends with the slope of the outer segments."""
    index = np.clip(np.searchsorted(knots, x) - 1, 0, len(knots) - 2)
    left, right = knots[index], knots[index + 1]
    fraction = (x - left) / (right - left)
    return values[index] + fraction * (values[index + 1] - values[index])
