"""What one ask of the ``gp`` strategy maximises, given its models."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt.acquisition import (
    Acquisition,
    IntegratedLogExpectedImprovement,
    LogExpectedImprovement,
    LogProbabilityOfFeasibility,
    LogProbabilityOfSuccess,
    ScreenedImprovement,
    constrained,
    search_for_feasibility,
)
from bbopt.acquisition.pathwise import SamplePaths
from bbopt.errors import NumericalError
from bbopt.gp import GPModel
from bbopt.problem import Noise
from bbopt.space import Codec
from bbopt.strategies.gp_surrogates import Surrogates
from bbopt.strategies.outputs import SUCCESS
from bbopt.strategies.strategy import Array, StrategyContext

N_INCUMBENTS: Final = 5
PENDING_PESSIMISM: Final = 1.0
"""Standard deviations by which a pending point is assumed to violate a constraint more than
expected, while nothing is feasible; without it all points of a batch are the same."""


class Goal:
    """What one ask maximises, given its models."""

    def __init__(
        self,
        context: StrategyContext,
        models: dict[str, GPModel],
        surrogates: Surrogates,
        n_fantasies: int,
        *,
        is_augmented: bool,
    ) -> None:
        """Take the models as they are.

        Args:
            context: The study.
            models: By output name.
            surrogates: Where the models come from.
            n_fantasies: Joint draws of what pending trials might return.
            is_augmented: Whether improvements are augmented where noise is seen.
        """
        self._columns = context.columns
        self._codec = context.codec
        self._models = models
        self._n_fantasies = n_fantasies
        self._is_augmented = is_augmented and surrogates.is_noisy
        self._is_noisy = context.problem.objective.noise is not Noise.NONE
        self._constraints = [
            models[o.name]
            for o in surrogates.outputs
            if o.name in models and not o.is_objective and not o.is_label
        ]
        self._success = models.get(SUCCESS)
        self._objective = models.get("objective")
        # Which rows of the objective's model are feasible.
        self._is_eligible: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        if self._objective is not None:
            rows = surrogates.rows("objective")
            self._is_eligible = context.columns.feasible[rows]
        self._neighbours = surrogates.neighbours(self._objective)

    @property
    def is_improving(self) -> bool:
        """Whether something feasible has been measured, to be improved upon."""
        return self._objective is not None and bool(self._is_eligible.any())

    def acquisition(self, pending: Array, rng: np.random.Generator) -> Acquisition:
        """Build the acquisition with some rows pending."""
        if self._objective is None or not self.is_improving:
            if not self._constraints and self._success is None:
                raise NumericalError("there is nothing to model yet")
            return search_for_feasibility(
                [_pessimistic(model, pending, self._codec) for model in self._constraints],
                success=self._success,
            )
        best = self._best(self._objective)
        improvement: Acquisition | None = None
        if len(pending):
            improvement = IntegratedLogExpectedImprovement(
                self._objective,
                best,
                pending,
                rng=rng,
                n_fantasies=self._n_fantasies,
                probability_feasible=self._probability_feasible(pending),
                is_augmented=self._is_augmented,
            )
        if self._neighbours is not None:
            improvement = ScreenedImprovement(
                self._objective,
                best,
                self._neighbours,
                given_pending=improvement,
                is_augmented=self._is_augmented,
            )
        elif improvement is None:
            improvement = LogExpectedImprovement(
                self._objective, best, is_augmented=self._is_augmented
            )
        return constrained(improvement, constraints=self._constraints, success=self._success)

    def _probability_feasible(self, rows: Array) -> Array | None:
        """Return how likely each row keeps every constraint and does not crash."""
        parts: list[Acquisition] = [LogProbabilityOfFeasibility(m) for m in self._constraints]
        if self._success is not None:
            parts.append(LogProbabilityOfSuccess(self._success))
        if not parts:
            return None
        on_device = torch.from_numpy(np.ascontiguousarray(rows)).to(parts[0].device)
        with torch.inference_mode():
            log_probability = torch.stack([part.value(on_device) for part in parts]).sum(0)
        probability: Array = log_probability.exp().cpu().numpy()
        return probability

    def draw_feasibility(
        self, n_worlds: int, rng: np.random.Generator
    ) -> Callable[[Array], NDArray[np.bool_]] | None:
        """Draw worlds in which constraints are what one function says of each.

        Args:
            n_worlds: How many, S.
            rng: The only source of randomness.

        Returns:
            A function that says of rows ``(R, D)`` in which worlds they are feasible,
            ``(S, R)``; ``None`` where nothing can be infeasible.
        """
        if not self._constraints and self._success is None:
            return None
        drawn = [(SamplePaths(m, n_worlds, rng=rng), m) for m in self._constraints]
        fortune = rng.random((n_worlds, 1))

        def is_feasible(rows: Array) -> NDArray[np.bool_]:
            kept = np.ones((n_worlds, len(rows)), dtype=np.bool_)
            X = torch.from_numpy(np.ascontiguousarray(rows))
            with torch.inference_mode():
                for paths, model in drawn:
                    values = paths.values(X.to(paths.device)).cpu().numpy()
                    kept &= values <= model.target(0.0)
                if self._success is not None:
                    chance = LogProbabilityOfSuccess(self._success)
                    log_probability = chance.value(X.to(chance.device)).cpu().numpy()
                    kept &= fortune < np.exp(log_probability)
            return kept

        return is_feasible

    def _best(self, model: GPModel) -> torch.Tensor:
        """Return what an improvement is measured from, per kernel, in standardized units."""
        mask = torch.from_numpy(self._is_eligible).to(model.device)
        if self._is_noisy:
            return model.fitted_means()[:, mask].amax(dim=1)
        return model.posterior.y[mask].max().expand(len(model.weights))

    def incumbents(self) -> Array:
        """Return the best rows, best first: feasible ones, else the least infeasible."""
        columns = self._columns
        if self._objective is not None and self._is_eligible.any():
            score = self._objective.y
            if self._is_noisy:
                means = self._objective.fitted_means().cpu().numpy()
                score = self._objective.weights @ means
            order = np.argsort(-np.where(self._is_eligible, score, -np.inf), kind="stable")
            n = min(N_INCUMBENTS, int(self._is_eligible.sum()))
            return self._objective.X[order[:n]]
        if columns.Y.shape[1] == 1:
            return columns.X[:0]
        violation = np.maximum(np.nan_to_num(columns.Y[:, 1:], nan=np.inf), 0.0)
        finite_part = np.where(np.isfinite(violation), violation, 0.0)
        scale = np.maximum(finite_part.max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
        order = np.argsort((violation / scale).sum(axis=1), kind="stable")
        return columns.X[order[:N_INCUMBENTS]]

    def length_scales(self) -> Array:
        """Return the length scales in which steps are measured."""
        return next(iter(self._models.values())).length_scales


def _pessimistic(model: GPModel, pending: Array, codec: Codec) -> GPModel:
    """Return a constraint's model as if pending points had come out a little worse."""
    if not len(pending):
        return model
    expected = model.predict(pending)
    values = expected.mean + PENDING_PESSIMISM * expected.sd
    if not np.isfinite(values).all():
        return model
    return GPModel.restored(
        codec.columns,
        np.concatenate([model.X, pending]),
        np.concatenate([model.y, values]),
        hyperparameters=model.hyperparameters,
        settings=model.settings,
        device=model.device,
        warp=model.given_warp,
    )
