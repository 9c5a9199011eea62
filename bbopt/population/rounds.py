"""Rounds: how many results one update waits for, and what became of the slots drawn for it.

A slot names a trial and nothing else; whether that trial is open, measured or lost is read
from the columns each time. The order of results, repeated results and results that come after
their trial was given up therefore need no rules of their own.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bbopt.trial import Columns
from bbopt.trial.columns import OutcomeCode


def of_suggestion(index: int) -> int:
    """Name the trial of the strategy's own suggestion ``index``, counted from 0."""
    return index


def of_trial(number: int) -> int:
    """Name a trial by its number: a slot whose point somebody has, or had, already."""
    return -number


@dataclass(frozen=True, slots=True)
class Standing:
    """What has become of the slots of a round."""

    measured: tuple[int, ...]
    """Positions of the slots with a result, ascending: neither open nor lost."""
    rows: NDArray[np.int64]
    """The columns' row of each of them."""
    n_open: int
    n_lost: int
    """Slots whose trial failed or was given up: it says nothing about the point."""


@dataclass(frozen=True, slots=True)
class Round:
    """One generation."""

    size: int
    """Results that its update is made for."""
    slots: tuple[int, ...] = ()
    """The trial of each slot in the order of drawing: ``of_suggestion`` or ``of_trial``."""

    def with_slot(self, slot: int) -> "Round":
        """Return the round with one more slot."""
        return replace(self, slots=(*self.slots, slot))

    def standing(self, columns: Columns) -> Standing:
        """Read from the log what became of each slot."""
        measured, rows, n_open = [], [], 0
        for position, slot in enumerate(self.slots):
            number = columns.suggested_number(slot) if slot >= 0 else -slot
            if number is None or columns.is_pending(number):
                n_open += 1
                continue
            row = columns.row_of(number)
            if row is not None and columns.outcome[row] != OutcomeCode.WITHDRAWN:
                measured.append(position)
                rows.append(row)
        n_lost = len(self.slots) - len(measured) - n_open
        return Standing(tuple(measured), np.array(rows, dtype=np.int64), n_open, n_lost)

    def n_to_draw(self, standing: Standing) -> int:
        """Return how many more slots the round needs: a lost one is replaced."""
        return max(0, self.size - len(standing.measured) - standing.n_open)

    def is_complete(self, standing: Standing) -> bool:
        """Whether there are as many results as the update is made for."""
        return len(standing.measured) >= self.size

    def has_quorum(self, standing: Standing, share: float, *, least: int) -> bool:
        """Whether so many results are in that the open slots need not be waited for.

        Args:
            standing: Of this round.
            share: Of the round's size, in ``(0, 1]``.
            least: Results without which no update can be made.
        """
        return len(standing.measured) >= max(least, math.ceil(share * self.size - 1e-9))
