"""``cma_es``: CMA-ES with margin, one generation after the other.

A generation is a ``Round`` of slots. Each ask hands out its next slots; when none is left, an
ask gets nothing and the status is ``WAITING``, until enough results are in for the update.

- A trial that FAILED or was given up says nothing about its point: the slot is drawn again.
- An INFEASIBLE point ranks last, a point that breaks a measured constraint behind every
  feasible one, by how much it breaks.
- A result that comes after its generation ended counts for ``best``, not for the distribution,
  and so do points that somebody else proposed.
- A distribution that has converged starts again elsewhere with twice the population.

Source: Auger and Hansen, "A restart CMA evolution strategy with increasing population size"
(2005), for the restarts.
"""

import math
from dataclasses import replace
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from bbopt.errors import DataLossError
from bbopt.numerics import stream
from bbopt.population.cma import (
    MIN_RESULTS,
    Coordinates,
    Distribution,
    Sampler,
    default_population,
    has_converged,
    update,
)
from bbopt.population.rounds import Round, Standing, of_suggestion, of_trial
from bbopt.space import ColumnKind
from bbopt.specs import CAPABILITIES, MAX_POPULATION, Capabilities, CmaEsSpec
from bbopt.strategies.candidates import Supply, is_deterministic, row_keys
from bbopt.strategies.ranking import rank
from bbopt.strategies.recommendation import eligible_rows, recommend_measured
from bbopt.strategies.row_counter import RowCounter
from bbopt.strategies.saved import read_scalars
from bbopt.strategies.strategy import (
    Array,
    Recommendation,
    Status,
    StrategyContext,
)
from bbopt.trial import Provenance, StrategyState, Suggestion

NAME: Final = "cma_es"
MAX_SILENT_ROUNDS: Final = 50
"""Generations in a row whose every point is known already, before one ask stops trying."""
MAX_LOST: Final = 10
"""Lost slots, in generations, after which one ends with what it has: a state stays small."""
SHRINK: Final = 0.7
PULL: Final = 0.3
"""Where a whole generation is infeasible: the step shrinks to this share, and the mean goes
this share of the way to the best feasible point.
"""


