"""The default strategy: Gaussian processes and (constrained) log expected improvement.

It starts with the space's default point or its middle and quasi-random points, then lets the
models choose. A failed fit never fails an ask; the ladder is: the newest hyperparameters, the
same with jitter, the earlier ones, the prior's mode, a quasi-random point. Whatever is below
the first rung says so in its provenance. So does what was computed on the CPU because a device
had no memory left.
"""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import ClassVar, Final

import numpy as np
import torch

from bbopt.errors import NumericalError
from bbopt.gp import GPModel
from bbopt.numerics import FAILURES, stream
from bbopt.numerics.devices import is_out_of_memory
from bbopt.search import Found, maximise_batch
from bbopt.specs import CAPABILITIES, Capabilities, GPSpec
from bbopt.strategies.candidates import Supply, has_row, is_deterministic
from bbopt.strategies.design import suggestions
from bbopt.strategies.gp_answers import Answers, moments_of
from bbopt.strategies.gp_design import first_row, n_initial
from bbopt.strategies.gp_devices import CPU, DevicePlan
from bbopt.strategies.gp_goal import Goal
from bbopt.strategies.gp_region import RegionSearch
from bbopt.strategies.gp_settings import CHOICES, GPChoices
from bbopt.strategies.gp_surrogates import (
    Surrogates,
    is_noise_visible,
    name_rescues,
    read_hyperparameters,
)
from bbopt.strategies.outputs import finite
from bbopt.strategies.pace import Effort
from bbopt.strategies.row_counter import RowCounter
from bbopt.strategies.saved import read_scalars
from bbopt.strategies.strategy import (
    Array,
    Moments,
    Predictions,
    Recommendation,
    Status,
    StrategyContext,
)
from bbopt.trial import Predicted, Provenance, StrategyState, Suggestion

N_WARM_STARTS: Final = 3
N_GREEDY: Final = 16
"""Points outstanding up to which each further one is searched given all others; beyond, the
others hardly change what one more point gains, and a trust region gives them."""
WIDE_COST: Final = 8
"""Points' searches that take as long as a batch from the trust region."""


