"""Log probability that a constraint holds, under its own model."""

from bbopt.acquisition.ensemble import mix
from bbopt.acquisition.moments import MomentAcquisition, MomentReader
from bbopt.gp import GPModel
from bbopt.numerics import log_ndtr
from bbopt.numerics.elementwise import Values, is_negative, like, log, sqrt


class LogProbabilityOfFeasibility(MomentAcquisition):
    """``log sum_e w_e Phi((threshold - mean_e) / sd_e)`` for a constraint value ``c(x)``.

    Source:
        Gardner et al. (2014), "Bayesian Optimization with Inequality Constraints".
    """

    def __init__(self, model: GPModel, threshold: float = 0.0) -> None:
        """Freeze the model's current posterior.

        Args:
            model: Models the raw constraint value; it must not change while this is in use.
            threshold: Feasible at or below this, in the metric's unit.
        """
        super().__init__(MomentReader(model))
        self._threshold = model.target(threshold)

    def of_moments(self, mean: Values, variance: Values) -> tuple[Values, Values, Values]:
        """Return values, at most 0, and their derivatives by mean and by variance."""
        sd = sqrt(variance)
        z = (self._threshold - mean) / sd
        log_value, ratio = log_ndtr(z)
        value, share = mix(log_value, like(mean, self.reader.log_weights))
        pull = share * ratio  # d value / dz
        return value, -pull / sd, -0.5 * pull * z / variance

    def of_bound(self, mean: Values, variance: Values) -> Values:
        """Return the bound: a smaller variance helps where the mean is feasible."""
        log_value = log_ndtr_bound((self._threshold - mean) / sqrt(variance))
        return mix(log_value, like(mean, self.reader.log_weights))[0]


class WithCuriosity(MomentAcquisition):
    """Another one plus ``factor log sum_e w_e var_e``: a bonus for places about which its model
    knows little.
    """

    def __init__(self, part: MomentAcquisition, factor: float) -> None:
        """Read the same model, once for both.

        Args:
            part: The other acquisition.
            factor: Nats per nat of variance.
        """
        super().__init__(part.reader)
        self._part, self._factor = part, factor

    def of_moments(self, mean: Values, variance: Values) -> tuple[Values, Values, Values]:
        """Return values and their derivatives by mean and by variance."""
        value, by_mean, by_variance = self._part.of_moments(mean, variance)
        bonus, share = mix(log(variance), like(mean, self.reader.log_weights))
        by_variance = by_variance + self._factor * share / variance
        return value + self._factor * bonus, by_mean, by_variance

    def of_bound(self, mean: Values, variance: Values) -> Values:
        """Return the bound of the sum."""
        bonus, _ = mix(log(variance), like(mean, self.reader.log_weights))
        return self._part.of_bound(mean, variance) + self._factor * bonus


def log_ndtr_bound(z: Values) -> Values:
    """Return what ``log Phi(z s)`` does not exceed for any ``s >= 1``: 0 from zero on."""
    return log_ndtr(z)[0] * is_negative(z)
