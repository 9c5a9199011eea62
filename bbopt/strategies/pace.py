"""How much of an ask fits into the time that is left.

Only an ask with a deadline looks here, and whatever it leaves out is recorded in the
provenance; an ask without one never depends on how fast the machine is.
"""

import enum
from dataclasses import dataclass
from typing import Final

MAX_EXACT: Final = 1000
"""Observations that a model takes in full; a fit there takes about a second."""
MARGIN: Final = 1.5
"""Time left over expected time at which a plan is accepted; machines are busy sometimes."""
UNKNOWN: Final = 3.0
"""Times the cost model that a part is expected to take before it was measured."""
SMOOTHING: Final = 0.5
DOUBT: Final = 0.7
"""What an ask without a model leaves of an expectation, down to ``LEAST_DOUBTED``: it measures
nothing, and so would be followed by others for ever."""
LEAST_DOUBTED: Final = 0.3
SHORT_SHARE: Final = 0.5
"""Of a search, what a short one takes."""
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
    They belong to a study, not to its strategy, which is made anew whenever an answer is not
    stored; they are no part of its state, because they depend on the machine.
    """

    fit_factor: float = UNKNOWN
    search_factor: float = UNKNOWN

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
        if time_left_s >= MARGIN * SHORT_SHARE * search:
            return Effort.SHORT
        self.search_factor = max(
            min(LEAST_DOUBTED, self.search_factor), DOUBT * self.search_factor
        )
        return Effort.NONE

    def forget(self) -> None:
        """Begin anew, on another device."""
        self.fit_factor = self.search_factor = UNKNOWN

    def learn(
        self, *, n: int, n_rows: int, n_models: int, fit_s: float | None, search_s: float
    ) -> None:
        """Take in how long an ask took; a short one has no ``fit_s``."""
        share = 1.0
        if fit_s is None:
            share = SHORT_SHARE
        else:
            fit = fit_s / nominal_fit_s(n_rows, n_models)
            self.fit_factor += SMOOTHING * (fit - self.fit_factor)
        search = search_s / (share * n * nominal_search_s(n_rows, n_models))
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