class CmaEs(RowCounter):
    """Asks and tells of a distribution that learns from rankings."""

    name = NAME
    capabilities: ClassVar[Capabilities] = CAPABILITIES[CmaEsSpec]

    def __init__(
        self, context: StrategyContext, spec: CmaEsSpec, state: StrategyState | None
    ) -> None:
        """Start, or continue from a state.

        Args:
            context: The study.
            spec: Settings.
            state: From ``state()``.
        """
        scalars = read_scalars(state, NAME)
        super().__init__(scalars)
        self._context = context
        self._spec = spec
        self._supply = Supply(context)
        self._searched = searched_columns(context)
        self._coordinates = coordinates_of(context, self._searched)
        is_discrete = len(self._coordinates.real) == 0
        self._knows_repeats = is_discrete and is_deterministic(context.problem)
        self._n_suggested = int(scalars.get("n_suggested", 0))
        self._n_rounds = int(scalars.get("n_rounds", 0))
        self._n_restarts = int(scalars.get("n_restarts", 0))
        self._n_flat = int(scalars.get("n_flat", 0))
        if state is None or len(self._searched) == 0:
            self._distribution = self._start()
            self._round = Round(self._population())
        else:
            self._distribution = read_distribution(state)
            slots = tuple(int(slot) for slot in state.arrays["slots"])
            self._round = Round(self._population(), slots)
        self._sampler: Sampler | None = None
        self._draws: dict[int, tuple[Array, Array]] = {}

    # ------------------------------------------------------------------ protocol

    def state(self) -> StrategyState:
        """Return the distribution, and the trials of the generation that is open."""
        scalars = {
            "n_told": self._n_told,
            "n_suggested": self._n_suggested,
            "n_rounds": self._n_rounds,
            "n_restarts": self._n_restarts,
            "n_flat": self._n_flat,
            "sigma": self._distribution.sigma,
            "n_updates": self._distribution.n_updates,
        }
        slots = np.array(self._round.slots, dtype=np.int64)
        return StrategyState(
            NAME, 1, scalars, {**write_distribution(self._distribution), "slots": slots}
        )

    def ask(self, n: int, *, time_left_s: float | None = None) -> list[Suggestion]:
        """Hand out the next slots of the generation, at most ``n``."""
        del time_left_s  # Far quicker than any deadline.
        self._status = Status.RUNNING
        if len(self._searched) == 0:
            return self._only_point(n)
        found: list[Suggestion] = []
        taken = self._supply.nothing()
        n_silent = 0
        while len(found) < n:
            left = self._supply.unseen_cells(taken)
            if left is not None and len(left) == 0:
                self._status = Status.EXHAUSTED
                break
            standing = self._round.standing(self._context.columns)
            if self._is_over(standing, may_leave_open=not found):
                self._end_round(standing)
                n_silent += 1
                continue
            if self._round.n_to_draw(standing) == 0:
                self._status = Status.WAITING
                break
            if n_silent > MAX_SILENT_ROUNDS:
                row, reason = self._elsewhere(taken), "the distribution draws known points"
            else:
                new, reason = self._draw_slot(taken)
                if new is None:
                    continue
                row = new
            found.append(self._suggest(row, reason))
            taken = np.concatenate([taken, row[None]])
        return found

    def recommend(self) -> Recommendation | None:
        """Choose the best measured feasible trial."""
        return recommend_measured(self._context.columns)

    # ------------------------------------------------------------------ slots

    def _draw_slot(self, taken: Array) -> tuple[Array | None, str]:
        """Draw the next slot; no row if its point is somebody's already."""
        position = len(self._round.slots)
        row = self._row(self._draw(position)[0])
        reason = f"generation {self._n_rounds + 1}, slot {position + 1}"
        known = self._slot_of(row, taken) if self._knows_repeats else None
        if known is not None:
            self._round = self._round.with_slot(known)
            return None, reason
        self._round = self._round.with_slot(of_suggestion(self._n_suggested))
        return row, reason

    def _draw(self, position: int) -> tuple[Array, Array]:
        """Draw slot ``position`` of the generation, the same whenever it is drawn."""
        if self._sampler is None:
            self._sampler = Sampler(self._coordinates, self._distribution)
            self._draws = {}
        if position not in self._draws:
            rng = stream(self._context.seed, NAME, "slot", self._n_rounds, position)
            self._draws[position] = self._sampler.draw(rng)
        return self._draws[position]

    def _slot_of(self, row: Array, taken: Array) -> int | None:
        """Name the trial that has, or had, this point, if there is one."""
        columns, key = self._context.columns, row_keys(row[None])[0]
        for index, other in enumerate(row_keys(taken)):
            if other == key:
                return of_suggestion(self._n_suggested - len(taken) + index)
        numbers = [*columns.pending_numbers, *(int(number) for number in columns.numbers)]
        keys = row_keys(np.concatenate([columns.pending, columns.X]))
        return next((of_trial(n) for n, k in zip(numbers, keys, strict=True) if k == key), None)

    def _suggest(self, row: Array, reason: str) -> Suggestion:
        self._n_suggested += 1
        return Suggestion(self._context.codec.decode(row), Provenance(NAME, reason=reason))

    def _row(self, point: Array) -> Array:
        """Return the canonical row of a point of the distribution."""
        row = np.full(self._context.codec.dim, 0.5)
        row[self._searched] = point
        snapped: Array = self._context.codec.snap(row[None])[0]
        return snapped

    def _elsewhere(self, taken: Array) -> Array:
        """Return a point that nobody has, of a discrete space that has one."""
        left = self._supply.unseen_cells(taken)
        if left is None:
            left = self._supply.take_random(1, f"{NAME} elsewhere", self._n_suggested)
        rng = stream(self._context.seed, NAME, "elsewhere", self._n_suggested)
        cell: Array = left[int(rng.integers(len(left)))]
        return cell

    def _only_point(self, n: int) -> list[Suggestion]:
        """Answer where nothing is searched."""
        rows = self._supply.take_random(n, NAME, self._n_suggested)
        if len(rows) < n:
            self._status = Status.EXHAUSTED
        return [self._suggest(row, "there is one point only") for row in rows]

    # ------------------------------------------------------------------ generations

    def _is_over(self, standing: Standing, *, may_leave_open: bool) -> bool:
        """Whether the generation ends; an ask never gives up what it hands out itself."""
        if self._round.is_complete(standing):
            return True
        if standing.n_lost > MAX_LOST * self._round.size:
            return True
        return (
            may_leave_open
            and self._round.n_to_draw(standing) == 0
            and self._round.has_quorum(standing, self._spec.quorum, least=MIN_RESULTS)
        )

    def _end_round(self, standing: Standing) -> None:
        """Learn from a generation and open the next one."""
        columns = self._context.columns
        order, is_flat = rank(columns, standing.rows)
        if order is None:
            self._distribution = self._shrunk() if len(standing.rows) else self._distribution
        elif len(order) >= MIN_RESULTS:
            draws = [self._draw(standing.measured[index])[1] for index in order]
            self._distribution = update(
                self._coordinates, self._distribution, draws, size=self._round.size
            )
        self._n_flat = self._n_flat + 1 if is_flat else 0
        self._n_rounds += 1
        if self._is_spent():
            self._n_restarts += 1
            self._n_flat = 0
            self._distribution = self._start()
        self._round = Round(self._population())
        self._sampler = None

    def _is_spent(self) -> bool:
        """Whether the distribution has converged, or stands on a plateau."""
        n_patient = 10 + math.ceil(30 * len(self._coordinates) / self._round.size)
        has_real = len(self._coordinates.real) > 0
        return has_converged(self._coordinates, self._distribution) or (
            has_real and self._n_flat > n_patient
        )

    def _shrunk(self) -> Distribution:
        """Return the distribution after a generation of which nothing could be evaluated."""
        old, columns = self._distribution, self._context.columns
        mean, rows = old.mean, eligible_rows(columns)
        if len(rows) > 0:
            best = rows[int(np.argmax(columns.Y[rows, 0]))]
            mean = (1.0 - PULL) * mean + PULL * columns.X[best, self._searched]
        return replace(old, mean=mean, sigma=SHRINK * old.sigma)

    def _population(self) -> int:
        population = self._spec.population
        if population is None:
            population = default_population(max(1, len(self._coordinates)))
        return min(MAX_POPULATION, population << min(self._n_restarts, 12))

    def _start(self) -> Distribution:
        """Return the first distribution: about the default or the centre; later, anywhere."""
        codec, sigma = self._context.codec, self._spec.sigma0
        if self._n_restarts > 0:
            rng = stream(self._context.seed, NAME, "restart", self._n_restarts)
            return Distribution.start(rng.random(len(self._searched)), sigma)
        default = self._context.problem.space.default_point()
        row = np.full(codec.dim, 0.5) if default is None else codec.encode(default)
        return Distribution.start(row[self._searched], sigma)