class GPSearch(RowCounter):
    """Constrained Bayesian optimization on the engine."""

    capabilities: ClassVar[Capabilities] = CAPABILITIES[GPSpec]

    def __init__(
        self,
        context: StrategyContext,
        spec: GPSpec,
        state: StrategyState | None,
        *,
        choices: GPChoices | None = None,
    ) -> None:
        """Start, or continue from a state.

        Args:
            context: The study.
            spec: Settings.
            state: From ``state()``.
            choices: What to do instead of what the settings call for.
        """
        scalars = read_scalars(state, "gp")
        super().__init__(scalars)
        arrays = {} if state is None else state.arrays
        self._context = context
        self._choices = choices or CHOICES[spec.quality]
        self._supply = Supply(context)
        self._n_initial = n_initial(context, spec)
        self._first = first_row(context, starts_at_center=self._choices.starts_at_center)
        self._n_asked = int(scalars.get("n_asked", 0))
        self._counter = int(scalars.get("counter", 0))
        self._optima: Array = np.array(arrays.get("optima", self._supply.nothing()))
        self._devices = DevicePlan(context.device, scalars)
        self._surrogates = Surrogates(
            context,
            self._choices.model,
            self._devices.current,
            saved=read_hyperparameters(scalars, arrays),
            anchor=int(scalars.get("anchor", 0)),
            is_noisy=bool(scalars.get("is_noisy", 0)),
        )
        of_objective = self._surrogates.settings_of_objective()
        self._region = RegionSearch(context, of_objective, state=state)
        self._pace = context.pace
        self._answers = Answers(context, self._choices.model)

    # ------------------------------------------------------------------ protocol

    def state(self) -> StrategyState:
        """Return counters, hyperparameters and warm starts."""
        scalars = {
            "n_asked": self._n_asked,
            "counter": self._counter,
            "n_told": self._n_told,
            **self._surrogates.scalars(),
            **self._devices.scalars(n_asked=self._n_asked),
            **self._region.scalars(),
        }
        arrays = {
            "optima": self._optima,
            **self._surrogates.arrays(),
            **self._region.arrays(),
        }
        return StrategyState("gp", 1, scalars, arrays)

    def ask(self, n: int, *, time_left_s: float | None = None) -> list[Suggestion]:
        """Suggest up to ``n`` points; see the module for what happens when something fails."""
        found = self._initial(n)
        if len(found) < n and self._status is Status.RUNNING:
            earlier = [self._context.codec.encode(s.parameters) for s in found]
            pending = np.concatenate(
                [self._context.columns.pending, np.array(earlier).reshape(-1, self._dim)]
            )
            found += self._on_a_device(n - len(found), pending, time_left_s)
        self._n_asked += 1
        return found

    # ------------------------------------------------------------------ before the model

    @property
    def _dim(self) -> int:
        return self._context.codec.dim

    def _initial(self, n: int) -> list[Suggestion]:
        """Return what an ask hands out before models take over."""
        columns = self._context.columns
        n_rows, n_seen = len(columns.X), len(columns.X) + len(columns.pending)
        self._status = Status.RUNNING
        # With hardly a result in, a model would only spread points as a Sobol sequence does.
        is_blind = self._dim == 0 or n_rows < max(2, self._n_initial // 2)
        n_wanted = n if is_blind else min(n, max(0, self._n_initial - n_seen))
        found: list[Suggestion] = []
        taken = self._supply.nothing()
        first = self._first if n_wanted and self._n_asked == 0 else None
        if first is not None and not has_row(self._supply.seen(), first[0]):
            found = suggestions(self._context, [first[0]], first[1], reason="initial design")
            taken = first[0][None]
        rows, self._counter = self._supply.take_sobol(
            n_wanted - len(found), self._counter, taken=taken
        )
        found += suggestions(self._context, rows, "sobol", reason="initial design")
        if len(found) < n_wanted:
            self._status = Status.EXHAUSTED
        return found

    def _quasi_random(self, n: int, reason: str) -> list[Suggestion]:
        rows, self._counter = self._supply.take_sobol(n, self._counter)
        if len(rows) < n:
            self._status = Status.EXHAUSTED
        plain = suggestions(self._context, rows, "sobol", reason=reason)
        return [replace(s, provenance=replace(s.provenance, degraded_from="gp")) for s in plain]

    # ------------------------------------------------------------------ with the model

    def _on_a_device(
        self, n: int, pending: Array, time_left_s: float | None
    ) -> list[Suggestion]:
        """Compute where the plan says, and again on the CPU if there is no memory there."""
        give_up_at = None if time_left_s is None else time.perf_counter() + time_left_s
        device = self._devices.choose(
            len(self._context.columns.X),
            self._dim,
            n_asked=self._n_asked,
            time_left_s=time_left_s,
        )
        if device != self._surrogates.device:
            self._surrogates.move_to(device)
            self._pace.forget()
        saved, anchor = dict(self._surrogates.saved), self._surrogates.anchor
        is_noisy = self._surrogates.is_noisy
        optima, counter, region = self._optima, self._counter, copy(self._region)
        try:
            return self._model_based(n, pending, _seconds_until(give_up_at))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Here nothing holds the tensors of what failed any more, as the error's traceback did.
        self._devices.spare(n_asked=self._n_asked)
        self._surrogates = Surrogates(
            self._context,
            self._choices.model,
            CPU,
            saved=saved,
            anchor=anchor,
            is_noisy=is_noisy,
        )
        self._optima, self._counter, self._status = optima, counter, Status.RUNNING
        self._region = region
        self._answers = Answers(self._context, self._choices.model)
        self._pace.forget()
        torch.cuda.empty_cache()
        notes = f"out of memory on {device}: computed on the CPU"
        found = self._model_based(n, pending, _seconds_until(give_up_at))
        return [_degraded(suggestion, notes) for suggestion in found]

    def _model_based(
        self, n: int, pending: Array, time_left_s: float | None
    ) -> list[Suggestion]:
        """Go down the ladder until something answers."""
        n_rows, n_models = len(self._context.columns.X), len(self._surrogates.outputs) - 1
        n_searched = self._n_searched(n, len(pending))
        effort = self._pace.effort(
            n=n_searched, n_rows=n_rows, n_models=n_models, time_left_s=time_left_s
        )
        if effort is Effort.NONE:
            return self._quasi_random(n, f"{time_left_s:.3f} s left, too short for a model")
        notes = ""
        try:
            start = time.perf_counter()
            if effort is Effort.FULL:
                models, notes = self._surrogates.refit()
            else:
                models = self._surrogates.condition()
                notes = f"{time_left_s:.3f} s left: no refit, short search"
            middle = time.perf_counter()
            found = self._search(n, pending, models, is_short=effort is Effort.SHORT)
        except FAILURES as error:
            return self._at_prior_mode(n, pending, error)
        self._pace.learn(
            n=n_searched,
            n_rows=n_rows,
            n_models=n_models,
            fit_s=middle - start if effort is Effort.FULL else None,
            search_s=time.perf_counter() - middle,
        )
        return self._suggestions(n, found, models, notes)

    def _n_searched(self, n: int, n_pending: int) -> int:
        """Return for how many points' search an ask takes as long as for this one."""
        if not self._region.is_usable(bool(self._context.columns.feasible.any())):
            return n
        return min(n, max(0, N_GREEDY - n_pending) + WIDE_COST)

    def _at_prior_mode(self, n: int, pending: Array, error: Exception) -> list[Suggestion]:
        self._surrogates.forget_hyperparameters()
        self._region.forget_hyperparameters()
        self._optima = self._supply.nothing()
        try:
            models = self._surrogates.condition()
            found = self._search(n, pending, models, is_short=True)
        except FAILURES as second:
            self._surrogates.forget_hyperparameters()
            return self._quasi_random(n, f"the model failed: {error}; then: {second}")
        return self._suggestions(n, found, models, f"prior-mode hyperparameters: {error}")

    def _search(
        self, n: int, pending: Array, models: dict[str, GPModel], *, is_short: bool
    ) -> list[Found]:
        """Choose ``n`` rows: greedily, each with the earlier ones pending, while few are
        outstanding, then from the trust region.
        """
        codec, choices = self._context.codec, self._choices
        rng = stream(self._context.seed, "gp", self._n_asked)
        goal = Goal(
            self._context,
            models,
            self._surrogates,
            choices.n_fantasies,
            is_augmented=choices.is_augmented,
        )
        has_warm_starts = len(self._optima) > 0
        is_small = is_short or has_warm_starts
        n_greedy = n
        if self._region.is_usable(goal.is_improving):
            n_greedy = min(n, max(0, N_GREEDY - len(pending)))
        found: list[Found] = []

        def greedily(n: int) -> None:
            for taken in self._taken(models, pending) if n > len(found) else []:
                found.extend(
                    maximise_batch(
                        lambda rows: goal.acquisition(rows, rng),
                        codec,
                        rng,
                        n=n - len(found),
                        pending=_with(pending, found),
                        incumbents=goal.incumbents(),
                        taken=taken,
                        warm_starts=self._optima if has_warm_starts else None,
                        length_scales=goal.length_scales(),
                        settings=choices.warm if is_small else choices.first,
                    )
                )
                if len(found) == n:
                    break
            if not all(np.isfinite(each.value) for each in found if not each.reason):
                raise NumericalError(
                    "the acquisition is not a number wherever it was evaluated"
                )

        greedily(n_greedy)
        if found:
            self._optima = found[0].optima[:N_WARM_STARTS].copy()
        if n > n_greedy:
            found += self._region.choose(
                n - len(found),
                _with(pending, found),
                anywhere=models["objective"],
                n_outstanding=len(self._context.columns.pending),
                draw_feasibility=goal.draw_feasibility,
                rng=stream(self._context.seed, "gp", "region", self._n_asked),
                has_time=not is_short,
            )
            greedily(n)
        return found

    def _taken(self, models: dict[str, GPModel], pending: Array) -> list[Array]:
        """Return the rows not to repeat: strictly first, then, with noise, more freely."""
        seen = self._context.columns.X
        if is_deterministic(self._context.problem):
            return [np.concatenate([seen, pending])]
        is_discrete = all(column.n_levels > 0 for column in self._context.codec.columns)
        objective = models.get("objective")
        if is_discrete and objective is not None and is_noise_visible(objective):
            return [pending, self._supply.nothing()]
        return [np.concatenate([seen, pending]), pending, self._supply.nothing()]

    def _suggestions(
        self, n: int, found: Sequence[Found], models: dict[str, GPModel], notes: str
    ) -> list[Suggestion]:
        """Turn rows into suggestions that carry what the models expect there."""
        notes = "; ".join([notes] * bool(notes) + name_rescues(models))
        if len(found) < n:
            # Every point is under way; where there may be noise, some are worth repeating then.
            is_over = is_deterministic(self._context.problem)
            self._status = Status.EXHAUSTED if is_over else Status.WAITING
        if not found:
            return []
        rows = np.array([each.x for each in found])
        moments = moments_of(self._surrogates.outputs, models, rows)
        result = []
        for index, each in enumerate(found):
            predicted = {
                name: Predicted(float(m.mean[index]), float(m.sd[index]))
                for name, m in moments.items()
                if finite(Moments(m.mean[index], m.sd[index]))
            }
            provenance = Provenance(
                "gp",
                degraded_from="gp" if notes else "",
                reason=notes or each.reason,
                acquisition_value=each.value if np.isfinite(each.value) else None,
                predicted=predicted,
            )
            result.append(Suggestion(self._context.codec.decode(each.x), provenance))
        return result

    # ------------------------------------------------------------------ answers

    def recommend(self) -> Recommendation | None:
        """Choose the best feasible trial: by the model's mean where the objective is noisy."""
        return self._answers.recommend(self._surrogates)

    def predict(self, X: Array) -> Predictions:
        """Predict every measured metric at canonical rows.

        Raises:
            PreconditionError: Fewer than two results are in.
            NumericalError: Not even the prior's mode gives numbers.
        """
        return self._answers.predict(self._surrogates, X)


def _seconds_until(give_up_at: float | None) -> float | None:
    return None if give_up_at is None else give_up_at - time.perf_counter()


def _degraded(suggestion: Suggestion, reason: str) -> Suggestion:
    provenance = suggestion.provenance
    reason = "; ".join(filter(None, (provenance.reason, reason)))
    provenance = replace(provenance, degraded_from="gp", reason=reason)
    return replace(suggestion, provenance=provenance)


def _with(rows: Array, found: Sequence[Found]) -> Array:
    return np.concatenate([rows, *[each.x[None] for each in found]])
