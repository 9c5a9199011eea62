"""Many points at once from a box: what functions drawn from a model say of it jointly.

Every drawn function is a world that may be the true one. Candidates are spread over the box,
perturbations of the best results, and the maxima of some of the functions; points are taken
from them one after the other, each where it adds most to the best of the batch on average over
the worlds, and each climbs from there while that grows. What is measured or outstanding in or
near the box counts as had already. Nothing is conditioned anew between the points of a batch:
a further one costs milliseconds however many there are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bbopt.acquisition.pathwise import JointChoice, SamplePaths
from bbopt.errors import NumericalError
from bbopt.gp import GPModel
from bbopt.numerics.ascent import AscentSettings, Evaluate, ascend
from bbopt.numerics.devices import to_host
from bbopt.numerics.sobol import shifted_sobol
from bbopt.search import Found
from bbopt.search.candidates import SEPARATION, is_taken
from bbopt.search.maximise import SCALE_BOUNDS
from bbopt.space import Codec, ColumnKind
from bbopt.strategies.strategy import Array

Mask = NDArray[np.bool_]
IsFeasible: TypeAlias = Callable[[Array], Mask]
"""Says of rows ``(R, D)`` in which worlds they are feasible, ``(S, R)``."""
DrawFeasibility: TypeAlias = Callable[[int, np.random.Generator], IsFeasible | None]
"""Draws some worlds; ``None`` where nothing can be infeasible."""
REACH: Final = 1.5
"""Results are near the box up to so many half sides from its middle."""
N_PATHS: Final = 256
"""Functions drawn for a batch; the same for any size, or its first points would change."""
N_MAXIMA: Final = 64
"""Drawn functions whose maxima are candidates."""
N_CLIMBED: Final = 3
"""Candidates from which a point of the batch is looked for."""
SMALLEST_GAIN: Final = 1e-30
BLOCK: Final = 256
"""Points chosen from one sample; a longer batch draws another."""
N_CANDIDATES: Final = 1024
N_AROUND: Final = 512
N_BEST: Final = 5
AROUND_SCALES: Final = (-2.0, -0.3)
"""Exponents of ten of perturbations of the best results, in sides of the region."""
COLUMNS_MOVED: Final = 20
ASCENT: Final = AscentSettings(
    max_iterations=30, gradient_tolerance=1e-3, value_tolerance=1e-4, prune_at=()
)
CLIMB: Final = AscentSettings(max_iterations=15, value_tolerance=1e-2)


def choose_batch(
    codec: Codec,
    model: GPModel,
    n: int,
    *,
    centre: Array,
    sides: Array,
    measured: Array,
    achieved: Array,
    pending: Array,
    draw_feasibility: DrawFeasibility,
    rng: np.random.Generator,
    reason: str,
) -> list[Found]:
    """Choose points of a box; the first of a longer batch are those of a shorter one.

    Args:
        codec: Of the space.
        model: Of the objective, in the box.
        n: How many.
        centre: Of the box, a canonical row, ``(D,)``.
        sides: Of the box, ``(D,)``; categorical columns are free.
        measured: Rows not to repeat, ``(m, D)``.
        achieved: Feasible measured rows, to be improved upon if they are near, ``(k, D)``.
        pending: Outstanding rows, ``(p, D)``, p >= 0.
        draw_feasibility: Says what is feasible in each of some worlds.
        rng: The only source of randomness.
        reason: Of each point.

    Returns:
        At most ``n`` points, fewer where the box holds no more; their values are logarithms of
        what they add, in standardized units.

    Raises:
        NumericalError: What the functions say is no number.
    """
    half = np.where(is_boxed(codec), 0.5 * sides, 1.0)
    box = np.clip([centre - half, centre + half], 0.0, 1.0)
    found: list[Found] = []
    while len(found) < n:
        outstanding = np.concatenate([pending, *[each.x[None] for each in found]])
        paths = SamplePaths(model, N_PATHS, rng=rng)
        is_feasible = draw_feasibility(N_PATHS, rng)
        block = _Block(
            codec,
            model,
            paths,
            is_feasible,
            centre,
            sides,
            box,
            measured,
            achieved,
            outstanding,
        )
        chosen = block.choose(min(BLOCK, n - len(found)), rng, reason)
        if not chosen:
            break
        found += chosen
    return found


def is_boxed(codec: Codec) -> Mask:
    """Say in which columns nearness means something, ``(D,)``."""
    return np.array([column.kind is not ColumnKind.CATEGORICAL for column in codec.columns])


@dataclass(frozen=True, slots=True)
class _Block:
    """One sample of functions and candidates, from which up to ``BLOCK`` points are chosen."""

    codec: Codec
    model: GPModel
    paths: SamplePaths
    is_feasible: IsFeasible | None
    centre: Array
    sides: Array
    box: Array
    """Corners, ``(2, D)``."""
    measured: Array
    achieved: Array
    pending: Array

    def choose(self, n: int, rng: np.random.Generator, reason: str) -> list[Found]:
        """Choose up to ``n`` points."""
        taken = np.concatenate([self.measured, self.pending])
        X, values = self._judged_candidates(taken, rng)
        if not len(X):
            return []
        is_possible = None if self.is_feasible is None else self.is_feasible(X)
        choice = JointChoice(values, self._base(), is_possible=is_possible)
        can_climb = is_possible is None and not self.codec.has_constraints
        found: list[Found] = []
        while len(found) < n and (best := choice.best(N_CLIMBED)):
            index, gain = best[0]
            row, own = X[index], None
            if can_climb and gain > 0.0:
                row, gain, own = self._climb(X[[each for each, _ in best]], choice.current)
            choice.take(index, own)
            others = [each.x[None] for each in found]
            if not is_taken(row[None], np.concatenate([taken, *others]))[0]:
                value = math.log(gain) if gain > 0.0 else -math.inf
                found.append(Found(row, value, row[None], reason))
        return found

    def _judged_candidates(self, taken: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return candidates that are not taken, ``(R, D)``, and what each function says of
        them, ``(P, R)``.
        """
        X = _apart(self._candidates(rng))
        X = X[~is_taken(X, taken)]
        values = self._values(X)
        if not len(X) or self.codec.has_constraints:
            return X, values
        maxima = _apart(self._maxima(X[values.argmax(axis=1)]))
        maxima = maxima[~is_taken(maxima, np.concatenate([taken, X]))]
        both = np.concatenate([X, maxima])
        return both, np.concatenate([values, self._values(maxima)], axis=1)

    def _values(self, X: Array) -> Array:
        if not len(X):
            return np.empty((self.paths.n_paths, 0))
        with torch.inference_mode():
            values: Array = self.paths.values(self._tensor(X)).cpu().numpy()
        if not np.isfinite(values).all():
            raise NumericalError("a function drawn from the model is no number everywhere")
        return values

    def _tensor(self, X: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(X)).to(self.model.device)

    def _base(self) -> Array:
        """Return what is to be improved upon in each world: the best near the box, measured or
        outstanding.
        """
        achieved = self.achieved[self._is_near(self.achieved)]
        pending = self.pending[self._is_near(self.pending)]
        values = self._values(np.concatenate([achieved, pending]))
        if self.is_feasible is not None and len(pending):
            is_lost = ~self.is_feasible(pending)
            values[:, len(achieved) :][is_lost] = -np.inf
        if not values.shape[1]:
            values = self._values(self.centre[None])
        base: Array = values.max(axis=1)
        return np.where(np.isfinite(base), base, self._values(self.centre[None])[:, 0])

    def _is_near(self, rows: Array) -> Mask:
        half = 0.5 * (self.box[1] - self.box[0])
        apart = np.abs(rows - 0.5 * (self.box[0] + self.box[1]))
        is_near: Mask = np.all(apart <= REACH * half + 1e-9, axis=1)
        return is_near

    def _candidates(self, rng: np.random.Generator) -> Array:
        """Return canonical feasible rows of the box: spread, and near the best."""
        codec, d, box = self.codec, self.codec.dim, self.box
        boxed = is_boxed(codec)
        share_moved = min(1.0, COLUMNS_MOVED / d)
        spread = box[0] + (box[1] - box[0]) * shifted_sobol(d, N_CANDIDATES, rng)
        spread = np.where(rng.random((N_CANDIDATES, d)) < share_moved, spread, self.centre)
        near = self._best_rows()
        near = near[rng.integers(len(near), size=N_AROUND)]
        scale = 10.0 ** rng.uniform(*AROUND_SCALES, size=(N_AROUND, 1)) * self.sides
        is_moved = rng.random(near.shape) < share_moved
        near = near + np.where(is_moved, scale * rng.standard_normal(near.shape), 0.0)
        rows = np.concatenate([spread, near])
        if not boxed.all():
            chance = min(0.5, 1.0 / (~boxed).sum())
            is_drawn = ~boxed & (rng.random(rows.shape) < chance)
            kept = np.where(boxed, rows, self.centre)
            rows = np.where(is_drawn, rng.random(rows.shape), kept)
        rows = np.clip(rows, box[0], box[1])
        if codec.polytope is not None:
            rows = codec.project(rows)
        rows = codec.snap(rows)
        return rows[codec.is_feasible(rows)] if codec.has_constraints else rows

    def _best_rows(self) -> Array:
        means = self.model.weights @ self.model.fitted_means().cpu().numpy()
        best = self.model.X[np.argsort(-means, kind="stable")[:N_BEST]]
        return np.concatenate([self.centre[None], best])

    # ------------------------------------------------------------------ climbing

    def _maxima(self, starts: Array) -> Array:
        """Climb some of the drawn functions, each from its best candidate in ``starts``."""
        # Every so many functions one: kernels take their turns as their weights say.
        chosen = np.arange(0, self.paths.n_paths, self.paths.n_paths // N_MAXIMA)

        def evaluate(X: Array, start: NDArray[np.intp]) -> tuple[Array, Array]:
            values, gradients = to_host(
                *self.paths.value_and_gradient(self._tensor(X), chosen[start])
            )
            return values, gradients

        return self._ascend(evaluate, starts[chosen], ASCENT)

    def _climb(self, starts: Array, current: Array) -> tuple[Array, float, Array]:
        """Climb on what a point adds, given what each world has.

        Returns:
            The best end or start, what it adds, and what each function says of it, ``(P,)``.
        """
        have = self._tensor(current)

        def evaluate(X: Array, _: NDArray[np.intp]) -> tuple[Array, Array]:
            value, gradient = self.paths.improvement(self._tensor(X), have)
            value = value.clamp(min=SMALLEST_GAIN)
            values, gradients = to_host(value.log(), gradient / value[:, None])
            return values, gradients

        ended = np.concatenate([self._ascend(evaluate, starts, CLIMB), starts])
        values = self._values(ended)
        gains = np.maximum(values - current[:, None], 0.0).mean(axis=0)
        best = int(np.argmax(gains))
        return ended[best], float(gains[best]), values[:, best]

    def _ascend(self, evaluate: Evaluate, starts: Array, settings: AscentSettings) -> Array:
        """Climb on the active continuous columns, inside the box."""
        is_free = np.array([column.n_levels == 0 for column in self.codec.columns])
        is_free = is_free & self.codec.active(starts)
        with torch.inference_mode():
            ended = ascend(
                evaluate,
                starts,
                np.where(is_free, np.minimum(self.box[0], starts), starts),
                np.where(is_free, np.maximum(self.box[1], starts), starts),
                scale=np.clip(self.model.length_scales, *SCALE_BOUNDS),
                settings=settings,
            ).X
        return self.codec.snap(np.where(is_free, ended, starts))


def _apart(X: Array) -> Array:
    """Leave out rows that are the same point as an earlier one."""
    if len(X) < 2:
        return X
    pairs = cKDTree(X).query_pairs(SEPARATION, p=np.inf, output_type="ndarray")
    return np.delete(X, np.unique(pairs[:, 1]), axis=0)
