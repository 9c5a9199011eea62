"""When a worker should give up: the program fails, and running it more only burns points."""

import threading
from dataclasses import dataclass

EARLY_S = 60.0
MOST_EARLY_FAILURES = 3
MOST_FAILURES_WITHOUT_SUCCESS = 5


@dataclass(frozen=True, slots=True)
class Tally:
    """How the trials of a worker ended."""

    n_succeeded: int = 0
    """Completed, stopped or infeasible: the program worked."""
    n_failed: int = 0

    def verdict(self, elapsed_s: float) -> str:
        """Say why to give up, or nothing.

        Three failures in the worker's first minute, when they are the rule rather than the
        exception, or five failures without a single success.

        Args:
            elapsed_s: Since the worker started.
        """
        if (
            elapsed_s <= EARLY_S
            and self.n_failed >= MOST_EARLY_FAILURES
            and self.n_failed > self.n_succeeded
        ):
            return f"{self.n_failed} failures in the first {elapsed_s:.0f} s"
        if self.n_succeeded == 0 and self.n_failed >= MOST_FAILURES_WITHOUT_SUCCESS:
            return f"{self.n_failed} failures and no success"
        return ""


class Tickets:
    """How many more trials a worker may take; shared by its slots."""

    def __init__(self, count: int | None) -> None:
        """Start full.

        Args:
            count: Trials to take; ``None`` for no limit.
        """
        self._left = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one; ``False`` when none is left."""
        with self._lock:
            if self._left is None:
                return True
            if self._left == 0:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """Return one whose trial was not evaluated."""
        with self._lock:
            if self._left is not None:
                self._left += 1
