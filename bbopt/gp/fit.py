"""Maximum-a-posteriori hyperparameters: warm where possible, cold often enough, and when to
refit.

Steps are those of scoring with the average information, corrected by the change of gradient
over the last step: a warm fit takes one to four evaluations, a cold one about ten. A warm start
can sit in another mode at small n; therefore the fit now and then also starts cold and the
better of the two is kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import NumericalError
from bbopt.gp.objective import Index, MapObjective
from bbopt.gp.priors import HyperPriors
from bbopt.numerics.ascent import AscentSettings, ascend

Array = NDArray[np.float64]
MANY_MODES_UNTIL: Final = 40
"""Observations up to which a cold fit starts from several points. At 12 and 20, one start
missed the best mode by more than 0.1 nat on a tenth of the data sets, these four on one in
eighty."""
COLD_SHIFTS: Final = ((0.0, None), (-1.0, None), (0.0, -3.0), (1.0, -3.0))
"""Where they are: the prior's mode, this added to every log length scale, and this for the log
noise variance where it is given; long length scales with little noise are far from anything."""
COLD_IMPROVEMENT: Final = 1e-3
"""Nats by which a cold start must win before a warm mode is left."""
INFORMED_UNTIL: Final = 400
"""Hyperparameters above which their information matrix costs more than it saves."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Stopping rules; the defaults lose less than 0.01 nat against convergence, but for warm
    starts that have far to go: the next fit carries those on.
    """

    max_iterations_cold: int = 60
    max_iterations_warm: int = 15
    tolerance_cold: float = 1e-3
    """Nats; a cold start ends where the information promises no more than this, or after a
    smaller improvement."""
    tolerance_warm: float = 5e-3
    """Likewise for a warm start."""

    def __post_init__(self) -> None:
        """Refuse rules that stop never or at once."""
        if min(self.max_iterations_cold, self.max_iterations_warm) < 1:
            raise ValueError("a fit needs at least one iteration")
        if not (self.tolerance_cold > 0.0 and self.tolerance_warm > 0.0):
            raise ValueError("tolerances must be positive")

    def cold(self) -> AscentSettings:
        """Return the rules of an ascent from a cold start."""
        return _rules(self.max_iterations_cold, self.tolerance_cold, ())

    def warm(self, leave_out_behind: float) -> AscentSettings:
        """Return those from warm starts; one so many nats behind the best is left alone."""
        return _rules(self.max_iterations_warm, self.tolerance_warm, ((0, leave_out_behind),))


def _rules(
    max_iterations: int, tolerance: float, prune_at: tuple[tuple[int, float], ...]
) -> AscentSettings:
    return AscentSettings(
        max_iterations,
        gradient_tolerance=0.0,
        value_tolerance=tolerance,
        promise_tolerance=tolerance,
        prune_at=prune_at,
        catch_up=math.inf,
    )


@dataclass(frozen=True, slots=True)
class FitResult:
    """Where the fits of all kernels ended."""

    theta: Array
    """Shape ``(E, G + 2)``."""
    values: Array
    """Negative log posterior in nats, ``(E,)``."""
    n_evaluations: int
    """Of the objective, counting every kernel."""


def fit_map(
    objective: MapObjective,
    priors: HyperPriors,
    *,
    warm_start: Array | None,
    is_cold_due: bool = False,
    leave_out_behind: float = math.inf,
    settings: FitSettings | None = None,
) -> FitResult:
    """Maximise the log posterior of every kernel within the bounds of the priors.

    Args:
        objective: The objective.
        priors: Gives the cold start (its mode) and the bounds.
        warm_start: The previous ``theta``, shape ``(E, G + 2)``, or ``None`` to start cold.
        is_cold_due: Start cold as well and keep the better result.
        leave_out_behind: A kernel that is so many nats behind the best one at the warm starts
            stays where it is, unless a cold start is due.
        settings: Stopping rules.

    Returns:
        The better result for every kernel.

    Raises:
        NumericalError: Some kernel has no start with a finite value.
    """
    settings = settings or FitSettings()
    members = np.arange(len(objective.kernels))
    theta = np.tile(priors.mode(), (len(members), 1))
    values = np.full(len(members), np.inf)
    n_evaluations = 0
    if warm_start is not None:
        behind = math.inf if is_cold_due else leave_out_behind
        theta, values, n_evaluations = _climb(
            objective, priors, warm_start, members, settings.warm(behind)
        )
    starts = _cold_starts(priors, objective.n)
    for member in members[np.full(len(members), is_cold_due) | ~np.isfinite(values)]:
        ended, reached, n_used = _climb(
            objective, priors, starts, np.full(len(starts), member), settings.cold()
        )
        n_evaluations += n_used
        best = int(np.argmin(reached))
        if not reached[best] >= values[member] - COLD_IMPROVEMENT:
            theta[member], values[member] = ended[best], reached[best]
    if not np.isfinite(values).all():
        raise NumericalError("no hyperparameters give a covariance that can be factorized")
    return FitResult(theta, values, n_evaluations)


def fit_warm_together(
    objectives: Sequence[MapObjective],
    priors: HyperPriors,
    warm_starts: Sequence[Array],
    *,
    leave_out_behind: float = math.inf,
    settings: FitSettings | None = None,
) -> list[Array | None]:
    """Climb from the warm starts of several targets at once, as ``fit_map`` does from each.

    Args:
        objectives: Of different targets at the same rows.
        priors: Of all of them.
        warm_starts: Of each the previous ``theta``, shape ``(E, G + 2)``.
        leave_out_behind: As for ``fit_map``, among the kernels of one target.
        settings: Stopping rules.

    Returns:
        Of each the ``theta`` that ``fit_map`` would find if no cold start were due, but for
        rounding; ``None`` where it would need one.
    """
    settings = settings or FitSettings()
    n_kernels = np.array([len(objective.kernels) for objective in objectives])
    target = np.repeat(np.arange(len(objectives)), n_kernels)
    joined = MapObjective.joined(objectives)
    # Kernels of the same family side by side are evaluated by the same operations.
    order = np.array(sorted(range(len(target)), key=lambda m: joined.kernels[m].value))
    ended, reached, _ = _climb(
        joined,
        priors,
        np.concatenate(warm_starts)[order],
        order,
        settings.warm(leave_out_behind),
        rivals=target[order],
    )
    theta, values = np.empty_like(ended), np.empty_like(reached)
    theta[order], values[order] = ended, reached
    return [
        theta[mine] if np.isfinite(values[mine]).all() else None
        for mine in (target == t for t in range(len(objectives)))
    ]


def _cold_starts(priors: HyperPriors, n: int) -> Array:
    """Return where a cold fit starts: the prior's mode, with few observations also beside
    it.
    """
    shifts = COLD_SHIFTS if n <= MANY_MODES_UNTIL else COLD_SHIFTS[:1]
    starts = np.tile(priors.mode(), (len(shifts), 1))
    for start, (shift, log_noise) in zip(starts, shifts, strict=True):
        start[: priors.n_length_scales] += shift
        if log_noise is not None:
            start[priors.n_length_scales] = log_noise
    return starts


def _climb(
    objective: MapObjective,
    priors: HyperPriors,
    starts: Array,
    members: Index,
    settings: AscentSettings,
    *,
    rivals: Index | None = None,
) -> tuple[Array, Array, int]:
    """Climb from all starts as one program; return ends, negative log posteriors and how many
    covariances were factorized.
    """
    lower, upper = (np.tile(bound, (len(starts), 1)) for bound in priors.bounds())
    n_rows = 0

    def evaluate(thetas: Array, rows: Index) -> tuple[Array, Array]:
        nonlocal n_rows
        n_rows += len(rows)
        return objective.evaluate(thetas, members[rows])

    def evaluate_with_information(thetas: Array, rows: Index) -> tuple[Array, Array, Array]:
        nonlocal n_rows
        n_rows += len(rows)
        return objective.evaluate_with_information(thetas, members[rows])

    is_informed = priors.size <= INFORMED_UNTIL
    ended = ascend(
        evaluate,
        np.clip(starts, lower, upper),
        lower,
        upper,
        scale=np.ones(priors.size),
        settings=settings,
        with_curvature=evaluate_with_information if is_informed else None,
        n_curved=settings.max_iterations + 1,
        rivals=rivals,
    )
    return ended.X, -ended.values, n_rows


@dataclass(frozen=True, slots=True)
class RefitSchedule:
    """When hyperparameters are worth renewing; a function of counts only, so that it
    replays.
    """

    every_tell_until: int = 200
    """Up to this many observations each new one triggers a refit: skipping costs as much regret
    as answering stale."""
    growth: float = 0.02
    """Beyond that, refit when the data have grown by this fraction."""
    cold_every: int = 10
    """Start cold as well whenever the number of observations passes a multiple of this; ten
    times as rarely beyond ``every_tell_until``, where modes are few and cold fits take long."""

    def __post_init__(self) -> None:
        """Refuse a schedule that never or always fires by accident."""
        if self.every_tell_until < 0 or self.growth < 0.0 or self.cold_every < 1:
            raise ValueError(f"not a schedule: {self}")

    def is_due(self, n: int, n_fitted: int) -> bool:
        """Say whether to refit ``n`` observations after a fit at ``n_fitted``."""
        if n == n_fitted or n < 1:
            return False
        if n <= self.every_tell_until or n_fitted < 1:
            return True
        return n >= math.ceil(n_fitted * (1.0 + self.growth))

    def is_cold_due(self, n: int, n_fitted: int) -> bool:
        """Say whether a refit at ``n`` should also start cold."""
        every = self.cold_every * (1 if n <= self.every_tell_until else 10)
        return n_fitted < 1 or n // every > n_fitted // every
