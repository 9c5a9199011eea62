"""How many trials a study has left to give: its budget, and the limits of the service."""

from dataclasses import dataclass

from bbopt.errors import ExhaustedError, LimitError
from bbopt.specs import StudySpec
from bbopt_server.storage.store import StudyRow, Transaction
from bbopt_server.studies.ledger import HELD, OPEN, UNCOUNTED

MAX_OPEN = 1000
"""Trials of one study that may be queued or held at a time."""
MAX_TRIALS = 100_000
"""Trials of one study."""


_SPENDING = (*OPEN, *UNCOUNTED)
"""States of the trials that are not counted but subtracted."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many trials a study has left to give."""

    n_open: int
    n_queued: int
    n_hand_out: int
    """Trials, queued or new, that may be handed out now."""
    n_new: int
    """Trials that may be created now."""

    def n_fresh(self, count: int) -> int:
        """Count the new trials that an ask for ``count`` needs beside those that wait."""
        n_waiting = min(self.n_queued, self.n_hand_out)
        return max(0, min(count - n_waiting, self.n_new))


def room_of(tx: Transaction, row: StudyRow, spec: StudySpec) -> Room:
    """Count what a study may still hand out: never more than its budget has open.

    Finished trials are many, so they are not counted but subtracted.
    """
    has_budget = spec.problem.budget.trials is not None
    counts = tx.count_trials(row.key, states=_SPENDING if has_budget else OPEN)
    n_queued = counts.get("QUEUED", 0)
    n_held = sum(counts.get(state, 0) for state in HELD)
    n_open = n_queued + n_held
    n_new = min(MAX_OPEN - n_open, MAX_TRIALS - row.n_trials)
    n_hand_out = MAX_OPEN
    if spec.problem.budget.trials is not None:
        n_left = spec.problem.budget.trials - (row.n_trials - sum(counts.values()))
        n_new = min(n_new, n_left - n_open)
        n_hand_out = n_left - n_held
    return Room(n_open, n_queued, max(0, n_hand_out), max(0, n_new))


def check_limits(row: StudyRow, room: Room) -> None:
    """Refuse to create one more trial in a study that is full.

    Raises:
        LimitError: It has all the trials that it can have.
        ExhaustedError: It has too many unfinished ones.
    """
    if row.n_trials >= MAX_TRIALS:
        raise LimitError(
            f"study {row.study_id} has {MAX_TRIALS} trials, the most that it can have"
        )
    if room.n_open >= MAX_OPEN:
        raise ExhaustedError(
            f"study {row.study_id} has {MAX_OPEN} unfinished trials, the most that it can have",
            retry_after_s=60.0,  # Clients report it rather than wait so long.
        )
