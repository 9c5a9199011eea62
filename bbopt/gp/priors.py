"""Priors and bounds of the hyperparameters, all in log space.

``theta`` is always ``[log length scales (G), log noise variance, log output scale]`` for
standardized targets. The default length-scale prior grows with the dimension, which keeps the
model useful at hundreds of columns.
"""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HALF_LOG_2PI: Final = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True, slots=True)
class LogNormalPrior:
    """A normal density for ``u = log v``.

    With ``has_jacobian`` the density is that of ``v`` itself (as botorch and gpytorch have it),
    which moves the mode from ``exp(mu)`` to ``exp(mu - sigma^2)``.
    """

    mu: float
    sigma: float
    has_jacobian: bool

    def __post_init__(self) -> None:
        """Refuse a density that is not one."""
        if not (math.isfinite(self.mu) and self.sigma > 0.0):
            raise ValueError(f"a prior needs a finite mu and sigma > 0, got {self}")

    @property
    def log_mode(self) -> float:
        """The ``u`` at which the density is highest."""
        return self.mu - self.sigma**2 if self.has_jacobian else self.mu

    def log_density(self, u: Array) -> tuple[Array, Array]:
        """Return the log density summed over the last axis, and its gradient.

        Args:
            u: Log hyperparameters, shape ``(..., k)``.

        Returns:
            The sums, ``(...)``, and the gradient, ``(..., k)``.
        """
        z = (u - self.mu) / self.sigma
        value = -0.5 * (z * z).sum(-1) - u.shape[-1] * (math.log(self.sigma) + HALF_LOG_2PI)
        gradient = z * (-1.0 / self.sigma)
        return (value - u.sum(-1), gradient - 1.0) if self.has_jacobian else (value, gradient)


CATEGORY_SCALE: Final = LogNormalPrior(0.0, 0.75, has_jacobian=False)
"""Of the length scale of a categorical column, whose levels are all at distance one: two levels
correlate by about a half, and hardly ever by more than 0.9. The prior of other columns takes
length scales of ten for likely; with that, a few results in which a choice did not seem to
matter are enough for the model to be sure that it does not, and it is never tried again."""


@dataclass(frozen=True, slots=True)
class LearnedNoise:
    """The noise variance is fitted, between a floor and the variance of the data."""

    floor: float = 1e-6
    """Smallest variance, in standardized units. At 1e-4 (botorch) a search cannot polish below
    1 % of the range of the data; below 1e-7 the factorization needs jitter."""
    prior: LogNormalPrior = LogNormalPrior(-8.0, 3.0, has_jacobian=False)

    def __post_init__(self) -> None:
        """Keep the floor inside the range that the fit can use."""
        if not 0.0 < self.floor < 1.0:
            raise ValueError(f"the noise floor must be in (0, 1), got {self.floor}")


@dataclass(frozen=True, slots=True)
class FixedNoise:
    """The noise variance is given: declared noise-free, or known for every observation."""

    variance: float = 1e-6
    """In standardized units, added to known per-observation variances."""

    def __post_init__(self) -> None:
        """Keep the diagonal positive."""
        if not self.variance > 0.0:
            raise ValueError(f"the noise variance must be positive, got {self.variance}")


@dataclass(frozen=True, slots=True)
class PackedPriors:
    """Independent normals for the entries of ``theta``, as vectors of shape ``(G + 2,)``."""

    center: Array
    root_precision: Array
    """One over sigma; zero where there is no prior."""
    jacobian: Array
    """1 where the density is that of ``exp(theta)``, else 0."""
    constant: float

    def log_density(self, theta: Array) -> tuple[Array, Array]:
        """Return the log density and its gradient; see ``HyperPriors.log_density``."""
        z = (theta - self.center) * self.root_precision
        value = -0.5 * (z * z).sum(-1) - theta @ self.jacobian + self.constant
        return value, -z * self.root_precision - self.jacobian


