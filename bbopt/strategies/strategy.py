"""``Strategy``: what every method looks like, with a model or without.

A strategy reads the study's columns (shared, grown by whoever folds the log) and keeps as its
own only a small ``StrategyState``. Rules that the contract suite (``bbopt.testing``) checks:

- ``ask`` is a pure function of (settings, seed, state, columns, log); the clock matters only
  through ``time_left_s``, and an answer that it changed says so (``degraded_from``).
- The i-th point of an ask does not depend on how many are asked for.
- Only ``ask`` and ``tell`` change the state; ``predict`` and ``recommend`` never do.
- Fewer points than asked for are not an error: ``status()`` then says ``WAITING`` (results are
  needed first) or ``EXHAUSTED`` (every point of a discrete space has been taken).
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bbopt.problem import Problem
from bbopt.space import Codec
from bbopt.specs import Capabilities
from bbopt.strategies.pace import Pace
from bbopt.trial import Columns, Log, StrategyState, Suggestion

Array: TypeAlias = NDArray[np.float64]


class Status(enum.Enum):
    """What a strategy could do at its last ask."""

    RUNNING = "running"
    WAITING = "waiting"
    """It needs results before it can suggest more."""
    EXHAUSTED = "exhausted"
    """There is no point left that could teach anything."""


@dataclass(frozen=True, slots=True)
class StrategyContext:
    """What a builder gets: everything about the study that is not the strategy's own."""

    problem: Problem
    codec: Codec
    columns: Columns
    """Shared and growing; a strategy reads it and never writes."""
    seed: int
    device: str = "cpu"
    log: Log = field(default_factory=Log)
    """What the columns are folded from, for strategies that learn from more than results:
    reports, stages. Shared and growing like the columns; read only.
    """
    pace: Pace = field(default_factory=Pace, compare=False)
    """How long asks take here; only those with a deadline look at it."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The evaluated trial to deploy."""

    number: int
    reason: str
    """How it was chosen."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation of one metric at n points, in the metric's own unit."""

    mean: Array
    sd: Array


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model expects at n points."""

    metrics: Mapping[str, Moments] = field(default_factory=dict)
    """By metric name: the objective and every constraint that has been measured."""
    probability_feasible: Array = field(default_factory=lambda: np.empty(0))
    """Probability that every metric constraint holds and the trial does not crash, ``(n,)``."""


class Strategy(Protocol):
    """Ask, tell, and a small state in between."""

    capabilities: ClassVar[Capabilities]

    @property
    def n_told(self) -> int:
        """Rows of the columns that this strategy has been told (part of the state)."""
        ...

    def ask(self, n: int, *, time_left_s: float | None = None) -> list[Suggestion]:
        """Suggest up to ``n`` points, in user units.

        Args:
            n: How many, at least 1.
            time_left_s: Seconds until the caller gives up; ``None`` for no deadline.

        Returns:
            At most ``n`` suggestions, different from each other where the space allows it;
            ``status()`` explains a shorter list.
        """
        ...

    def tell(self, rows: range) -> None:
        """Learn rows of the columns that came from this strategy's own suggestions."""
        ...

    def inject(self, rows: range) -> None:
        """Learn rows of the columns that somebody else proposed (a person, a fallback)."""
        ...

    def recommend(self) -> Recommendation | None:
        """Choose the trial to deploy; ``None`` while nothing feasible has been measured."""
        ...

    def predict(self, X: Array) -> Predictions:
        """Predict the metrics at canonical rows of the unit cube, shape ``(n, D)``.

        Raises:
            UnsupportedError: The strategy has no model.
            PreconditionError: There are too few results for a model yet.
        """
        ...

    def status(self) -> Status:
        """Say what the last ask could do."""
        ...

    def state(self) -> StrategyState:
        """Return everything from which a builder makes this strategy again."""
        ...


class Series(Strategy, Protocol):
    """A strategy that ``ignores_results``."""

    def states(self) -> list[StrategyState]:
        """Return the state after each point of the last ask: any first few of them may be
        committed, and the rest later.
        """
        ...


Builder: TypeAlias = Callable[[StrategyContext, Any, StrategyState | None], Strategy]
"""Makes a strategy from its context, its settings and a state (``None``: from the start)."""