# ---------------------------------------------------------------------- parts


def searched_columns(context: StrategyContext) -> NDArray[np.int64]:
    """Return the columns with more than one value."""
    columns = context.codec.columns
    return np.array([j for j, each in enumerate(columns) if each.n_levels != 1], dtype=np.int64)


def coordinates_of(context: StrategyContext, searched: NDArray[np.int64]) -> Coordinates:
    """Return what the distribution is over: the searched columns of the unit cube."""
    columns = [context.codec.columns[j] for j in searched]
    bounds = np.empty((len(columns), 2))
    levels = []
    for j, column in enumerate(columns):
        is_real = column.kind is ColumnKind.CONTINUOUS
        levels.append(np.empty(0) if is_real else np.array(column.levels))
        if not is_real:
            bounds[j] = column.levels[0], column.levels[-1]
        elif column.periodic:
            bounds[j] = -np.inf, np.inf
        else:
            bounds[j] = 0.0, 1.0
    return Coordinates(bounds, tuple(levels))


def write_distribution(distribution: Distribution) -> dict[str, Array]:
    """Return the arrays of a distribution; the covariance as its upper triangle."""
    rows, columns = np.triu_indices(len(distribution.mean))
    return {
        "mean": distribution.mean,
        "covariance": distribution.covariance[rows, columns],
        "path_sigma": distribution.path_sigma,
        "path_c": distribution.path_c,
        "margin": distribution.margin,
    }


def read_distribution(state: StrategyState) -> Distribution:
    """Read what ``write_distribution`` returned.

    Raises:
        DataLossError: Something is missing.
    """
    try:
        arrays, scalars = state.arrays, state.scalars
        d = len(arrays["mean"])
        covariance = np.zeros((d, d))
        rows, columns = np.triu_indices(d)
        covariance[rows, columns] = covariance[columns, rows] = arrays["covariance"]
        return Distribution(
            np.array(arrays["mean"]),
            float(scalars["sigma"]),
            covariance,
            np.array(arrays["path_sigma"]),
            np.array(arrays["path_c"]),
            np.array(arrays["margin"]),
            int(scalars["n_updates"]),
        )
    except (KeyError, ValueError) as error:
        raise DataLossError(f"the state of {NAME} is incomplete: {error}") from error
