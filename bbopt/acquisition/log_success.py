"""Log probability that an evaluation succeeds at all, learned from crashes, and what a search
makes of it.

The model is a Gaussian-process regression on labels, +1 for a trial that worked and -1 for one
whose point was to blame, squashed by a probit. Unlike a constraint it never rules a place out:
a floor keeps the price of a certain crash finite, because labels may be wrong.
"""

import math
from typing import Final

from bbopt.acquisition.log_feasibility import log_ndtr_bound
from bbopt.acquisition.moments import MomentAcquisition, MomentReader
from bbopt.gp import GPModel
from bbopt.numerics import log_ndtr
from bbopt.numerics.elementwise import Values, exp, is_negative, like, log, sqrt

PROBABILITY_FLOOR: Final = 1e-4
"""A certain crash costs 9.2 nats of improvement."""
LIKELY: Final = 0.3
"""Below this probability a search avoids a place more than expected improvement does."""
AVERSION: Final = 2.0
"""Nats by which it does, per nat below ``LIKELY``."""


class LogProbabilityOfSuccess(MomentAcquisition):
    """``log(floor + (1 - floor) sum_e w_e Phi(mean_e / sqrt(var_e + noise_e)))``."""

    def __init__(
        self, model: GPModel, floor: float = PROBABILITY_FLOOR, *, has_noise: bool = True
    ) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models labels +1 and -1 with ``WarpKind.IDENTITY``.
            floor: Smallest probability, in (0, 1).
            has_noise: Count what the point does not explain: the probability that one
                evaluation works. Without, that the place is not one where they mostly crash.
        """
        if not 0.0 < floor < 1.0:
            raise ValueError(f"the floor must be in (0, 1), got {floor}")
        super().__init__(MomentReader(model))
        self._floor = floor
        self._weights = self.reader.log_weights.exp()[:, None]
        noise = self.reader.posterior.members.noise[:, None]
        self._noise = noise if has_noise else noise.new_zeros(noise.shape)

    def of_moments(self, mean: Values, variance: Values) -> tuple[Values, Values, Values]:
        """Return values, ``log floor`` to 0, and their derivatives by mean and variance."""
        total = variance + like(mean, self._noise)
        sd = sqrt(total)
        z = mean / sd
        log_part, ratio = log_ndtr(z)
        part = (1.0 - self._floor) * like(mean, self._weights) * exp(log_part)
        mixed = self._floor + part.sum(0)
        pull = part * ratio / mixed  # d value / dz
        return log(mixed), pull / sd, -0.5 * pull * z / total

    def of_bound(self, mean: Values, variance: Values) -> Values:
        """Return the bound: a smaller variance helps where success is likely."""
        log_part = log_ndtr_bound(mean / sqrt(variance + like(mean, self._noise)))
        part = (1.0 - self._floor) * like(mean, self._weights) * exp(log_part)
        return log(self._floor + part.sum(0))


class CrashAversion(MomentAcquisition):
    """``l + 2 min(0, l - log 0.3)``, where ``l`` is the log probability of success without
    noise.

    Just beyond the border of a region that crashes a model promises much and measures nothing,
    for ever: weighed with the plain probability, such places win over every small improvement
    that is left on the near side, and nine asks in ten crash. Where failures are as likely
    everywhere this adds a constant, so that nothing is excluded because machines are flaky.
    """

    def __init__(self, model: GPModel) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models labels +1 and -1 with ``WarpKind.IDENTITY``.
        """
        self._success = LogProbabilityOfSuccess(model, has_noise=False)
        super().__init__(self._success.reader)

    def of_moments(self, mean: Values, variance: Values) -> tuple[Values, Values, Values]:
        """Return values, at most 0, and their derivatives by mean and by variance."""
        value, by_mean, by_variance = self._success.of_moments(mean, variance)
        factor = 1.0 + AVERSION * is_negative(value - math.log(LIKELY))
        return _averse(value), by_mean * factor, by_variance * factor

    def of_bound(self, mean: Values, variance: Values) -> Values:
        """Return the bound: it grows with that of the probability."""
        return _averse(self._success.of_bound(mean, variance))


def _averse(value: Values) -> Values:
    return value + AVERSION * (value - math.log(LIKELY)).clip(max=0.0)
