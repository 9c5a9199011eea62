"""Find the best canonical feasible row for an acquisition, whatever the columns are.

Candidates everywhere and round the incumbents, a Boltzmann choice of starts, then ascents on
the continuous columns interleaved with moves on the discrete ones. The answer never repeats a
taken row. All randomness comes from the generator that is passed in.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bbopt.acquisition import Acquisition, BoundedAcquisition
from bbopt.numerics.ascent import AscentSettings, ascend
from bbopt.numerics.devices import to_host
from bbopt.search.candidates import (
    SEPARATION,
    choose_starts,
    is_taken,
    local_candidates,
    spread_candidates,
)
from bbopt.search.discrete import enumerate_rows, improve_by_moves, n_configurations
from bbopt.search.polytope_ascent import ascend_in_polytope
from bbopt.search.space import SearchSpace

Array = NDArray[np.float64]
ENUMERATE_UNTIL: Final = 4096
"""Fully discrete spaces up to this size are evaluated whole."""
PROVE_EXHAUSTION_UNTIL: Final = 200_000
"""Fully discrete spaces up to this size are written down before they are called exhausted."""
JITTER: Final = 0.02
"""Standard deviation, in unit-cube lengths, of what replaces a repeated continuous point."""
N_JITTERED: Final = 64
SCREENED_PART: Final = 6
"""A bound leaves one in so many candidates to be evaluated; the best twenty of 640 have always
been among the first 190 by it, and nearly always among the first 60."""
MIN_SCREENED: Final = 96
N_AT_ONCE: Final = 32
"""Candidates evaluated before the bounds of others are compared with their values."""
N_ALTERNATIONS: Final = 6
"""Rounds of discrete moves and ascents in a mixed space."""
OPTIMUM_SEPARATION: Final = 0.01
"""Ascents that end closer than this climbed the same hill: one warm start is enough for it."""
SCALE_BOUNDS: Final = (0.02, 20.0)


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How hard to look."""

    n_spread: int = 512
    """Candidates from all over the space, at most 4096."""
    n_local: int = 128
    """Perturbations of the incumbents."""
    n_starts: int = 8
    """Ascents from candidates; the incumbent and the warm starts come on top."""
    ascent: AscentSettings = field(default_factory=AscentSettings)

    def __post_init__(self) -> None:
        """Refuse a search that looks nowhere."""
        if not 1 <= self.n_spread <= 4096 or self.n_local < 0 or self.n_starts < 1:
            raise ValueError(f"not a search: {self}")

    @classmethod
    def small(cls) -> "SearchSettings":
        """Return what is enough when the optima of the previous ask are warm starts."""
        return cls(n_spread=256, n_local=64, n_starts=4)


@dataclass(frozen=True, slots=True)
class Found:
    """The best row, and what the next search should start from."""

    x: Array
    """Canonical and feasible, shape ``(D,)``; not among the taken rows."""
    value: float
    """Its acquisition value."""
    optima: Array
    """Where the ascents ended, best first, one row per hill, shape ``(k, D)``."""
    reason: str = ""
    """How it was found, where there is more than one way."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Every feasible row of a discrete space is taken (or none other could be found)."""


def maximise(
    acquisition: Acquisition,
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    incumbents: Array,
    taken: Array | None = None,
    warm_starts: Array | None = None,
    length_scales: Array | None = None,
    settings: SearchSettings | None = None,
) -> Found | Exhausted:
    """Maximise an acquisition over the canonical feasible rows of a space.

    Args:
        acquisition: What to maximise.
        space: The codec.
        rng: The only source of randomness.
        incumbents: The best canonical rows known, best first, shape ``(k, D)``, k >= 0; about
            five is right. The first is always climbed from.
        taken: Rows that must not be returned again (observed and pending), shape ``(n, D)``;
            pass only the pending ones where replicates are welcome.
        warm_starts: ``optima`` of the previous ask, shape ``(m, D)``.
        length_scales: The model's, shape ``(D,)``; steps are measured in them.
        settings: How hard to look.

    Returns:
        ``Found``, or ``Exhausted`` where no row is left.
    """
    search = _Search(
        acquisition,
        space,
        rng,
        taken if taken is not None else np.empty((0, space.dim)),
        np.ones(space.dim) if length_scales is None else np.clip(length_scales, *SCALE_BOUNDS),
        settings or SearchSettings(),
        np.array([column.n_levels > 0 for column in space.columns]),
    )
    with torch.inference_mode():
        if n_configurations(space) <= ENUMERATE_UNTIL:
            return search.by_enumeration()
        extra = [incumbents[:1]] if warm_starts is None else [incumbents[:1], warm_starts]
        return search.by_ascent(incumbents, np.concatenate(extra).reshape(-1, space.dim))


