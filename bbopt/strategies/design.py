"""Strategies that never look at results: uniform random points and a Sobol sequence.

They are the baselines that every other method must beat, the start of every model, and what
remains when a model cannot answer.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bbopt.specs import CAPABILITIES, Capabilities, RandomSpec, SobolSpec
from bbopt.strategies.candidates import Supply
from bbopt.strategies.recommendation import recommend_measured
from bbopt.strategies.row_counter import RowCounter
from bbopt.strategies.saved import read_scalars
from bbopt.strategies.strategy import (
    Array,
    Recommendation,
    Status,
    StrategyContext,
)
from bbopt.trial import Provenance, StrategyState, Suggestion


class _ModelFree(RowCounter, ABC):
    """What the two have in common: one counter, and nothing learned."""

    def __init__(self, context: StrategyContext, state: StrategyState | None) -> None:
        scalars = read_scalars(state, self.name)
        super().__init__(scalars)
        self._context = context
        self._supply = Supply(context)
        self._counter = int(scalars.get("counter", 0))
        self._counters: list[int] = []
        """After each point of the last ask."""

    def ask(self, n: int, *, time_left_s: float | None = None) -> list[Suggestion]:
        """Suggest the next ``n`` points; always fast enough for any deadline."""
        del time_left_s
        rows, self._counters = self._take(n, self._counter)
        if self._counters:
            self._counter = self._counters[-1]
        self._status = Status.RUNNING if len(rows) == n else Status.EXHAUSTED
        return suggestions(self._context, rows, self.name)

    @abstractmethod
    def _take(self, n: int, counter: int) -> tuple[Array, list[int]]:
        """Return the next rows, and the counter after each."""

    def recommend(self) -> Recommendation | None:
        """Choose the best measured feasible trial."""
        return recommend_measured(self._context.columns)

    def state(self) -> StrategyState:
        """Return the counters."""
        return self._state(self._counter)

    def states(self) -> list[StrategyState]:
        """Return the state after each point of the last ask."""
        return [self._state(counter) for counter in self._counters]

    def _state(self, counter: int) -> StrategyState:
        return StrategyState(self.name, 1, {"counter": counter, "n_told": self._n_told}, {})


class RandomSearch(_ModelFree):
    """Independent uniform points of the feasible set."""

    name = "random"
    capabilities: ClassVar[Capabilities] = CAPABILITIES[RandomSpec]

    def __init__(
        self, context: StrategyContext, spec: RandomSpec, state: StrategyState | None
    ) -> None:
        del spec
        super().__init__(context, state)

    def _take(self, n: int, counter: int) -> tuple[Array, list[int]]:
        rows = self._supply.take_random(n, "random", counter)
        return rows, [counter + 1 + i for i in range(len(rows))]


class SobolSearch(_ModelFree):
    """The feasible points of a scrambled Sobol sequence, in order."""

    name = "sobol"
    capabilities: ClassVar[Capabilities] = CAPABILITIES[SobolSpec]

    def __init__(
        self, context: StrategyContext, spec: SobolSpec, state: StrategyState | None
    ) -> None:
        del spec
        super().__init__(context, state)

    def _take(self, n: int, counter: int) -> tuple[Array, list[int]]:
        rows, counters = self._supply.nothing(), []
        for _ in range(n):
            row, counter = self._supply.take_sobol(1, counter, taken=rows)
            if len(row) == 0:
                break
            rows = np.concatenate([rows, row])
            counters.append(counter)
        return rows, counters


def suggestions(
    context: StrategyContext, rows: Array | Sequence[Array], generator: str, *, reason: str = ""
) -> list[Suggestion]:
    """Turn canonical rows into suggestions in user units."""
    points = context.codec.decode_all(np.asarray(rows).reshape(len(rows), context.codec.dim))
    return [Suggestion(point, Provenance(generator, reason=reason)) for point in points]
