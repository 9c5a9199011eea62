"""Log expected improvement in a large study: judged by all results, climbed on a few."""

import torch
from torch import Tensor

from bbopt.acquisition.ensemble import log_augmentation, mix
from bbopt.acquisition.log_expected_improvement import LogExpectedImprovement
from bbopt.acquisition.protocol import Acquisition
from bbopt.gp import GPModel
from bbopt.gp.neighbours import NeighbourPosterior
from bbopt.numerics import log_h


class ScreenedImprovement:
    """Values are those of the posterior given each point's neighbours among all results;
    gradients, and the values that go with them, are those of the model.

    A search screens candidates and compares the ends of its ascents by ``value``, and climbs by
    ``value_and_gradient``. So it does not go where only the model, which stands on a choice of
    the results, is unsure.
    """

    def __init__(
        self,
        model: GPModel,
        best: Tensor,
        neighbours: NeighbourPosterior,
        *,
        given_pending: Acquisition | None = None,
        is_augmented: bool = False,
    ) -> None:
        """Freeze the posteriors.

        Args:
            model: The objective's model; it must not change while this is in use.
            best: The incumbent's value in standardized units, per kernel ``(E,)``.
            neighbours: The same kernels on all results.
            given_pending: The model's log expected improvement given pending points; by how
                much they lower it, they lower the value here.
            is_augmented: Whether to count what noise takes from an improvement, as
                ``LogExpectedImprovement`` does; ``given_pending`` must do the same.
        """
        self._plain = LogExpectedImprovement(model, best, is_augmented=is_augmented)
        usual = model.searchable()[0].usual_noise[:, None]
        self._noise = usual.cpu() if is_augmented else None
        self._given_pending = given_pending
        self._neighbours = neighbours
        self._best = best.cpu()[neighbours.kept][:, None]
        self._log_weights = neighbours.log_weights.cpu()
        self._map = model.feature_map
        self.device = model.device
        """Where rows must live."""

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)`` in log standardized units."""
        mean, variance = self._neighbours.predict(self._map.features(X.cpu()))
        sd = variance.sqrt()
        value = log_h((mean - self._best) / sd)[0] + sd.log()
        if self._noise is not None:
            value += log_augmentation(variance, self._noise)[0]
        total = mix(value, self._log_weights)[0].to(self.device)
        if self._given_pending is not None:
            change = self._given_pending.value(X) - self._plain.value(X)
            total = total + torch.nan_to_num(change, nan=0.0)
        return total

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate under the model; ``(n,)`` and ``(n, D)``."""
        return (self._given_pending or self._plain).value_and_gradient(X)