def maximise_batch(
    acquisition_given: Callable[[Array], Acquisition],
    space: SearchSpace,
    rng: np.random.Generator,
    *,
    n: int,
    pending: Array,
    incumbents: Array,
    taken: Array | None = None,
    warm_starts: Array | None = None,
    length_scales: Array | None = None,
    settings: SearchSettings | None = None,
) -> list[Found]:
    """Choose several rows greedily: each is searched with the earlier ones as pending.

    Args:
        acquisition_given: Builds the acquisition for pending rows of shape ``(p, D)``, p >= 0.
        space: The codec.
        rng: The only source of randomness.
        n: Number of rows wanted.
        pending: Rows already outstanding, shape ``(p, D)``.
        incumbents: As for ``maximise``.
        taken: As for ``maximise``; pending rows are always taken.
        warm_starts: As for ``maximise``, for the first row.
        length_scales: As for ``maximise``.
        settings: For the first row; the others look a quarter less hard.

    Returns:
        At most ``n`` results; fewer when the space is exhausted.
    """
    settings = settings or SearchSettings()
    found: list[Found] = []
    own = np.empty((0, space.dim)) if taken is None else taken
    for _ in range(n):
        result = maximise(
            acquisition_given(pending),
            space,
            rng,
            incumbents=incumbents,
            taken=np.concatenate([own, pending]),
            warm_starts=warm_starts,
            length_scales=length_scales,
            settings=settings,
        )
        if isinstance(result, Exhausted):
            break
        if not found:
            settings = replace(
                settings,
                n_spread=max(64, settings.n_spread * 3 // 4),
                n_starts=max(3, settings.n_starts * 3 // 4),
            )
        found.append(result)
        pending = np.concatenate([pending, result.x[None]])
        warm_starts = result.optima[:3]
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    """One search: the acquisition on host arrays and the steps of ``maximise``."""

    acquisition: Acquisition
    space: SearchSpace
    rng: np.random.Generator
    taken: Array
    scale: Array
    settings: SearchSettings
    is_discrete: NDArray[np.bool_]
    """Of each column, ``(D,)``."""

    # ------------------------------------------------------------------ evaluation

    def value(self, X: Array) -> Array:
        """Evaluate canonical rows; NaN counts as ``-inf``."""
        if not len(X):
            return np.empty(0)
        rows = torch.from_numpy(np.ascontiguousarray(X)).to(self.acquisition.device)
        values = self.acquisition.value(rows).cpu().numpy()
        return np.where(np.isnan(values), -np.inf, values)

    def _evaluate(self, X: Array) -> tuple[Array, Array]:
        rows = torch.from_numpy(np.ascontiguousarray(X)).to(self.acquisition.device)
        values, gradients = to_host(*self.acquisition.value_and_gradient(rows))
        if not self.space.has_constraints and math.isfinite(values.sum() + gradients.sum()):
            return values, gradients
        is_bad = ~(np.isfinite(values) & np.isfinite(gradients).all(axis=1))
        if self.space.has_constraints:
            is_bad |= ~self.space.is_feasible(X)
        if is_bad.any():
            values = np.where(is_bad, -np.inf, values)
            gradients = np.where(is_bad[:, None], 0.0, gradients)
        return values, gradients

    # ------------------------------------------------------------------ ways to search

    def by_enumeration(self) -> Found | Exhausted:
        """Evaluate every row of a small discrete space."""
        rows = enumerate_rows(self.space)
        values = self.value(rows)
        order = np.argsort(-values, kind="stable")
        return self._first_free(rows[order], values[order]) or Exhausted()

    def by_ascent(self, incumbents: Array, extra: Array) -> Found | Exhausted:
        """Screen candidates, climb from the best of them and from ``extra``."""
        extra = self._canonical(extra)
        candidates = np.concatenate(
            [
                extra,
                spread_candidates(self.space, self.rng, self.settings.n_spread),
                local_candidates(
                    self.space, self.rng, self.settings.n_local, incumbents=incumbents
                ),
            ]
        )
        values = self._screen(candidates, len(extra))
        n_starts = self.settings.n_starts * (2 if self.is_discrete.any() else 1)
        chosen = np.unique(
            np.concatenate(
                [
                    choose_starts(values, n_starts, self.rng),
                    np.arange(len(extra)),
                    self._best_of_each_configuration(candidates, values),
                ]
            )
        )
        starts = candidates[chosen]
        if self.space.is_box:
            starts = self.space.snap(starts)
        X, found = self._climb(starts, values[chosen])
        optima, _ = _distinct(X, found, OPTIMUM_SEPARATION)
        order = np.argsort(-found, kind="stable")
        # The best candidate was climbed from: nothing is better than the best end.
        top = X[order[0]]
        if not is_taken(top[None], self.taken)[0]:
            return Found(top, float(found[order[0]]), optima)
        if self.space.is_box:
            candidates = self.space.snap(candidates)
        rows = np.concatenate([X, candidates])
        all_values = np.concatenate([found, values])
        order = np.argsort(-all_values, kind="stable")
        result = self._first_free(rows[order], all_values[order], optima)
        if result is not None and not _is_same(result.x, top):
            result = self._jittered(top, result)
        return result or self._any_free_row()

    def _screen(self, X: Array, n_first: int) -> Array:
        """Evaluate candidates; where a bound is cheap, only those that it says are promising.

        Args:
            X: Canonical rows, shape ``(n, D)``.
            n_first: So many rows are always evaluated.

        Returns:
            Values, ``(n,)``; ``-inf`` for the others.
        """
        n_evaluated = max(MIN_SCREENED, len(X) // SCREENED_PART)
        acquisition = self.acquisition
        if (
            not isinstance(acquisition, BoundedAcquisition)
            or not acquisition.does_bound_pay
            or n_evaluated >= len(X)
            or self.is_discrete.any()
        ):
            return self.value(X)
        rows = torch.from_numpy(np.ascontiguousarray(X)).to(acquisition.device)
        bounds = acquisition.upper_bound(rows).cpu().numpy()
        bounds[:n_first] = np.inf
        chosen = np.argsort(-bounds, kind="stable")[:n_evaluated]
        values = np.full(len(X), -np.inf)
        first = chosen[: max(N_AT_ONCE, n_first + self.settings.n_starts)]
        values[first] = self.value(X[first])
        # What is bounded by less than so many values is not among the best so many.
        needed = np.sort(values[first])[-min(self.settings.n_starts, len(first))]
        others = chosen[len(first) :]
        others = others[bounds[others] > needed]
        values[others] = self.value(X[others])
        return values

    def _canonical(self, X: Array) -> Array:
        if not len(X):
            return X
        rows = self.space.snap(X)
        return rows[self.space.is_feasible(rows)] if self.space.has_constraints else rows

    def _best_of_each_configuration(self, X: Array, values: Array) -> NDArray[np.intp]:
        """Return the best candidate of each of the best discrete configurations."""
        is_discrete = self.is_discrete
        if not is_discrete.any() or is_discrete.all():
            return np.empty(0, dtype=np.intp)
        order = np.argsort(-values, kind="stable")
        _, first = np.unique(X[order][:, is_discrete], axis=0, return_index=True)
        return order[np.sort(first)[: self.settings.n_starts]]

    # ------------------------------------------------------------------ climbing

    def _climb(self, X: Array, values: Array) -> tuple[Array, Array]:
        """Alternate ascents and discrete moves; return canonical feasible rows and values."""
        is_discrete = self.is_discrete
        if is_discrete.all():
            return improve_by_moves(
                self.value, self.space, X, values, rng=self.rng, max_rounds=100
            )
        X, values = self._ascend(X, values)
        if not is_discrete.any():
            return X, values
        # Rows that climbed to the same place walk on together.
        X, values = _distinct(X, values)
        for _ in range(N_ALTERNATIONS):
            moved, moved_values = improve_by_moves(
                self.value, self.space, X, values, rng=self.rng, max_rounds=2
            )
            changed = np.nonzero(moved_values > values)[0]
            if not len(changed):
                break
            X, values = moved, moved_values
            X[changed], values[changed] = self._ascend(X[changed], values[changed])
        return X, values

    def _ascend(self, X: Array, values: Array) -> tuple[Array, Array]:
        """Climb on the active continuous columns; never return something worse."""
        columns = self.space.columns
        is_free = np.broadcast_to(~self.is_discrete, X.shape)
        if not self.space.is_box:
            is_free = is_free & self.space.active(X)
        if not is_free.any():
            return X, values
        if self.space.polytope is not None:
            ended = ascend_in_polytope(
                self._evaluate_moving,
                X,
                self.space.project,
                settings=self.settings.ascent,
            ).X
        else:
            # A periodic column may run past its end; features do not notice.
            margin = np.array([float(column.periodic) for column in columns])
            if self.space.has_constraints:
                margin[:] = 0.0
            ended = ascend(
                lambda rows, _: self._evaluate(rows),
                X,
                np.where(is_free, 0.0 - margin, X),
                np.where(is_free, 1.0 + margin, X),
                scale=self.scale,
                settings=self.settings.ascent,
            ).X
            ended = np.where(is_free & (margin > 0.0), ended % 1.0, ended)
        ended = self.space.snap(np.where(is_free, ended, X))
        # Not the ascent's values: an acquisition may climb on an approximation of its own.
        ended_values = self.value(ended)
        if self.space.has_constraints:
            ended_values[~self.space.is_feasible(ended)] = -np.inf
        is_better = ended_values > values
        return np.where(is_better[:, None], ended, X), np.where(is_better, ended_values, values)

    def _evaluate_moving(self, X: Array) -> tuple[Array, Array]:
        """Evaluate with zero gradient on columns that must not move."""
        values, gradients = self._evaluate(X)
        return values, np.where(~self.is_discrete & self.space.active(X), gradients, 0.0)

    # ------------------------------------------------------------------ duplicates

    def _first_free(
        self, rows: Array, values: Array, optima: Array | None = None
    ) -> Found | None:
        """Return the first row that is not taken, or ``None``."""
        for part in (slice(0, 1), slice(1, None)):  # nearly always the very first row is free
            free = np.nonzero(~is_taken(rows[part], self.taken))[0]
            if len(free):
                row = rows[part][free[0]]
                value = float(values[part][free[0]])
                return Found(row, value, row[None] if optima is None else optima)
        return None

    def _jittered(self, top: Array, second: Found) -> Found:
        """Look near a taken optimum for something better than the second best."""
        noise = JITTER * self.rng.standard_normal((N_JITTERED, self.space.dim))
        rows = np.clip(top + np.where(self.is_discrete, 0.0, noise), 0.0, 1.0)
        rows = self._canonical(self.space.project(rows))
        values = self.value(rows)
        order = np.argsort(-values, kind="stable")
        near = self._first_free(rows[order], values[order], second.optima)
        return near if near is not None and near.value > second.value else second

    def _any_free_row(self) -> Found | Exhausted:
        """Look for any row that is left when everything the search saw is taken."""
        is_small = n_configurations(self.space) <= PROVE_EXHAUSTION_UNTIL
        rows = enumerate_rows(self.space) if is_small else self.space.sample(self.rng, 4096)
        rows = rows[~is_taken(rows, self.taken)]
        if not len(rows):
            return Exhausted()
        values = self.value(rows)
        best = int(np.argmax(values))
        return Found(rows[best], float(values[best]), rows[best][None])


def _is_same(a: Array, b: Array) -> bool:
    return bool(is_taken(a[None], b[None])[0])


def _distinct(X: Array, values: Array, separation: float = SEPARATION) -> tuple[Array, Array]:
    """Sort rows, best first, and drop those within ``separation`` of a better one."""
    order = np.argsort(-values, kind="stable")
    X, values = X[order], values[order]
    is_near = (np.abs(X[:, None] - X).max(axis=2) < separation).tolist()
    keep: list[int] = []
    for index, near in enumerate(is_near):
        if not any(near[other] for other in keep):
            keep.append(index)
    return X[keep], values[keep]
