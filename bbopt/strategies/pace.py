"""How much of an ask fits into the time that is left.

Only an ask with a deadline looks here, and whatever it leaves out is recorded in the
provenance; an ask without one never depends on how fast the machine is.
"""

import enum
from dataclasses import dataclass
from typing import Final

from bbopt.strategies.gp_rows import MAX_EXACT

MARGIN: Final = 1.5
"""Time left over expected time at which a plan is accepted; machines are busy sometimes."""
SMOOTHING: Final = 0.5
BEYOND_S: Final = 1e-6
"""Seconds for each observation, whether a model stands on it or not."""


class Effort(enum.Enum):
    """What an ask does."""

    FULL = "full"
    SHORT = "short"
    """No refit, and a short search."""
    NONE = "none"
    """No model."""


@dataclass(slots=True)
class Pace:
    """Seconds that parts of an ask took, from measurements where there are some.

    Both numbers are relative to a rough cost model, so that they carry over as the data grow.
    """

    fit_factor: float = 3.0
    search_factor: float = 3.0

    def effort(
        self, *, n: int, n_rows: int, n_models: int, time_left_s: float | None
    ) -> Effort:
        """Choose what to do.

        Args:
            n: Points wanted.
            n_rows: Observations.
            n_models: Models to fit and to search with.
            time_left_s: Seconds; ``None`` for no deadline.
        """
        if time_left_s is None:
            return Effort.FULL
        fit = self.fit_factor * nominal_fit_s(n_rows, n_models)
        search = self.search_factor * n * nominal_search_s(n_rows, n_models)
        if time_left_s >= MARGIN * (fit + search):
            return Effort.FULL
        return Effort.SHORT if time_left_s >= MARGIN * 0.5 * search else Effort.NONE

    def learn(
        self, *, n: int, n_rows: int, n_models: int, fit_s: float, search_s: float
    ) -> None:
        """Take in how long a full ask took."""
        fit = fit_s / nominal_fit_s(n_rows, n_models)
        search = search_s / (n * nominal_search_s(n_rows, n_models))
        self.fit_factor += SMOOTHING * (fit - self.fit_factor)
        self.search_factor += SMOOTHING * (search - self.search_factor)


def nominal_fit_s(n_rows: int, n_models: int) -> float:
    """Return roughly how long refits take on one core, in seconds."""
    return n_models * (5e-3 + 6e-7 * _n_exact(n_rows) ** 2 + BEYOND_S * n_rows)


def nominal_search_s(n_rows: int, n_models: int) -> float:
    """Return roughly how long the search for one point takes on one core, in seconds."""
    return n_models * (8e-3 + 3e-7 * _n_exact(n_rows) ** 2 + BEYOND_S * n_rows)


def _n_exact(n_rows: int) -> int:
    """Return how many rows a model stands on: those of a large study are chosen."""
    return min(n_rows, MAX_EXACT)