@dataclass(frozen=True, slots=True)
class HyperPriors:
    """The priors and bounds for a model with ``n_length_scales`` length scales."""

    n_length_scales: int
    noise: LearnedNoise | FixedNoise = field(default_factory=LearnedNoise)
    length_scale: LogNormalPrior | None = None
    """``None`` is the dimension-scaled LogNormal(sqrt 2 + ln(G) / 2, sqrt 3)."""
    output_scale: LogNormalPrior = LogNormalPrior(0.0, 1.0, has_jacobian=False)
    length_scale_bounds: tuple[float, float] = (0.02, 1e3)
    output_scale_bounds: tuple[float, float] = (1e-3, 1e3)
    is_category: tuple[bool, ...] = ()
    """Which length scales are those of categorical columns; empty for none."""
    category_scale: LogNormalPrior | None = CATEGORY_SCALE
    """Their prior; ``None`` treats them like all others."""

    def __post_init__(self) -> None:
        """Refuse a model without columns."""
        if self.n_length_scales < 1:
            raise ValueError("a model needs at least one length scale")
        if len(self.is_category) not in (0, self.n_length_scales):
            raise ValueError("is_category must name every length scale, or none")

    @property
    def size(self) -> int:
        """Number of entries of ``theta``."""
        return self.n_length_scales + 2

    @property
    def length_scale_prior(self) -> LogNormalPrior:
        """The length-scale prior in force.

        Source:
            Hvarfner et al. (2024), arXiv:2402.02229.
        """
        if self.length_scale is not None:
            return self.length_scale
        mu = math.sqrt(2.0) + 0.5 * math.log(self.n_length_scales)
        return LogNormalPrior(mu, math.sqrt(3.0), has_jacobian=True)

    def length_scale_priors(self) -> list[LogNormalPrior]:
        """Return the prior of each length scale."""
        plain, category = (
            self.length_scale_prior,
            self.category_scale or self.length_scale_prior,
        )
        if not self.is_category:
            return [plain] * self.n_length_scales
        return [category if is_category else plain for is_category in self.is_category]

    def bounds(self) -> tuple[Array, Array]:
        """Return the lower and upper bounds of ``theta``, each of shape ``(G + 2,)``."""
        match self.noise:
            case LearnedNoise(floor=floor):
                noise = (floor, 1.0)
            case FixedNoise(variance=variance):
                noise = (variance, variance)
        pairs = [self.length_scale_bounds] * self.n_length_scales
        box = np.log(np.array([*pairs, noise, self.output_scale_bounds], dtype=np.float64))
        return box[:, 0], box[:, 1]

    def mode(self) -> Array:
        """Return the prior's mode, moved a little inside the bounds: the cold start of a
        fit.
        """
        lower, upper = self.bounds()
        match self.noise:
            case LearnedNoise(prior=prior):
                log_noise = prior.log_mode
            case FixedNoise(variance=variance):
                log_noise = math.log(variance)
        modes = [prior.log_mode for prior in self.length_scale_priors()]
        theta = np.array([*modes, log_noise, self.output_scale.log_mode], dtype=np.float64)
        margin = np.minimum(math.log(1.5), 0.5 * (upper - lower))
        return np.clip(theta, lower + margin, upper - margin)

    def packed(self) -> "PackedPriors":
        """Return the same density as a few vectors, for callers that evaluate it often."""
        noise = self.noise.prior if isinstance(self.noise, LearnedNoise) else None
        parts = [*self.length_scale_priors(), noise, self.output_scale]
        used = [part for part in parts if part is not None]
        return PackedPriors(
            center=np.array([0.0 if part is None else part.mu for part in parts]),
            root_precision=np.array(
                [0.0 if part is None else 1.0 / part.sigma for part in parts]
            ),
            jacobian=np.array(
                [1.0 if part is not None and part.has_jacobian else 0.0 for part in parts]
            ),
            constant=-sum(math.log(part.sigma) + HALF_LOG_2PI for part in used),
        )

    def log_density(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density of ``theta`` and its gradient.

        Args:
            theta: Shape ``(..., G + 2)``.

        Returns:
            The values, ``(...)`` (a fixed noise contributes nothing), and the gradient,
            ``(..., G + 2)``.
        """
        return self.packed().log_density(theta)
