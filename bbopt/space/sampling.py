"""Uniform draws from the feasible part of the unit cube.

Three ways, from exact to robust: the polytope of the linear constraints on real parameters
is sampled by itself (in closed form for a plain simplex, by rejection where that is cheap,
else by hit-and-run); what is left is met by rejection; and where rejection would go on for
ever, draws are moved into the feasible set one constraint at a time.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from bbopt.errors import EmptyFeasibleSetError
from bbopt.space.column import choices_of, grid_of
from bbopt.space.conditions import AllOf, parents
from bbopt.space.constraints import Exclude, Linear
from bbopt.space.grid import FloatArray, IntArray
from bbopt.space.hit_and_run import HitAndRun
from bbopt.space.parameters import Float, Parameter
from bbopt.space.polytope import Polytope

if TYPE_CHECKING:
    from bbopt.space.codec import Codec

MAX_DRAWS = 5_000
"""Draws (rejection and moved ones together) before the feasible set counts as empty."""
WORTHWHILE = 0.1
"""Share of accepted draws above which rejection is cheaper than anything else."""
HOPELESS = 0.002
"""Share of accepted draws below which draws are moved instead."""
N_PROBES = 1000
MAX_REPAIRS = 50
"""Constraints mended in one draw before it is given up."""


class PolytopeSampler:
    """Draws from a polytope, one group of entangled columns after the other.

    What hit-and-run needs to know is computed at the first draw, from a seed of its own: a
    draw depends on nothing but its generator.
    """

    def __init__(self, polytope: Polytope) -> None:
        self._parts: list[tuple[IntArray, Polytope, HitAndRun | None]] = []
        for columns in polytope.components():
            part = polytope.restricted(columns)
            direct = _plain_simplex(part) is not None or _is_roomy(part)
            self._parts.append((columns, part, None if direct else HitAndRun(part)))

    def fill(self, X: FloatArray, rng: np.random.Generator) -> None:
        """Overwrite the columns that take part in rows ``(n, D)`` with uniform draws."""
        for columns, part, chains in self._parts:
            if chains is not None:
                X[:, columns] = chains.draw(rng, len(X))
                continue
            side = _plain_simplex(part)
            if side is None:
                X[:, columns] = _rejected(part, rng, len(X))
            else:
                gaps = rng.standard_exponential((len(X), len(side)))
                X[:, columns] = side * gaps / gaps.sum(axis=1, keepdims=True)


def sample_feasible(
    codec: "Codec", sampler: PolytopeSampler | None, rng: np.random.Generator, n: int
) -> FloatArray:
    """Draw ``n`` feasible canonical rows ``(n, D)``.

    Raises:
        EmptyFeasibleSetError: ``MAX_DRAWS`` in a row found nothing.
    """
    found: list[FloatArray] = []
    n_found = n_drawn = 0
    # Where the sampler meets every constraint, nothing is rejected but rounding.
    n_spare = 1 if codec.has_only_polytope else 2
    while n_found < n:
        n_rows = min(max(n_spare * (n - n_found), 64 * (n_spare - 1)), 4096)
        X = rng.random((n_rows, codec.dim))
        if sampler is not None:
            sampler.fill(X, rng)
        X = codec.snap(X)
        X = X[codec.is_feasible(X)]
        n_drawn += n_rows
        n_found += len(X)
        found.append(X)
        if n_drawn >= N_PROBES and n_found < HOPELESS * n_drawn and n_found < n:
            found.append(_mended(codec, sampler, rng, n - n_found))
            break
    return np.concatenate([*found, np.empty((0, codec.dim))])[:n]


def _mended(
    codec: "Codec", sampler: PolytopeSampler | None, rng: np.random.Generator, n: int
) -> FloatArray:
    """Draw rows and move each into the feasible set."""
    rows: list[FloatArray] = []
    n_failed = 0
    while len(rows) < n:
        X = rng.random((1, codec.dim))
        if sampler is not None:
            sampler.fill(X, rng)
        levels = codec.levels(X)
        if _mend(codec, levels, rng):
            rows.append(codec.snap(codec.rows(levels)))
            continue
        n_failed += 1
        if n_failed * MAX_REPAIRS >= MAX_DRAWS and not rows:
            raise EmptyFeasibleSetError(f"no feasible point found in {MAX_DRAWS} draws")
    return np.concatenate(rows)


def _mend(codec: "Codec", levels: FloatArray, rng: np.random.Generator) -> bool:
    """Move one point (levels ``(1, D)``, changed in place) until every constraint holds."""
    for _ in range(MAX_REPAIRS):
        broken = codec.broken(levels)
        if not broken:
            return True
        constraint = broken[int(rng.integers(len(broken)))]
        if isinstance(constraint, Linear):
            _mend_linear(codec, constraint, levels, rng)
        else:
            _mend_exclusion(codec, constraint, levels, rng)
    return False


def _mend_linear(
    codec: "Codec", linear: Linear, levels: FloatArray, rng: np.random.Generator
) -> None:
    """Shift the parameters of a sum, in random order, until it is inside its bounds."""
    names = list(linear.coefficients)
    for k in rng.permutation(len(names)):
        total = float(codec.total(linear, levels)[0])
        gap = min(linear.upper - total, 0.0) + max(linear.lower - total, 0.0)
        if gap == 0.0:
            return
        # Part of the way half of the time: always going all the way would end every draw
        # in a corner.
        share = 1.0 if rng.random() < 0.5 else rng.random()
        j = codec.position[names[k]]
        target = (
            float(codec.user_values(levels, j)[0]) + share * gap / linear.coefficients[names[k]]
        )
        levels[0, j] = _rounded(codec.parameters[j], target, rng)


def _rounded(parameter: Parameter, target: float, rng: np.random.Generator) -> float:
    """Return the level of one of the two values around ``target``, at random."""
    values = grid_of(parameter)
    if isinstance(parameter, Float) and values is None:
        return min(max(target, parameter.low), parameter.high)
    if values is not None:
        exact, n_levels = (target - values.low) / values.step, values.n_levels
    else:
        choices = np.asarray(choices_of(parameter), dtype=np.float64)
        exact, n_levels = (
            float(np.interp(target, choices, np.arange(len(choices)))),
            len(choices),
        )
    nearest = round(exact)
    if abs(exact - nearest) > 1e-9:
        nearest = math.floor(exact) + int(rng.integers(2))
    return float(min(max(nearest, 0), n_levels - 1))


def _mend_exclusion(
    codec: "Codec", exclusion: Exclude, levels: FloatArray, rng: np.random.Generator
) -> None:
    """Draw one of the parameters of an exclusion anew."""
    names = sorted(parents(AllOf(exclusion.all_of)) & codec.position.keys())
    if names:
        fresh = codec.levels(rng.random((1, codec.dim)))
        j = codec.position[names[int(rng.integers(len(names)))]]
        levels[:, j] = fresh[:, j]


def _plain_simplex(part: Polytope) -> FloatArray | None:
    """Recognise ``sum(x_i / side_i) == 1, x >= 0`` with no side beyond the cube.

    Returns:
        The sides ``(d,)``, or ``None`` for any other polytope.
    """
    if len(part.A) or len(part.E) != 1:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        side = part.e[0] / part.E[0]
    return side if ((side > 0.0) & (side <= 1.0 + 1e-12)).all() else None


def _is_roomy(part: Polytope) -> bool:
    """Whether enough of the cube is inside for rejection."""
    if len(part.E):
        return False
    probes = np.random.Generator(np.random.Philox(key=1)).random((N_PROBES, part.A.shape[1]))
    return float((part.violation(probes) == 0.0).mean()) >= WORTHWHILE


def _rejected(part: Polytope, rng: np.random.Generator, n: int) -> FloatArray:
    """Draw from the cube until ``n`` points are inside."""
    found = np.empty((0, part.A.shape[1]))
    while len(found) < n:
        x = rng.random((int(1.5 * n / WORTHWHILE) + 16, part.A.shape[1]))
        found = np.concatenate([found, x[part.violation(x) == 0.0]])
    return found[:n]
