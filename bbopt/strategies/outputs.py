"""What is modelled: the objective, every bound of every constraint, and crashes."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from bbopt.problem import Noise, Problem
from bbopt.strategies.strategy import Array, Moments
from bbopt.trial import Columns

SUCCESS: Final = "success"


@dataclass(frozen=True, slots=True)
class Output:
    """One modelled quantity; the user's metric is ``sign * value + offset``."""

    name: str
    column: int
    """Column of ``Columns.Y``; -1 for the label that says whether a trial worked."""
    metric: str
    """Name of the user's metric; empty for the label."""
    sign: float
    offset: float
    noise: Noise

    @property
    def is_objective(self) -> bool:
        """Whether this is what is maximised."""
        return self.column == 0

    @property
    def is_label(self) -> bool:
        """Whether this is the label of crashes."""
        return self.column < 0

    def moments(self, mean: Array, sd: Array) -> Moments:
        """Return moments in the metric's own unit."""
        return Moments(self.sign * mean + self.offset, sd)


def outputs_of(problem: Problem, columns: Columns) -> tuple[Output, ...]:
    """List what is modelled, in the order of the columns; the label comes last."""
    found = [
        Output(
            f"constraint{column}" if column else "objective",
            column,
            each.metric,
            each.sign,
            # A column is sign * metric + offset, and the sign is its own inverse.
            -each.sign * each.offset,
            problem.metric(each.metric).noise,
        )
        for column, each in enumerate(columns.outputs)
    ]
    return (*found, Output(SUCCESS, -1, "", 1.0, 0.0, Noise.LEARNED))


def finite(moments: Moments) -> bool:
    """Whether every mean and deviation is a finite number."""
    return bool(np.isfinite(moments.mean).all() and np.isfinite(moments.sd).all())
