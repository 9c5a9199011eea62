"""Log expected improvement under an evidence-weighted ensemble of Gaussian processes."""

from typing import ClassVar

from torch import Tensor

from bbopt.acquisition.ensemble import log_augmentation, mix, per_member
from bbopt.acquisition.moments import MomentAcquisition, MomentReader
from bbopt.gp import GPModel
from bbopt.numerics import log_h
from bbopt.numerics.elementwise import Values, like, log, sqrt


class LogExpectedImprovement(MomentAcquisition):
    """``log sum_e w_e sd_e h((mean_e - best_e) / sd_e)``, finite however small it is.

    Augmented, every member's improvement is weighed with ``log_augmentation``: points that
    have been measured as well as the noise allows are left for others.

    Source:
        Ament et al. (2023), arXiv:2310.20708, for the logarithmic form.
    """

    bound_from: ClassVar[int] = 80
    """Alone; a sum waits for its other parts."""

    def __init__(
        self, model: GPModel, best: Tensor | float, *, is_augmented: bool = False
    ) -> None:
        """Freeze the model's current posterior.

        Args:
            model: The objective's model; it must not change while this is in use.
            best: The incumbent's value in standardized units, per kernel ``(E,)`` or one
                number; see ``incumbent_value``.
            is_augmented: Whether to count what noise takes from an improvement.
        """
        super().__init__(MomentReader(model))
        noise = self.reader.posterior.usual_noise[:, None]  # (E', 1)
        self._noise = noise if is_augmented else None
        self._best = per_member(best, model, self.reader.kept)[:, None]

    def of_moments(self, mean: Values, variance: Values) -> tuple[Values, Values, Values]:
        """Return values in log standardized units and their derivatives by both moments."""
        sd = sqrt(variance)
        z = (mean - like(mean, self._best)) / sd
        log_value, ratio = log_h(z)
        log_value += log(sd)
        slope: Values | None = None
        if self._noise is not None:
            augmentation, slope = log_augmentation(variance, self._noise)
            log_value += augmentation
        value, share = mix(log_value, like(mean, self.reader.log_weights))
        pull = ratio * share  # d value / dz
        by_variance = (share - pull * z) * (0.5 / variance)
        if slope is not None:
            by_variance += share * slope
        return value, pull / sd, by_variance
