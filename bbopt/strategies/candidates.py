"""Points to hand out without a model: quasi-random or random, feasible, new where possible.

A space whose every parameter is discrete has finitely many points. Handing one out twice
teaches nothing when metrics are declared free of noise; then ``Supply`` runs dry, and the
strategy is ``EXHAUSTED``. Otherwise points are repeated once all have been seen. Where every
real parameter is conditional, points that have none of them can come twice too: they are
passed over, and never run out.
"""

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.quasirandom import SobolEngine

from bbopt.numerics import stream
from bbopt.problem import MetricKind, Noise, Problem
from bbopt.search.discrete import enumerate_rows, n_configurations
from bbopt.space import has_permanent_real
from bbopt.strategies.strategy import Array, StrategyContext

MAX_CELLS: Final = 20_000
"""Spaces with more points are never enumerated: a search will not run out of them."""
MAX_DRAWS: Final = 1024
"""Raw Sobol points looked at in one call before feasible ones are sampled directly instead."""
BLOCK: Final = 64
"""Points of the sequence drawn at once."""
MAX_REPEATS: Final = 16
"""Batches of points looked at for one that has not been seen, in spaces not enumerated."""


def is_deterministic(problem: Problem) -> bool:
    """Whether measuring the same point twice gives the same result, as declared."""
    return all(
        metric.noise is Noise.NONE
        for metric in problem.metrics
        if metric.kind in (MetricKind.OBJECTIVE, MetricKind.CONSTRAINT)
    )


def row_keys(X: Array) -> list[bytes]:
    """Return a hashable key of each canonical row."""
    return [row.tobytes() for row in np.ascontiguousarray(X, dtype=np.float64)]


def has_row(X: Array, row: Array) -> bool:
    """Whether a canonical row is one of several."""
    return row_keys(row[None])[0] in set(row_keys(X))


