"""Log expected improvement averaged over what pending evaluations might return.

For each joint fantasy of the pending results the posterior is known in closed form, its
variance is the same for all of them, and so is expected improvement: the average is smooth,
exact given the fantasies, and needs no random numbers at the candidate. This is how a batch is
built greedily and how anything outstanding is taken into account.
"""

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from bbopt.acquisition.ensemble import (
    log_augmentation,
    mix,
    per_member,
    value_in_chunks,
)
from bbopt.gp import GPModel, Query
from bbopt.numerics import cholesky, log_h, logsumexp_with_weights
from bbopt.numerics.sobol import shifted_sobol

Array = NDArray[np.float64]
N_FANTASIES: Final = 64
"""Joint draws S; a batch of eight chosen with 16 of them has half a percent less joint gain."""


class IntegratedLogExpectedImprovement:
    """``log sum_e w_e mean_s EI_e(x | data, fantasy s at the pending points)``.

    Fantasies are observations (noise included). The incumbent of a fantasy is the largest of
    the given one and the conditional means at those pending points that it has feasible.
    """

    def __init__(
        self,
        model: GPModel,
        best: Tensor | float,
        pending: Array,
        *,
        rng: np.random.Generator,
        n_fantasies: int = N_FANTASIES,
        probability_feasible: Array | None = None,
        is_augmented: bool = False,
    ) -> None:
        """Draw the fantasies and condition on them.

        Args:
            model: The objective's model; it must not change while this is in use.
            best: The incumbent's value in standardized units, ``(E,)`` or one number.
            pending: Outstanding rows of the unit cube, shape ``(p, D)``, p >= 1.
            rng: Draws the fantasies' random shift.
            n_fantasies: Number of joint fantasies S.
            probability_feasible: Of each pending point, shape ``(p,)``; ``None`` is one. A good
                value at a point that is likely infeasible is nothing to improve upon: counted
                as an incumbent it would make every feasible candidate look worthless.
            is_augmented: Whether to count what noise takes from an improvement, as
                ``LogExpectedImprovement`` does.
        """
        self._map, self.device = model.feature_map, model.device
        now, self._log_weights, kept = model.searchable()
        noise = now.usual_noise[:, None]  # (E, 1)
        self._noise = noise if is_augmented else None
        fixed_best = per_member(best, model, kept)
        rows = self._map.features(
            torch.from_numpy(np.ascontiguousarray(pending)).to(self.device)
        )
        uniform = shifted_sobol(len(rows), n_fantasies, rng)
        normal = torch.from_numpy(ndtri(np.clip(uniform, 1e-7, 1.0 - 1e-7))).to(self.device)

        mean, covariance = now.predict_jointly(rows)  # (E, p), (E, p, p)
        noisy = covariance + torch.diag_embed(noise.expand_as(mean))
        fantasies = mean[:, :, None] + cholesky(noisy).lower @ normal.T  # (E, p, S)

        self._posterior = extended = now.extended(rows)
        centred = torch.cat(
            [
                (now.y - now.mean_constant[:, None])[:, :, None].expand(-1, -1, n_fantasies),
                fantasies - now.mean_constant[:, None, None],
            ],
            dim=1,
        )  # (E, n + p, S)
        inverse = extended.inverse_factor
        self._alphas = torch.bmm(inverse.mT, torch.bmm(inverse, centred))  # (E, n + p, S)
        # A row costs its covariances and, per member, a score for every fantasy.
        self._n_per_row = extended.n_covariances + extended.n_members * n_fantasies
        self._constant = now.mean_constant[:, None, None]
        # K_f alpha = (y - m) - noise alpha gives the conditional means at the pending rows.
        learned = fantasies - noise[:, :, None] * self._alphas[:, now.n :]
        if probability_feasible is not None:
            drawn = rng.random((len(rows), n_fantasies)) < probability_feasible[:, None]
            is_feasible = torch.from_numpy(drawn).to(self.device)  # (p, S)
            learned = learned.masked_fill(~is_feasible, -torch.inf)
        self._best = torch.maximum(fixed_best[:, None], learned.amax(dim=1))[:, None, :]

    def value(self, X: Tensor) -> Tensor:
        """Evaluate rows of shape ``(n, D)``; returns ``(n,)`` in log standardized units."""
        return value_in_chunks(self._value, X, n_per_row=self._n_per_row)

    def _value(self, X: Tensor) -> Tensor:
        z, sd, query = self._standard_scores(X)
        per_fantasy = log_h(z)[0]
        log_mean = torch.logsumexp(per_fantasy, 2) - math.log(per_fantasy.shape[2])
        log_value = log_mean + sd.log()
        if self._noise is not None:
            log_value += log_augmentation(query.variance, self._noise)[0]
        return mix(log_value, self._log_weights)[0]

    def value_and_gradient(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate rows and differentiate; returns ``(n,)`` and ``(n, D)``."""
        z, sd, query = self._standard_scores(X)
        per_fantasy, ratio = log_h(z)  # (E, R, S)
        total, weight = logsumexp_with_weights(per_fantasy, 2)
        log_value = total - math.log(per_fantasy.shape[2]) + sd.log()
        slope: Tensor | None = None
        if self._noise is not None:
            augmentation, slope = log_augmentation(query.variance, self._noise)
            log_value += augmentation
        value, share = mix(log_value, self._log_weights)
        pull = weight * ratio  # (E, R, S)
        by_mean = torch.bmm(pull * (share / sd)[:, :, None], self._alphas.mT)
        by_variance = 0.5 * share * (1.0 - (pull * z).sum(-1)) / query.variance
        if slope is not None:
            by_variance.addcmul_(share, slope)
        gradient = self._posterior.pull_back(query, by_mean, by_variance)
        return value, self._map.pull_back(X, gradient)

    def _standard_scores(self, X: Tensor) -> tuple[Tensor, Tensor, Query]:
        """Return ``(mean_s - best_s) / sd``, ``(E, R, S)``, sd ``(E, R)`` and the query."""
        query = self._posterior.query(self._map.features(X))
        sd = query.variance.sqrt()
        mean = torch.bmm(query.covariance, self._alphas).add_(self._constant)  # (E, R, S)
        return (mean - self._best) / sd[:, :, None], sd, query
