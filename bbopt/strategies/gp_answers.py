"""What the models of a study say outside of asks: predictions, and which trial is the best.

They stand on the hyperparameters of the last ask and never change a strategy's state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch

from bbopt.acquisition import LogProbabilityOfFeasibility, LogProbabilityOfSuccess
from bbopt.errors import NumericalError, PreconditionError
from bbopt.gp import GPModel
from bbopt.numerics import FAILURES
from bbopt.numerics.devices import is_out_of_memory
from bbopt.problem import Noise
from bbopt.strategies.gp_devices import CPU
from bbopt.strategies.gp_rows import Rows
from bbopt.strategies.gp_settings import ModelChoices
from bbopt.strategies.gp_surrogates import Surrogates
from bbopt.strategies.outputs import SUCCESS, Output, finite
from bbopt.strategies.recommendation import eligible_rows, recommend_measured
from bbopt.strategies.strategy import (
    Array,
    Moments,
    Predictions,
    Recommendation,
    StrategyContext,
)

_T = TypeVar("_T")


class Answers:
    """Answers by a strategy's models, or by models of their own before its first ask."""

    def __init__(self, context: StrategyContext, choices: ModelChoices) -> None:
        self._context = context
        self._choices = choices
        self._own: tuple[tuple[int, int], Surrogates] | None = None
        """Models that were fitted for answers alone, and the results that they stand on."""

    def recommend(self, surrogates: Surrogates) -> Recommendation | None:
        """Choose the best feasible trial: by the model's mean where the objective is noisy."""
        columns = self._context.columns
        rows = eligible_rows(columns)
        if self._context.problem.objective.noise is Noise.NONE or len(rows) < 3:
            return recommend_measured(columns)
        try:
            rows, mean = self._or_on_the_cpu(surrogates, lambda: self._means(surrogates, rows))
        except FAILURES:
            return recommend_measured(columns)
        if len(rows) == 0 or not np.isfinite(mean).all():
            return recommend_measured(columns)
        best = rows[int(np.argmax(mean))]
        return Recommendation(
            int(columns.numbers[best]), "highest posterior mean among feasible trials"
        )

    def predict(self, surrogates: Surrogates, X: Array) -> Predictions:
        """Predict every measured metric at canonical rows.

        Raises:
            PreconditionError: Fewer than two results are in.
            NumericalError: Not even the prior's mode gives numbers.
        """
        if int(np.isfinite(self._context.columns.Y[:, 0]).sum()) < 2:
            raise PreconditionError("there is no model before two trials have a result")
        return self._or_on_the_cpu(surrogates, lambda: self._predicted(surrogates, X))

    def _or_on_the_cpu(self, surrogates: Surrogates, answer: Callable[[], _T]) -> _T:
        """Answer; once more on the CPU if the device has no memory for it."""
        try:
            return answer()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        surrogates.move_to(CPU)
        self._own = None
        torch.cuda.empty_cache()
        return answer()

    def _means(self, surrogates: Surrogates, rows: Rows) -> tuple[Rows, Array]:
        """Return the objective's means at some rows of the columns, and which these are: of a
        large study only those that the model stands on; the best are among them.
        """
        columns = self._context.columns
        fitted = self._fitted(surrogates)
        objective = fitted.condition()["objective"]
        if objective.n < int(np.isfinite(columns.Y[:, 0]).sum()):
            rows = np.intersect1d(rows, fitted.rows("objective"), assume_unique=True)
        return rows, objective.predict(columns.X[rows]).mean

    def _predicted(self, surrogates: Surrogates, X: Array) -> Predictions:
        try:
            return _predictions(self._fitted(surrogates), X)
        except FAILURES:
            return _predictions(self._at_prior_mode(surrogates.device), X)

    def _fitted(self, surrogates: Surrogates) -> Surrogates:
        """Return the strategy's models, or, before its first ask with a model, models that are
        fitted once for the same data.
        """
        if surrogates.saved:
            return surrogates
        columns = self._context.columns
        key = (len(columns.X), columns.amended_revision)
        if self._own is None or self._own[0] != key:
            own = self._at_prior_mode(surrogates.device)
            own.refit()
            self._own = (key, own)
        return self._own[1]

    def _at_prior_mode(self, device: torch.device) -> Surrogates:
        return Surrogates(self._context, self._choices, device)


def _predictions(surrogates: Surrogates, X: Array) -> Predictions:
    """Predict with some models; raises ``NumericalError`` if the answer is no number."""
    models = surrogates.condition()
    log_probability = np.zeros(len(X))
    rows = torch.from_numpy(np.ascontiguousarray(X)).to(models["objective"].device)
    with torch.inference_mode():
        for name, model in models.items():
            if name == SUCCESS:
                log_probability += LogProbabilityOfSuccess(model).value(rows).cpu().numpy()
            elif name != "objective":
                part = LogProbabilityOfFeasibility(model).value(rows)
                log_probability += part.cpu().numpy()
    moments = moments_of(surrogates.outputs, models, X)
    probability = np.exp(np.minimum(log_probability, 0.0))
    if not (all(map(finite, moments.values())) and np.isfinite(probability).all()):
        raise NumericalError("the model predicts what is not a number")
    return Predictions(moments, probability)


def moments_of(
    outputs: Sequence[Output], models: Mapping[str, GPModel], X: Array
) -> dict[str, Moments]:
    """Predict metrics in the user's units; the first bound of a metric speaks for it.

    Args:
        outputs: What is modelled.
        models: Of these, those that there are, by name.
        X: Rows of the unit cube, shape ``(n, D)``.
    """
    moments: dict[str, Moments] = {}
    for output in outputs:
        if output.name in models and not output.is_label and output.metric not in moments:
            prediction = models[output.name].predict(X)
            moments[output.metric] = output.moments(prediction.mean, prediction.sd)
    return moments