class Supply:
    """Feasible points that have not been handed out.

    It holds caches only: every answer is a function of its arguments, the columns and the seed.
    """

    def __init__(self, context: StrategyContext) -> None:
        self._context = context
        size = n_configurations(context.codec)
        self._may_repeat = math.isfinite(size) or not has_permanent_real(
            context.problem.space.parameters
        )
        self._cells = enumerate_rows(context.codec) if size <= MAX_CELLS else None
        self._is_deterministic = is_deterministic(context.problem)
        self._engine: SobolEngine | None = None
        self._block: tuple[int, Array, NDArray[np.bool_]] | None = None

    def nothing(self) -> Array:
        """Return no rows, shape ``(0, D)``."""
        return np.empty((0, self._context.codec.dim))

    def seen(self) -> Array:
        """Return the rows that are evaluated or in somebody's hands, shape ``(n, D)``."""
        columns = self._context.columns
        return np.concatenate([columns.X, columns.pending])

    def unseen_cells(self, taken: Array) -> Array | None:
        """Return what is left of a discrete space; ``None`` where nothing runs out.

        Args:
            taken: Rows that count as seen besides ``seen()``, shape ``(k, D)``.
        """
        if self._cells is None:
            return None
        keys = set(row_keys(np.concatenate([self.seen(), taken])))
        is_new = np.array([key not in keys for key in row_keys(self._cells)], dtype=bool)
        if is_new.any() or self._is_deterministic:
            left: Array = self._cells[is_new]
            return left
        return None

    def is_exhausted(self) -> bool:
        """Whether no point is left that could teach anything."""
        left = self.unseen_cells(self.nothing())
        return left is not None and len(left) == 0

    def take_random(self, n: int, purpose: str, counter: int) -> Array:
        """Draw points uniformly.

        Args:
            n: How many.
            purpose: Names the random stream, together with ``counter``.
            counter: The i-th point is drawn from stream ``(purpose, counter + i)``.

        Returns:
            Canonical feasible rows, shape ``(k, D)``; ``k < n`` when the space ran out.
        """
        taken = self.nothing()
        for index in range(n):
            row = self.draw(taken, purpose, counter + index)
            if row is None:
                break
            taken = np.concatenate([taken, row])
        return taken

    def draw(self, taken: Array, purpose: str, counter: int) -> Array | None:
        """Draw one point uniformly.

        Args:
            taken: Rows that count as seen besides ``seen()``, shape ``(k, D)``.
            purpose: Names the random stream, together with ``counter``.
            counter: Of the stream.

        Returns:
            A canonical feasible row, shape ``(1, D)``, new where possible; ``None`` when the
            space ran out.
        """
        return self._draw(taken, stream(self._context.seed, purpose, counter))

    def take_sobol(
        self, n: int, counter: int, *, taken: Array | None = None
    ) -> tuple[Array, int]:
        """Take the next feasible points of the study's Sobol sequence, in its order.

        Where hardly any point of the sequence is feasible, the rest is sampled uniformly.

        Args:
            n: How many.
            counter: Points of the sequence that have been used up.
            taken: Rows that count as seen besides ``seen()``, shape ``(k, D)``; ``None``: none.

        Returns:
            Canonical feasible rows, shape ``(k, D)``, and the new counter; ``k < n`` when the
            space ran out.
        """
        n_before = 0 if taken is None else len(taken)
        rows = self.nothing() if taken is None else taken
        for _ in range(n):
            row, used = self._next_sobol(counter, rows)
            if row is None:
                row = self._draw(rows, stream(self._context.seed, "sobol", counter))
            if row is None:
                break
            rows = np.concatenate([rows, row])
            counter += used
        return rows[n_before:], counter

    def _draw(self, taken: Array, rng: np.random.Generator) -> Array | None:
        """Draw one row that is new where possible; ``None`` when the space ran out."""
        left = self.unseen_cells(taken)
        if left is not None:
            return left[int(rng.integers(len(left)))][None] if len(left) else None
        row: Array = self._context.codec.sample(rng, 1)
        if self._may_repeat and self._cells is None:
            known = set(row_keys(np.concatenate([self.seen(), taken])))
            for _ in range(MAX_REPEATS):
                if row_keys(row)[0] not in known:
                    break
                row = self._context.codec.sample(rng, 1)
        return row

    def _next_sobol(self, counter: int, taken: Array) -> tuple[Array | None, int]:
        """Return the next feasible new row and how many points it used up, or ``None, 1``."""
        codec = self._context.codec
        left = self.unseen_cells(taken)
        is_over = left is not None and len(left) == 0
        # An equality holds for no point of the sequence.
        has_equality = codec.polytope is not None and len(codec.polytope.e) > 0
        if codec.dim == 0 or is_over or has_equality:
            return None, 1
        known: set[bytes] = set()
        if self._may_repeat and (left is not None or self._cells is None):
            known = set(row_keys(np.concatenate([self.seen(), taken])))
        position = counter
        while position < counter + MAX_DRAWS:
            number, offset = divmod(position, BLOCK)
            block, is_feasible = self._sobol_block(number)
            rows, is_good = block[offset:], is_feasible[offset:]
            if known:
                is_new = np.array([key not in known for key in row_keys(rows)], dtype=bool)
                is_good = is_good & is_new
            hits: NDArray[np.int64] = np.flatnonzero(is_good)
            if len(hits):
                first = int(hits[0])
                return rows[first : first + 1], position + first + 1 - counter
            position += len(rows)
        return None, 1

    def _sobol_block(self, number: int) -> tuple[Array, NDArray[np.bool_]]:
        """Return points ``[number * BLOCK, (number + 1) * BLOCK)`` of the sequence, made
        canonical, and which of them are feasible.
        """
        if self._block is None or self._block[0] != number:
            if self._engine is None:
                seed = int(stream(self._context.seed, "sobol", "scramble").integers(2**31))
                self._engine = SobolEngine(self._context.codec.dim, scramble=True, seed=seed)
            if self._engine.num_generated != number * BLOCK:
                self._engine.reset()
                self._engine.fast_forward(number * BLOCK)
            points = self._engine.draw(BLOCK, dtype=torch.float64).numpy()
            rows = self._context.codec.snap(points)
            self._block = (number, rows, self._context.codec.is_feasible(rows))
        return self._block[1], self._block[2]
