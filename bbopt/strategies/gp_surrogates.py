"""The models of one study: its objective, each bound of each constraint, and crashes.

``Surrogates`` keeps them hot between asks. What it keeps is a cache: the models are a function
of the columns and of ``saved`` (hyperparameters and the rows they stand on), ``anchor`` and
``is_noisy``, so that a study rebuilt from its log has the same models to the last bit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt.gp import (
    LARGEST_VALUE,
    FitSettings,
    FixedNoise,
    GPModel,
    GPSettings,
    Hyperparameters,
    LearnedNoise,
    RefitSchedule,
    WarpKind,
)
from bbopt.gp.joint_refit import fit_together
from bbopt.gp.neighbours import NearestRows, NeighbourPosterior, scales_of
from bbopt.gp.warp import variance_of_targets
from bbopt.numerics import FAILURES
from bbopt.problem import Noise
from bbopt.strategies.gp_rows import RowChoice, Rows, known_noise_sd
from bbopt.strategies.gp_settings import ModelChoices
from bbopt.strategies.outputs import Output, outputs_of
from bbopt.strategies.strategy import Array, StrategyContext

FIT: Final = FitSettings(max_iterations_warm=6)
"""A warm refit may stop early, because the next tell carries it on: 15 iterations took a third
longer at 20 parameters and found nothing better in 50 trials of five problems."""
LABEL_NOISE_FLOOR: Final = 0.1
"""Least noise variance of the labels +1 and -1. They jump where trials begin to crash; with
less noise the length scales collapse to explain the jump, and crashes teach nothing nearby."""
NOISE_SEEN: Final = (5e-4, 3e-3)
"""Noise variance of the objective's targets below which there is none to be seen any more, and
above which there is. Few results say nothing, and the prior says 3e-4."""


@dataclass(frozen=True, slots=True)
class DoublingSchedule(RefitSchedule):
    """Starts cold at ``cold_every`` results and whenever they have doubled since.

    Another mode of the posterior is worth looking for while data are few. Cold fits at every
    tenth result took a fifth of all time and found nothing better in 50 trials of five
    problems.
    """

    def is_cold_due(self, n: int, n_fitted: int) -> bool:
        """Say whether a refit at ``n`` should also start cold."""
        return n_fitted < 1 or _n_doublings(n, self.cold_every) > _n_doublings(
            n_fitted, self.cold_every
        )


def _n_doublings(n: int, first: int) -> int:
    return (n // first).bit_length()


SCHEDULE: Final = DoublingSchedule()


@dataclass(frozen=True, slots=True)
class _Hot:
    model: GPModel
    rows: Rows
    amended: int
    hyperparameters: Hyperparameters | None


class Surrogates:
    """Gaussian processes over the study's columns, restored, extended and refitted."""

    def __init__(
        self,
        context: StrategyContext,
        choices: ModelChoices,
        device: torch.device,
        *,
        saved: Mapping[str, Hyperparameters] | None = None,
        anchor: int = 0,
        is_noisy: bool = False,
    ) -> None:
        """Start from saved hyperparameters.

        Args:
            context: The study.
            choices: How models are built.
            device: Where tensors live.
            saved: Hyperparameters by output; outputs without any start at the prior's mode.
            anchor: Number of rows among which a subset was chosen; 0 while all are used.
            is_noisy: Whether noise was seen in the objective at the last refit.
        """
        self._context = context
        self._choices = choices
        self.device = device
        self.outputs = outputs_of(context.problem, context.columns)
        self.saved = dict(saved or {})
        self._choice = RowChoice(context, anchor)
        self.is_noisy = is_noisy
        self._hot: dict[str, _Hot] = {}
        self._nearest: tuple[tuple[int, int, bytes], NearestRows] | None = None

    @property
    def anchor(self) -> int:
        """Number of rows among which a subset was chosen; 0 while all are used."""
        return self._choice.anchor

    # ------------------------------------------------------------------ models

    def condition(self) -> dict[str, GPModel]:
        """Return a model of every output that has data, on all data, without fitting."""
        models = {}
        for output in self.outputs:
            rows = self._choice.rows_of(output)
            if len(rows) and (not output.is_label or self._has_crashes()):
                models[output.name] = self._model(output, rows)
        return models

    def refit(self) -> tuple[dict[str, GPModel], str]:
        """Renew hyperparameters where they are due.

        Returns:
            The models, and what went wrong (empty when all went well): a model that could not
            be fitted keeps its old hyperparameters, or stays at the prior's mode.
        """
        is_renewed = self._renew_rows()
        models = self.condition()
        thetas = [None] * len(models) if is_renewed else fit_together(list(models.values()))
        faults = [
            self._refit(name, each, is_renewed, theta)
            for (name, each), theta in zip(models.items(), thetas, strict=True)
        ]
        objective = self.outputs[0]
        if objective.name in models and self._looks_for_noise(models[objective.name]):
            models[objective.name] = self._model(objective, self._choice.rows_of(objective))
            faults.append(self._refit(objective.name, models[objective.name], True))
        return models, "; ".join(filter(None, faults))

    def _refit(
        self, name: str, model: GPModel, is_forced: bool, theta: Array | None = None
    ) -> str:
        """Renew one model's hyperparameters, or take those found; return what went wrong."""
        if not (is_forced or model.is_refit_due):
            return ""
        try:
            model.refit(theta)
        except FAILURES as error:
            return f"fit of {name} failed ({error}), earlier hyperparameters kept"
        self.saved[name] = model.hyperparameters
        self._hot[name] = replace(self._hot[name], hyperparameters=self.saved[name])
        return ""

    def _looks_for_noise(self, model: GPModel) -> bool:
        """See whether the objective is noisy; say whether its model is another one therefore.

        That model starts cold: length scales that explained noise are no start.
        """
        objective = self.outputs[0]
        if objective.noise is Noise.NONE or objective.name not in self.saved:
            return False
        earlier = self._kind_of_warp(objective)
        noise = float(model.weights @ model.posterior.usual_noise.cpu().numpy())
        self.is_noisy = noise > NOISE_SEEN[0 if self.is_noisy else 1]
        if self._kind_of_warp(objective) is earlier:
            return False
        self.saved[objective.name] = Hyperparameters(self.saved[objective.name].theta, 0)
        return True

    def rows(self, name: str) -> Rows:
        """Return the rows of the columns under a model that ``condition`` returned last."""
        return self._hot[name].rows

    def neighbours(self, model: GPModel | None) -> NeighbourPosterior | None:
        """Return the objective's model conditioned on neighbours among all of its results.

        Args:
            model: The objective's, as ``condition`` or ``refit`` returned it last.

        Returns:
            ``None`` while the model stands on all results.
        """
        base, columns = self._choice.base(), self._context.columns
        if model is None or not base:
            return None
        rows: Rows = np.flatnonzero(np.isfinite(columns.Y[:, 0]))
        features: Array = model.feature_map.features(torch.from_numpy(columns.X[rows])).numpy()
        scales = scales_of(model)
        key = (base, columns.amended_revision, scales.tobytes())
        if self._nearest is None or self._nearest[0] != key:
            n_first = int(np.searchsorted(rows, base))
            self._nearest = (key, NearestRows(features[:n_first] * scales))
        values = np.clip(columns.Y[rows, 0], -LARGEST_VALUE, LARGEST_VALUE)
        sd = self._sd(self.outputs[0], rows)
        return NeighbourPosterior(
            model,
            features,
            model.warp.forward(values),
            noise_variances=variance_of_targets(sd, model.warp, values) if sd.any() else None,
            nearest=self._nearest[1],
        )

    def move_to(self, device: torch.device) -> None:
        """Have the models on another device; they are restored there when they are needed."""
        if device != self.device:
            self.device = device
            self._hot.clear()

    def settings_of_objective(self) -> GPSettings:
        """Return what kind of model the objective's is while no noise is seen."""
        return self._settings(self.outputs[0], self._choices.objective_warp)

    def forget_hyperparameters(self) -> None:
        """Go back to the prior's mode: the last resort before giving the models up."""
        self.saved.clear()
        self._hot.clear()
        self.is_noisy = False

    def _model(self, output: Output, rows: Rows) -> GPModel:
        """Return one model on some rows of the columns, extending the hot one if possible."""
        columns = self._context.columns
        hot, saved = self._hot.get(output.name), self.saved.get(output.name)
        amended, kind = columns.amended_revision, self._kind_of_warp(output)
        warp = None if output.is_label else self._choice.warp_of(output, kind)
        if (
            hot is not None
            and hot.hyperparameters is saved
            and hot.amended == amended
            and hot.model.given_warp is warp
            and len(hot.rows) <= len(rows)
            and np.array_equal(hot.rows, rows[: len(hot.rows)])
        ):
            model, new = hot.model, rows[len(hot.rows) :]
            if len(new):
                model.observe(columns.X[new], self._values(output, new), self._sd(output, new))
        else:
            usable = None
            if saved is not None:
                usable = Hyperparameters(saved.theta, min(saved.n_fitted, len(rows)))
            model = GPModel.restored(
                self._context.codec.columns,
                columns.X[rows],
                self._values(output, rows),
                hyperparameters=usable,
                noise_sd=self._sd(output, rows),
                settings=self._settings(output, kind),
                device=self.device,
                warp=warp,
            )
        self._hot[output.name] = _Hot(model, rows, amended, saved)
        return model

    def _settings(self, output: Output, warp: WarpKind) -> GPSettings:
        noise: LearnedNoise | FixedNoise
        if output.is_label:
            noise = LearnedNoise(floor=LABEL_NOISE_FLOOR)
        else:
            noise = self._choices.noise if output.noise is Noise.LEARNED else FixedNoise()
        return GPSettings(
            self._choices.kernels,
            warp,
            noise,
            self._choices.category_scale,
            FIT,
            SCHEDULE,
        )

    def _kind_of_warp(self, output: Output) -> WarpKind:
        if output.is_label:
            return WarpKind.IDENTITY
        if not output.is_objective:
            return WarpKind.BILOG
        choices = self._choices
        return choices.noisy_objective_warp if self.is_noisy else choices.objective_warp

    # ------------------------------------------------------------------ data

    def _values(self, output: Output, rows: Rows) -> Array:
        columns = self._context.columns
        if output.is_label:
            return np.where(columns.is_infeasible[rows], -1.0, 1.0)
        values: Array = columns.Y[rows, output.column]
        return values

    def _sd(self, output: Output, rows: Rows) -> Array:
        if output.is_label:
            return np.zeros(len(rows))
        return known_noise_sd(self._context.columns.variance[rows, output.column])

    def _has_crashes(self) -> bool:
        return bool(self._context.columns.is_infeasible.any())

    def _renew_rows(self) -> bool:
        """Choose the rows of large studies anew now and then; say whether that happened."""
        if not self._choice.renew():
            return False
        self._hot.clear()
        for output in self.outputs:
            if output.name in self.saved:
                n_fitted = len(self._choice.rows_of(output))
                theta = self.saved[output.name].theta
                self.saved[output.name] = Hyperparameters(theta, n_fitted)
        return True

    # ------------------------------------------------------------------ state

    def scalars(self) -> dict[str, int]:
        """Return what to store besides the arrays."""
        fitted = {f"n_fitted/{name}": saved.n_fitted for name, saved in self.saved.items()}
        return {"anchor": self.anchor, "is_noisy": int(self.is_noisy), **fitted}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to store."""
        return {f"theta/{name}": saved.theta for name, saved in self.saved.items()}


def read_hyperparameters(
    scalars: Mapping[str, int | float | str], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Hyperparameters]:
    """Return what ``scalars`` and ``arrays`` of ``Surrogates`` stored."""
    return {
        name: Hyperparameters(
            np.array(theta, dtype=np.float64), int(scalars[f"n_fitted/{name}"])
        )
        for key, theta in arrays.items()
        for kind, _, name in [key.partition("/")]
        if kind == "theta"
    }


def name_rescues(models: Mapping[str, GPModel]) -> list[str]:
    """Say which models could only be factorized with something added to their diagonals."""
    return [
        f"model of {name} made positive definite by adding {model.rescue:.1e} to its diagonal"
        for name, model in models.items()
        if model.rescue > 0.0
    ]


def is_noise_visible(model: GPModel) -> bool:
    """Whether the noise is large enough to make repeating a measurement worthwhile.

    The threshold is 3 % of the standard deviation of the data.
    """
    noise = float(model.posterior.usual_noise.max())
    return math.sqrt(noise) > 0.03
